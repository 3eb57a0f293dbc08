//! Where this client's examples come from.

use crate::exit::{Exit, Failure};
use std::{convert::Infallible, path::PathBuf, str::FromStr};
use testudo_simulator::data::{
    Dataset, Partition, Split,
    csv::{self, LabelColumn, Options},
    digits,
};

/// Shares and the held-out part follow from this, so that all clients of a task divide the same way.
const SEED: u64 = 0;

/// A set of examples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// The embedded digits, without the 360 that are for testing.
    Digits,
    /// A CSV file.
    Csv(PathBuf),
}

impl FromStr for Source {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "digits" => Self::Digits,
            path => Self::Csv(path.into()),
        })
    }
}

impl Source {
    /// Share `index` of `clients`.
    ///
    /// # Errors
    /// A file that cannot be read, a share that is not there.
    pub(super) fn share(&self, label: Option<&str>, scale: f32, clients: u32, index: u32) -> Result<Dataset, Failure> {
        let usage = |why: String, next: &str| Failure::new(Exit::Usage, "cannot divide the data", why).next(next);
        if index >= clients {
            let why = format!("--index {index} of --clients {clients}");
            return Err(usage(why, &format!("shares count from 0 to {}", clients - 1)));
        }
        let all = self.load(label, scale)?;
        let shares = Partition::Iid {}
            .divide(&all, clients as usize, SEED)
            .map_err(|error| usage(error.to_string(), "give fewer --clients"))?;
        Ok(all.subset(&shares[index as usize]))
    }

    fn load(&self, label: Option<&str>, scale: f32) -> Result<Dataset, Failure> {
        let path = match self {
            Self::Csv(path) => path,
            Self::Digits => {
                if label.is_some() || scale != 1.0 {
                    let why = "--label and --scale have no effect on the embedded digits";
                    return Err(Failure::new(Exit::Usage, "cannot load the data", why).next("give --data FILE.csv"));
                }
                let digits = digits::load();
                let split = Split::stratified(&digits, digits::TEST_EXAMPLES, SEED)
                    .map_err(|error| Failure::new(Exit::Internal, "cannot split the digits", error.to_string()))?;
                return Ok(split.apply(&digits).0);
            }
        };
        if !(scale.is_finite() && scale != 0.0) {
            let why = format!("--scale {scale} is not a factor");
            return Err(Failure::new(Exit::Usage, "cannot load the data", why).next("write for example 0.0625"));
        }
        let label = label.map_or(LabelColumn::Last, |label| LabelColumn::Named(label.into()));
        csv::load(path, &Options { label, scale, ..Options::default() }).map_err(|error| {
            let missing = !path.exists();
            let exit = if missing { Exit::NotFound } else { Exit::Usage };
            Failure::new(exit, format!("cannot load {}", path.display()), crate::exit::chain(&error))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_disjoint_and_together_everything_but_the_test_part() {
        let all: usize = (0..7).map(|index| Source::Digits.share(None, 1.0, 7, index).unwrap().len()).sum();
        assert_eq!(all, 1437);
        let (one, two) =
            (Source::Digits.share(None, 1.0, 7, 0).unwrap(), Source::Digits.share(None, 1.0, 7, 1).unwrap());
        assert_ne!(one.digest(), two.digest());
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_fix() {
        let digits = Source::Digits;
        for (failure, exit, part) in [
            (digits.share(None, 1.0, 3, 3), Exit::Usage, "from 0 to 2"),
            (digits.share(None, 1.0, 5000, 0), Exit::Usage, "fewer --clients"),
            (digits.share(Some("x"), 1.0, 1, 0), Exit::Usage, "--data FILE.csv"),
            (Source::Csv("/no/such.csv".into()).share(None, 1.0, 1, 0), Exit::NotFound, "/no/such.csv"),
            (Source::Csv("/no/such.csv".into()).share(None, f32::NAN, 1, 0), Exit::Usage, "--scale"),
        ] {
            let failure = failure.unwrap_err();
            assert_eq!(failure.exit, exit);
            assert!(failure.text().contains(part), "{}", failure.text());
        }
    }
}
