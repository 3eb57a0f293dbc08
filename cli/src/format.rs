//! How things read: clean text, sizes, times, tables.

use std::fmt::Write as _;

/// Columns of a line for people.
const WIDTH: usize = 100;

/// A sentence in lines of at most 100 columns.
pub(crate) fn wrapped(text: &str) -> String {
    textwrap::fill(&clean(text), WIDTH)
}

/// The same, four columns in.
pub(crate) fn indented(text: &str) -> String {
    let options = textwrap::Options::new(WIDTH).initial_indent("    ").subsequent_indent("    ");
    textwrap::fill(&clean(text), options)
}

/// Width of the column of topics.
const TOPIC: usize = 14;

/// A text as it may reach a terminal or a log: no control characters, no line breaks, nothing that turns the reading
/// direction or hides characters.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|letter| if is_unsafe(letter) { '\u{fffd}' } else { letter }).collect()
}

/// `topic: sentence` lines in two columns, clean and wrapped, with room for an indent of four. A line without a topic
/// stays in the second column.
pub(crate) fn topics(lines: &[String]) -> Vec<String> {
    let indent = " ".repeat(TOPIC);
    let line = |line: &String| {
        let text = match clean(line).split_once(": ") {
            Some((topic, sentence)) if topic.chars().count() < TOPIC => format!("{topic:<TOPIC$}{sentence}"),
            _ => format!("{indent}{}", clean(line)),
        };
        let options = textwrap::Options::new(WIDTH - 4).subsequent_indent(&indent);
        textwrap::wrap(&text, options).into_iter().map(String::from).collect::<Vec<_>>()
    };
    lines.iter().flat_map(line).collect()
}

/// Several lines, each clean; tabs stay.
pub(crate) fn clean_lines(text: &str) -> String {
    text.lines().map(|line| clean(&line.replace('\t', "    "))).collect::<Vec<_>>().join("\n")
}

/// Characters that steer a terminal or deceive its reader.
pub(crate) fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// `1.5 MiB`.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn bytes(count: u64) -> String {
    const NAMES: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let power = (count.ilog2() / 10).min(5);
    let value = count as f64 / 1024f64.powi(power as i32);
    format!("{value:.*} {}", if value < 10.0 { 1 } else { 0 }, NAMES[power as usize - 1])
}

/// Digits in groups of three: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 client`, `2 clients`.
pub(crate) fn plural(number: u64, word: &str) -> String {
    if number == 1 { format!("1 {word}") } else { format!("{} {word}s", count(number)) }
}

/// Milliseconds since the Unix epoch as UTC: `2026-03-01 12:00:05Z`; 0 is a dash.
pub(crate) fn time(milliseconds: u64) -> String {
    // Beyond the year 9999 it is no time of ours.
    if milliseconds == 0 || milliseconds > 253_402_300_799_000 {
        return "-".into();
    }
    let seconds = milliseconds / 1000;
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// Days since 1970-01-01 as year, month, day of the Gregorian calendar. Years are counted from March, so that the day
/// that may be missing is the last one.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Time between two moments in milliseconds: `850 ms`, `4.2 s`, `12 min`, `3.1 h`, `2.0 d`.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn span(from_ms: u64, to_ms: u64) -> String {
    let seconds = to_ms.saturating_sub(from_ms) as f64 / 1000.0;
    match seconds {
        s if s < 1.0 => format!("{:.0} ms", s * 1000.0),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}

/// A number of the rule or of a norm: at most five significant digits.
pub(crate) fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if !value.is_finite() || value.abs() >= 1e6 || value.abs() < 1e-3 {
        return format!("{value:.3e}");
    }
    let digits = (4 - value.abs().log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

/// What a number that may be absent reads as.
pub(crate) fn maybe(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), number)
}

/// A public key of 32 bytes in hexadecimal digits; `None` for anything else.
pub(crate) fn key(bytes: &[u8]) -> Option<String> {
    (bytes.len() == 32).then(|| hex::encode(bytes))
}

/// What a cell means; the terminal may show it in colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Warning,
    /// Refused or broken.
    Bad,
    /// A heading.
    Heading,
}

impl Tone {
    /// The tone of a round's, task's or verdict's word.
    pub(crate) fn of_word(word: &str) -> Self {
        match word {
            "accepted" | "released" | "finished" | "running" | "ok" => Self::Good,
            "clipped" | "trimmed" | "dropout" | "pending" | "paused" | "abandoned" | "warning" => Self::Warning,
            "rejected" | "failed" | "stopped" => Self::Bad,
            _ => Self::Plain,
        }
    }

    /// The text in this tone, if colours are wanted.
    pub(crate) fn paint(self, text: &str, colour: bool) -> String {
        let code = match self {
            _ if !colour => return text.to_string(),
            Self::Plain => return text.to_string(),
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "31",
            Self::Heading => "1",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Columns wide enough for their cells. Cells are cleaned on the way in.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<(String, Tone)>>,
    right: Vec<bool>,
}

impl Table {
    /// A table with these headings; those that begin with `>` are of columns aligned to the right.
    pub(crate) fn new(headings: &[&str]) -> Self {
        let right = headings.iter().map(|heading| heading.starts_with('>')).collect();
        let first =
            headings.iter().map(|heading| (heading.trim_start_matches('>').to_string(), Tone::Heading)).collect();
        Self { rows: vec![first], right }
    }

    /// Adds a row of plain cells, of which one may have a tone by its word.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter().map(|cell| {
            let cell = clean(&cell);
            let tone = Tone::of_word(cell.split([':', ' ']).next().unwrap_or_default());
            (cell, tone)
        });
        self.rows.push(cells.collect());
    }

    /// The lines, without a line break at the end.
    pub(crate) fn text(&self, colour: bool) -> String {
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|(cell, _)| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            let mut line = String::new();
            for (column, (cell, tone)) in row.iter().enumerate() {
                let gap = " ".repeat(widths[column] - cell.chars().count());
                let painted = tone.paint(cell, colour);
                let before = if column == 0 { "" } else { "  " };
                let _ = match self.right[column] {
                    true => write!(line, "{before}{gap}{painted}"),
                    false => write!(line, "{before}{painted}{gap}"),
                };
            }
            text.push_str(line.trim_end());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_hidden_characters_are_replaced() {
        let hostile = "a\u{1b}[31mb\r\nc\u{9b}2Jd\u{202e}e\u{200b}f\u{7}";
        let safe = clean(hostile);
        assert!(safe.chars().all(|letter| !is_unsafe(letter)), "{safe:?}");
        assert_eq!(safe.chars().filter(char::is_ascii_alphanumeric).collect::<String>(), "a31mbc2Jdef");
        assert_eq!(clean("größe 3 µs"), "größe 3 µs");
        assert_eq!(clean_lines("a\n\tb\r\n"), "a\n    b");
    }

    #[test]
    fn sizes_counts_and_spans_read_well() {
        assert_eq!(
            [0, 1023, 1024, 1536, 20 << 20, 4 << 30].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "20 MiB", "4.0 GiB"]
        );
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [(0, 850), (0, 4200), (0, 720_000), (5, 2)].map(|(a, b)| span(a, b)),
            ["850 ms", "4.2 s", "12 min", "0 ms"]
        );
        assert_eq!([plural(1, "client"), plural(2, "client")], ["1 client", "2 clients"]);
        assert_eq!(
            [0.0, 0.25, 123.456_789, 1e9, 1e-9, f64::NAN].map(number),
            ["0", "0.25", "123.46", "1.000e9", "1.000e-9", "NaN"]
        );
    }

    #[test]
    fn times_are_utc_and_leap_days_exist() {
        for (seconds, text) in [
            (951_782_400, "2000-02-29 00:00:00Z"),
            (1_709_164_800, "2024-02-29 00:00:00Z"),
            (1_709_251_199, "2024-02-29 23:59:59Z"),
            (4_107_542_400, "2100-03-01 00:00:00Z"),
            (86_399, "1970-01-01 23:59:59Z"),
        ] {
            assert_eq!(time(seconds * 1000), text);
        }
        assert_eq!((time(0), time(u64::MAX)), ("-".into(), "-".into()));
    }

    #[test]
    fn columns_line_up_with_and_without_colour() {
        let mut table = Table::new(&["client", "verdict", ">norm"]);
        table.row(["a".into(), "accepted".into(), "1.5".into()]);
        table.row(["longer-name".into(), "rejected: late".into(), "12".into()]);
        assert_eq!(
            table.text(false),
            "client       verdict         norm\na            accepted         1.5\nlonger-name  rejected: late    12"
        );
        let coloured = table.text(true);
        assert!(coloured.contains("\u{1b}[31mrejected: late\u{1b}[0m"), "{coloured:?}");
        assert!(coloured.contains("\u{1b}[32maccepted\u{1b}[0m"), "{coloured:?}");
    }

    #[test]
    fn a_hostile_cell_cannot_paint_the_terminal() {
        let mut table = Table::new(&["client"]);
        table.row(["\u{1b}]0;title\u{7}x\ny".into()]);
        assert_eq!(table.text(false).lines().count(), 2);
        assert!(!table.text(false).contains('\u{1b}'));
    }
}
