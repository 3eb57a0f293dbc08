//! The options of a load test with masked rounds, and what they mean for the task.

use crate::exit::{Exit, Failure};
use clap::{Args, ValueEnum};
use std::{fmt, time::Duration};
use testudo_engine::Masking;

/// Largest share of clients that vanish.
const MOST_DROPOUT: f64 = 0.9;
/// Largest coordinate of the updates, to which they are clamped when they are quantised.
const KAPPA: f64 = 0.01;
/// Bytes of model, update and masked input that all clients together may hold: they are all in one process.
const MEMORY: u64 = 8 << 30;
/// Copies of an update's size that a client holds at once: the model, the update, and its masked form.
const COPIES: u64 = 3;
/// Longest step a task may have, seconds.
const LONGEST_STEP_S: f64 = 86_400.0;

/// How updates are hidden.
#[derive(Debug, Args)]
#[command(next_help_heading = "Masked rounds")]
pub(super) struct Options {
    /// Whether the server sees single updates
    #[arg(long, value_enum, default_value_t = Kind::None)]
    pub(super) masking: Kind,
    /// Clients whose updates are summed before the server sees anything
    #[arg(long, value_name = "G")]
    group_size: Option<u32>,
    /// Share of the clients that vanish in every round, spread evenly over the steps after the keys. Each step that
    /// somebody vanishes in lasts its full limit: see --step-limit
    #[arg(long, value_name = "SHARE")]
    dropout: Option<f64>,
    /// Bits of a quantised coordinate; 16 unless told
    #[arg(long, value_name = "B")]
    bits: Option<u32>,
    /// L2 norm that updates are clipped to; unless told, longer than any of them
    #[arg(long, value_name = "C")]
    clip_l2: Option<f64>,
    /// Clients of a group that must answer; unless told, two thirds and one
    #[arg(long, value_name = "T")]
    threshold: Option<u32>,
    /// How long each step waits for clients that vanished; unless told, a guess of what this machine needs for all
    /// clients at once (only with --dropout; nobody is waited for otherwise)
    #[arg(long, value_name = "SECONDS")]
    step_limit: Option<f64>,
}

/// Values of `--masking`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// Every update on its own
    None,
    /// Sums of groups: suite pairwise/1
    Pairwise,
}

/// Masked rounds, as asked for and checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Masked {
    pub(super) group_size: usize,
    pub(super) dropout: f64,
    pub(super) threshold: Option<usize>,
    pub(super) bits: u32,
    pub(super) clip_l2: f64,
    pub(super) step_limit: Duration,
}

impl Kind {
    /// The word of `task.toml`.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pairwise => "pairwise",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Options {
    /// Masked rounds of `clients` clients with updates of `dimension` coordinates; `None` in clear mode. No step lasts
    /// longer than `timeout`.
    ///
    /// # Errors
    /// Options that cannot be, each with the flag, its value and what to write instead.
    pub(super) fn check(&self, clients: usize, dimension: u64, timeout: Duration) -> Result<Option<Masked>, Failure> {
        if self.masking == Kind::None {
            return self.check_clear().map(|()| None);
        }
        let Some(group_size) = self.group_size else {
            return Err(refused("--masking pairwise sums groups", "add --group-size G, for example --group-size 16"));
        };
        let group_size = group_size as usize;
        if !(2..=clients).contains(&group_size) {
            let why = format!("--group-size {group_size} is not from 2 to --clients {clients}");
            return Err(refused(why, format!("write --group-size {}", clients.clamp(2, 16))));
        }
        let dropout = self.dropout.unwrap_or(0.0);
        if !(0.0..=MOST_DROPOUT).contains(&dropout) {
            let why = format!("--dropout {dropout} is not a share from 0 to {MOST_DROPOUT}");
            return Err(refused(why, "write for example --dropout 0.1"));
        }
        let largest = Masking::largest_group(group_size, clients, clients);
        check_memory(clients, dimension)?;
        Ok(Some(Masked {
            group_size,
            dropout,
            threshold: self.threshold(group_size, largest)?,
            bits: self.bits(largest)?,
            clip_l2: self.clip(dimension)?,
            step_limit: self.step(clients, largest, dimension, dropout, timeout)?,
        }))
    }

    fn check_clear(&self) -> Result<(), Failure> {
        let given = [
            ("--group-size", self.group_size.map(|value| value.to_string())),
            ("--dropout", self.dropout.map(|value| value.to_string())),
            ("--bits", self.bits.map(|value| value.to_string())),
            ("--clip-l2", self.clip_l2.map(|value| value.to_string())),
            ("--threshold", self.threshold.map(|value| value.to_string())),
            ("--step-limit", self.step_limit.map(|value| value.to_string())),
        ];
        let idle = given.into_iter().find_map(|(flag, value)| Some((flag, value?)));
        let Some((flag, value)) = idle else { return Ok(()) };
        let why = format!("{flag} {value} has no effect without masking");
        Err(refused(why, format!("add --masking pairwise, or remove {flag}")))
    }

    fn threshold(&self, group_size: usize, largest: usize) -> Result<Option<usize>, Failure> {
        let Some(threshold) = self.threshold else { return Ok(None) };
        if largest > testudo_engine::COMPLETE_GROUP {
            let why = format!(
                "--threshold {threshold} for groups of up to {largest}: above {} it follows from the assumed colluders \
                 and dropouts",
                testudo_engine::COMPLETE_GROUP
            );
            return Err(refused(why, "remove --threshold, or lower --group-size"));
        }
        let least = 2 * group_size / 3 + 1;
        if !(least..=group_size).contains(&(threshold as usize)) {
            let why = format!("--threshold {threshold} is not from {least} to --group-size {group_size}");
            return Err(refused(why, format!("write --threshold {least}, or remove it")));
        }
        Ok(Some(threshold as usize))
    }

    fn bits(&self, largest: usize) -> Result<u32, Failure> {
        let bits = self.bits.unwrap_or(16);
        let fits = |bits: u32| (largest as u64).saturating_mul((1 << bits) - 1) < 1 << 32;
        if (1..=24).contains(&bits) && fits(bits) {
            return Ok(bits);
        }
        let most = (1..=24).rev().find(|&bits| fits(bits)).unwrap_or(1);
        let why = format!("--bits {bits}: the sum of a group of {largest} must fit 32 bits");
        Err(refused(why, format!("write --bits {most} or less")))
    }

    fn clip(&self, dimension: u64) -> Result<f64, Failure> {
        // No update is longer than one whose every coordinate is the largest.
        let clip = self.clip_l2.unwrap_or(KAPPA * (dimension as f64).sqrt());
        if clip.is_finite() && clip > 0.0 && clip <= 1e30 {
            return Ok(clip);
        }
        Err(refused(format!("--clip-l2 {clip} is not a positive number up to 1e30"), "write for example --clip-l2 1"))
    }

    fn step(
        &self,
        clients: usize,
        largest: usize,
        dimension: u64,
        dropout: f64,
        timeout: Duration,
    ) -> Result<Duration, Failure> {
        let longest = timeout.as_secs_f64().min(LONGEST_STEP_S);
        if let Some(limit) = self.step_limit {
            if (0.05..=LONGEST_STEP_S).contains(&limit) {
                return Ok(Duration::from_secs_f64(limit));
            }
            let why = format!("--step-limit {limit} is not from 0.05 to {LONGEST_STEP_S} seconds");
            return Err(refused(why, "write for example --step-limit 5"));
        }
        // Nobody vanishes: a step ends with its last client.
        let limit = if dropout == 0.0 { longest } else { guess(clients, largest, dimension) };
        Ok(Duration::from_secs_f64(limit.clamp(0.05, longest.max(0.05))))
    }
}

impl Masked {
    /// What the updates' coordinates are clamped to.
    pub(super) fn kappa(&self) -> f64 {
        KAPPA.min(self.clip_l2)
    }
}

/// Seconds that the longest step of all clients takes where they share a machine with the server, with room to spare:
/// their masks, one pass of hashing on both sides and the way through the loopback, and the signatures and agreements of
/// each pair.
fn guess(clients: usize, largest: usize, dimension: u64) -> f64 {
    let (clients, neighbours, coordinates) = (clients as f64, largest as f64, dimension as f64);
    let masks = clients * neighbours * coordinates * 0.4e-9;
    let bytes = clients * coordinates * 4.0 / 100e6;
    let pairs = clients * neighbours * 0.4e-3;
    1.0 + masks + bytes + pairs
}

fn check_memory(clients: usize, dimension: u64) -> Result<(), Failure> {
    let need = COPIES * 4 * dimension * clients as u64;
    if need <= MEMORY {
        return Ok(());
    }
    let most = (MEMORY / (COPIES * 4 * dimension)).max(1);
    let why = format!(
        "--clients {clients} with --dimension {dimension} would hold {} of models, updates and masked inputs at once",
        crate::format::bytes(need)
    );
    Err(refused(why, format!("give at most --clients {most}, or a smaller --dimension; masked clients cannot be lean")))
}

fn refused(why: impl Into<String>, next: impl Into<String>) -> Failure {
    Failure::new(Exit::Usage, "cannot measure", why).next(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(600);

    fn options(group_size: Option<u32>) -> Options {
        Options {
            masking: Kind::Pairwise,
            group_size,
            dropout: None,
            bits: None,
            clip_l2: None,
            threshold: None,
            step_limit: None,
        }
    }

    #[test]
    fn nobody_is_waited_for_unless_somebody_vanishes() {
        let none = options(Some(8)).check(16, 1000, TIMEOUT).unwrap().unwrap();
        assert_eq!(none.step_limit, TIMEOUT);
        let some = Options { dropout: Some(0.1), ..options(Some(8)) }.check(16, 1000, TIMEOUT).unwrap().unwrap();
        assert!(some.step_limit < Duration::from_secs(5), "{some:?}");
        let told = Options { dropout: Some(0.1), step_limit: Some(7.0), ..options(Some(8)) };
        assert_eq!(told.check(16, 1000, TIMEOUT).unwrap().unwrap().step_limit, Duration::from_secs(7));
    }

    #[test]
    fn each_refusal_names_the_flag_its_value_and_the_fix() {
        let base = || options(Some(8));
        for (options, parts) in [
            (options(None), ["--masking pairwise", "--group-size 16"]),
            (options(Some(1)), ["--group-size 1", "--group-size 16"]),
            (options(Some(17)), ["--group-size 17", "--clients 16"]),
            (Options { dropout: Some(0.95), ..base() }, ["--dropout 0.95", "--dropout 0.1"]),
            (Options { threshold: Some(5), ..base() }, ["--threshold 5", "--threshold 6"]),
            (Options { bits: Some(30), ..base() }, ["--bits 30", "--bits 24"]),
            (Options { clip_l2: Some(0.0), ..base() }, ["--clip-l2 0", "--clip-l2 1"]),
            (Options { step_limit: Some(0.0), ..base() }, ["--step-limit 0", "--step-limit 5"]),
            (Options { masking: Kind::None, ..base() }, ["--group-size 8", "--masking pairwise"]),
        ] {
            let text = options.check(16, 1000, TIMEOUT).unwrap_err().text();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
        let text = base().check(10_000, 1_000_000, TIMEOUT).unwrap_err().text();
        assert!(text.contains("--clients 10000") && text.contains("--clients 715"), "{text}");
    }
}
