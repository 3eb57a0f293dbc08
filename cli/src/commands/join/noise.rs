//! What noise this client insists on.

use clap::Args;
use testudo_client::Policy;

/// Options of `testudo join` for private rounds.
#[derive(Debug, Args)]
#[command(next_help_heading = "Private rounds")]
pub(super) struct Demands {
    /// Leave every round in which this client does not noise its own update with a standard deviation of at least X times
    /// the clip (`trust = "local"`). For what X is worth see `testudo privacy epsilon` with half of it
    #[arg(long, value_name = "X", value_parser = multiplier)]
    min_local_noise: Option<f64>,
    /// Leave every round in which the clients' shares of noise would not give a group's sum a standard deviation of at least X
    /// times the clip (`trust = "distributed"`), even if only the threshold survives. With --min-local-noise either will do
    #[arg(long, value_name = "X", value_parser = multiplier)]
    min_shared_noise: Option<f64>,
}

impl Demands {
    /// The policy with what was insisted on.
    pub(super) fn policy(&self, mut policy: Policy) -> Policy {
        if let Some(multiplier) = self.min_local_noise {
            policy = policy.min_local_noise(multiplier);
        }
        if let Some(multiplier) = self.min_shared_noise {
            policy = policy.min_shared_noise(multiplier);
        }
        policy
    }
}

fn multiplier(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "is not a number".to_string())?;
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err("give a positive number, for example 4".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multiplier_is_a_positive_number() {
        assert_eq!(multiplier("2.5"), Ok(2.5));
        for text in ["0", "-1", "NaN", "inf", "much"] {
            assert!(multiplier(text).is_err(), "{text}");
        }
    }
}
