//! Processor time of this process.

use std::{fs, time::Duration};

/// Ticks per second in which Linux tells processor time, whatever its own.
const TICKS: u64 = 100;

/// User and system time since the process began, in steps of 10 ms; `None` where the system does not tell.
pub(super) fn used() -> Option<Duration> {
    parse(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// The command's name, in parentheses, may hold anything; the times are the 12th and 13th field after it.
fn parse(text: &str) -> Option<Duration> {
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()?.checked_add(fields.next()?.parse().ok()?)?;
    Some(Duration::from_millis(ticks.saturating_mul(1000 / TICKS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let text = "12 (a ) (b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 9 0 77 1 2";
        assert_eq!(parse(text), Some(Duration::from_secs(2)));
        assert_eq!(parse("12 (a) S 1"), None);
    }
}
