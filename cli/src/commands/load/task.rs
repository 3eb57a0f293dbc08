//! The task of a load test.

use super::{masking::Masked, rule};
use crate::exit::{Exit, Failure};
use testudo_aggregate::RuleConfig;
use testudo_engine::{TaskSpec, guarantees};
use testudo_protocol::TaskName;

/// Why a load test may run without what masking promises to real updates.
const REASON: &str = "a load test: made-up updates, nothing to protect";

/// What a task is made from.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) name: &'a TaskName,
    pub(super) rounds: u64,
    pub(super) clients: u32,
    pub(super) phase_limit_s: f64,
    pub(super) rule: &'a RuleConfig,
    pub(super) masked: Option<&'a Masked>,
}

/// A description, and what its combination cannot promise.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) toml: String,
    pub(super) weaknesses: Vec<String>,
}

impl Facts<'_> {
    /// Writes the description. A weak guarantee is accepted only where there is one.
    ///
    /// # Errors
    /// A combination of options that no task can have.
    pub(super) fn describe(&self) -> Result<Described, Failure> {
        let plain = self.toml(false)?;
        if self.masked.is_none() || TaskSpec::new(self.name.as_str(), &plain).is_ok() {
            return Ok(Described { toml: plain, weaknesses: Vec::new() });
        }
        let accepting = self.toml(true)?;
        let spec = TaskSpec::new(self.name.as_str(), &accepting).map_err(|error| {
            Failure::new(Exit::Config, "no task can have these options", error.to_string())
                .next("change --clients, --group-size, --dropout or --rule as the fixes above say for their keys")
        })?;
        let weaknesses = guarantees::infeasible(&spec).into_iter().map(|weakness| weakness.what).collect();
        Ok(Described { toml: accepting, weaknesses })
    }

    fn toml(&self, accepts: bool) -> Result<String, Failure> {
        let Self { name, rounds, clients, phase_limit_s, .. } = self;
        let mut text = format!(
            "name = \"{name}\"\nrounds = {rounds}\n\n[model]\ninitial = \"generated\"\n\n[cohort]\nsize = {clients}\n\
             phase_limit_s = {phase_limit_s:.3}\n"
        );
        if let Some(masked) = self.masked {
            // Nobody vanishes before the keys, so a round that lacks someone there is not the one that was asked for.
            text += &format!("minimum = {clients}\n");
            text += &format!(
                "\n[visibility]\nmasking = \"pairwise\"\ngroup_size = {}\nstep_limit_s = {:.3}\ndropout = {}\n",
                masked.group_size,
                masked.step_limit.as_secs_f64(),
                masked.dropout
            );
            if let Some(threshold) = masked.threshold {
                text += &format!("threshold = {threshold}\n");
            }
            if accepts {
                text += &format!("accept_weak_guarantee = \"{REASON}\"\n");
            }
            let (clip, kappa, bits) = (masked.clip_l2, masked.kappa(), masked.bits);
            text += &format!("\n[encoding]\nclip_l2 = {clip:e}\nkappa = {kappa:e}\nbits = {bits}\n");
        }
        text += &format!("\n[examples]\nweighted = false\n\n{}", rule::section(self.rule)?);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn describe(clients: u32, masked: Option<&Masked>) -> Result<Described, Failure> {
        let name = TaskName::new("load").unwrap();
        let rule = RuleConfig::with_byzantine("mean", 0).unwrap();
        Facts { name: &name, rounds: 1, clients, phase_limit_s: 60.0, rule: &rule, masked }.describe()
    }

    fn masked(group_size: usize, dropout: f64) -> Masked {
        let step_limit = Duration::from_secs(5);
        Masked { group_size, dropout, threshold: None, bits: 16, clip_l2: 1.0, step_limit }
    }

    #[test]
    fn a_weak_guarantee_is_accepted_only_where_there_is_one() {
        let strong = describe(64, Some(&masked(32, 0.05))).unwrap();
        assert!(strong.weaknesses.is_empty() && !strong.toml.contains("accept_weak"), "{strong:?}");
        let weak = describe(16, Some(&masked(4, 0.1))).unwrap();
        assert!(!weak.weaknesses.is_empty() && weak.toml.contains("accept_weak"), "{weak:?}");
        let clear = describe(16, None).unwrap();
        assert!(!clear.toml.contains("visibility"), "{clear:?}");
    }

    #[test]
    fn every_description_is_a_task() {
        for masked in [None, Some(masked(8, 0.0)), Some(masked(16, 0.3))] {
            let described = describe(40, masked.as_ref()).unwrap();
            TaskSpec::new("load", &described.toml).unwrap();
        }
    }
}
