//! Privacy budgets as the ledger has them.

use super::TaskState;
use std::{collections::BTreeMap, fmt};
use testudo_privacy::{
    budget::{Charge, ChargeMechanism, Gate, Outcome},
    mechanism::participation::{Participation, ParticipationLimit},
};
use testudo_protocol::{Abandon, ClientId, Reason, TaskName, Tick};
use zeroize::Zeroize as _;

/// What a private task will cost, and whose budget pays.
#[derive(Debug, Clone, PartialEq)]
pub struct PrivacyPlan {
    /// Whose budget: clients that belong to no other population.
    pub population: String,
    /// The population's limit.
    pub epsilon: f64,
    /// At this δ.
    pub delta: f64,
    /// What one release costs.
    pub charge: Charge,
    /// What the population's account adds up if it is made for this task.
    pub gate: Gate,
    /// How many such charges at most: releases, or 1 for the whole of a correlated run.
    pub releases: u32,
    /// How often and how far apart one client takes part, where the noise is correlated.
    pub limit: Option<ParticipationLimit>,
}

/// What draws the noise of a step of a correlated run.
#[derive(Clone, PartialEq, Eq)]
pub struct RunNoise {
    /// The run's.
    pub seed: [u8; 32],
    /// What the steps 1, 2, … up to this one summed.
    pub manifests: Vec<[u8; 32]>,
}

impl fmt::Debug for RunNoise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunNoise").field("steps", &self.manifests.len()).finish_non_exhaustive()
    }
}

impl Drop for RunNoise {
    fn drop(&mut self) {
        self.seed.zeroize();
    }
}

/// Who took part in a correlated run.
#[derive(Debug, Clone, PartialEq)]
pub struct Participations {
    /// What the noise was sized for.
    pub limit: ParticipationLimit,
    /// The next step, counted from 1.
    pub step: u64,
    /// Everybody who took part so far.
    pub clients: BTreeMap<ClientId, Participation>,
}

/// A population's budget.
#[derive(Debug, Clone, PartialEq)]
pub struct AccountRow {
    /// Whose.
    pub population: String,
    /// What is added up.
    pub gate: Gate,
    /// The limit of ε.
    pub epsilon: f64,
    /// At this δ.
    pub delta: f64,
    /// The limit in units of 2⁻⁴⁰ of what the gate adds up.
    pub limit: i64,
    /// Units spent.
    pub spent: i64,
    /// Units reserved by open rounds.
    pub reserved: i64,
    /// Units that tasks planned and did not reserve yet.
    pub planned: i64,
    /// ε of what is spent, rounded up.
    pub spent_epsilon: f64,
    /// ε once everything reserved and planned is spent too, rounded up.
    pub promised_epsilon: f64,
    /// Number and hash of the newest entry.
    pub head: Option<(u64, [u8; 32])>,
    /// Its tasks, oldest first.
    pub plans: Vec<PlanRow>,
    /// When it was made.
    pub created_at: Tick,
}

/// One task's part of a budget.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanRow {
    /// Which task.
    pub task: TaskName,
    /// Where the task stands.
    pub state: TaskState,
    /// The L2 norm that updates are clipped to, where the text of the task says so.
    pub clip: Option<f64>,
    /// Grid steps within the clip, as a power of two, where the text of the task says so.
    pub grid_bits: Option<u32>,
    /// Whether the clip follows the updates' norms: `clip` is then where it starts.
    pub adaptive_clip: bool,
    /// `privacy.mechanism` in the text of the task; empty where it does not say.
    pub mechanism: String,
    /// What one release costs.
    pub charge: Charge,
    /// Releases planned.
    pub releases: u32,
    /// Rounds charged: released, or abandoned too late.
    pub charged: u64,
    /// Rounds released.
    pub released: u64,
    /// Rounds with an open reservation.
    pub reserved: u64,
    /// The most updates of any one client that were recorded, where clients noise their own: what that client has told.
    pub most_updates: Option<u64>,
}

impl PlanRow {
    /// Rounds that were planned.
    #[must_use]
    pub fn rounds(&self) -> u64 {
        match self.charge.mechanism {
            ChargeMechanism::Correlated { rounds, .. } => rounds,
            _ => u64::from(self.releases),
        }
    }

    /// Rounds that the plan still holds; none once the task has ended.
    #[must_use]
    pub fn left(&self) -> u64 {
        match self.state {
            TaskState::Running | TaskState::Paused => {
                self.rounds().saturating_sub(self.charged.saturating_add(self.reserved))
            }
            TaskState::Finished | TaskState::Stopped | TaskState::Failed => 0,
        }
    }
}

/// What the text of a task says of its noise.
#[derive(Debug, Default)]
pub(crate) struct NoiseText {
    /// `encoding.clip_l2`.
    pub(crate) clip: Option<f64>,
    /// `privacy.grid_bits`, or what it is unless told.
    pub(crate) grid_bits: Option<u32>,
    /// Whether there is `privacy.adaptive_clip`.
    pub(crate) adaptive_clip: bool,
    /// `privacy.mechanism`; empty if it is not there.
    pub(crate) mechanism: String,
}

impl NoiseText {
    /// Reads what is there: tasks of other versions may say less.
    pub(crate) fn of(toml: &str) -> Self {
        let Ok(text) = toml.parse::<toml::Table>() else { return Self::default() };
        let number = |value: &toml::Value| value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
        let clip = text.get("encoding").and_then(|section| section.get("clip_l2")).and_then(number);
        let Some(section) = text.get("privacy").and_then(toml::Value::as_table) else {
            return Self { clip, ..Self::default() };
        };
        let word = |key: &str| section.get(key).and_then(toml::Value::as_str);
        let usual = match word("trust") {
            Some("distributed") => testudo_engine::SHARE_GRID_BITS,
            _ => testudo_engine::GRID_BITS,
        };
        let grid_bits = section.get("grid_bits").map_or(Some(usual), |bits| u32::try_from(bits.as_integer()?).ok());
        Self {
            clip,
            grid_bits,
            adaptive_clip: section.contains_key("adaptive_clip"),
            mechanism: word("mechanism").unwrap_or_default().to_owned(),
        }
    }
}

/// What a charge has otherwise than the one that is due: `sigma_grid is 4, not 5, …`.
pub(crate) fn difference(charge: &Charge, due: &Charge) -> String {
    let fields = |charge: &Charge| serde_json::to_value(charge).unwrap_or_default();
    let (found, due) = (fields(charge), fields(due));
    let due = due.as_object().into_iter().flatten();
    let differing = due.filter(|(key, value)| found.get(key.as_str()) != Some(*value));
    differing.map(|(key, value)| format!("{key} is {}, not {value}", found[key])).collect::<Vec<_>>().join(", ")
}

/// Whether the values of updates can have decided that an open round was abandoned.
///
/// `refused_for_values` says whether an update was refused for what is in it: the number of those left then depends on
/// values too. Whatever is not known to be independent counts as dependent.
#[must_use]
pub fn outcome(why: &Abandon, refused_for_values: bool) -> Outcome {
    match why {
        Abandon::TooFewUpdates { .. } | Abandon::TooFewGroups { .. } if refused_for_values => {
            Outcome::MayDependOnUpdates
        }
        Abandon::TooFewUpdates { .. } | Abandon::TooFewGroups { .. } | Abandon::Stopped | Abandon::SpoolLost => {
            Outcome::IndependentOfUpdates
        }
        Abandon::Rule { .. } | Abandon::Fault { .. } => Outcome::MayDependOnUpdates,
    }
}

/// The same where what is charged for is not told with the release alone.
///
/// A client's own noise is spent with its update, which may have left whatever ended the round. Sums of shares may have been
/// seen once groups were drawn; before, nothing was sent but keys.
#[must_use]
pub fn outcome_under(mechanism: &ChargeMechanism, why: &Abandon, refused_for_values: bool) -> Outcome {
    match (mechanism, why) {
        (ChargeMechanism::Local, _) => Outcome::MayDependOnUpdates,
        // Coins are not flipped again at no cost: who sees traffic could choose among cohorts.
        (ChargeMechanism::PoissonGaussian { .. }, Abandon::SpoolLost) => Outcome::MayDependOnUpdates,
        (ChargeMechanism::Shares { .. }, Abandon::TooFewUpdates { .. }) => Outcome::IndependentOfUpdates,
        (ChargeMechanism::Shares { .. }, _) => Outcome::MayDependOnUpdates,
        _ => outcome(why, refused_for_values),
    }
}

/// Whether a refusal tells something about the values of an update.
#[must_use]
pub fn tells_of_values(reason: Reason) -> bool {
    match reason {
        // About who sent it, when, and in which form.
        Reason::Malformed
        | Reason::NotInCohort
        | Reason::Identity
        | Reason::WrongRound
        | Reason::WrongModel
        | Reason::WrongShape
        | Reason::WrongDtype
        | Reason::DigestMismatch
        | Reason::Oversize
        | Reason::Truncated
        | Reason::WrongOffset
        | Reason::Duplicate
        | Reason::Late
        | Reason::TooSlow
        | Reason::TakenOver
        | Reason::Overloaded
        | Reason::Signature
        | Reason::GroupLost
        | Reason::Withdrawn => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ignores_the_updates_gives_a_reservation_back() {
        let few = [Abandon::TooFewUpdates { received: 1, minimum: 2 }, Abandon::TooFewGroups { groups: 1, minimum: 2 }];
        for why in &few {
            assert_eq!(outcome(why, false), Outcome::IndependentOfUpdates, "{why}");
            assert_eq!(outcome(why, true), Outcome::MayDependOnUpdates, "{why}");
        }
        for why in [Abandon::Stopped, Abandon::SpoolLost] {
            assert_eq!(outcome(&why, true), Outcome::IndependentOfUpdates, "{why}");
        }
        for why in [Abandon::Rule { detail: String::new() }, Abandon::Fault { detail: String::new() }] {
            assert_eq!(outcome(&why, false), Outcome::MayDependOnUpdates, "{why}");
        }
    }

    #[test]
    fn what_has_left_a_device_is_spent_whatever_ended_the_round() {
        let shares = ChargeMechanism::Shares { honest: 9, coordinates: 1 << 30 };
        let few = Abandon::TooFewUpdates { received: 1, minimum: 2 };
        let lost = Abandon::TooFewGroups { groups: 1, minimum: 2 };
        for why in [&few, &lost, &Abandon::Stopped, &Abandon::SpoolLost] {
            assert_eq!(outcome_under(&ChargeMechanism::Local, why, false), Outcome::MayDependOnUpdates, "{why}");
            assert_eq!(outcome_under(&ChargeMechanism::Gaussian, why, false), Outcome::IndependentOfUpdates, "{why}");
        }
        let sampled = ChargeMechanism::PoissonGaussian { rate: 0.1 };
        assert_eq!(outcome_under(&sampled, &Abandon::SpoolLost, false), Outcome::MayDependOnUpdates);
        assert_eq!(outcome_under(&sampled, &Abandon::Stopped, false), Outcome::IndependentOfUpdates);
        assert_eq!(outcome_under(&shares, &few, false), Outcome::IndependentOfUpdates, "keys alone were sent");
        for why in [&lost, &Abandon::Stopped, &Abandon::SpoolLost] {
            assert_eq!(outcome_under(&shares, why, false), Outcome::MayDependOnUpdates, "{why}");
        }
    }

    #[test]
    fn refusals_for_what_is_in_an_update_tell_of_its_values() {
        for reason in [Reason::NonFinite, Reason::Magnitude, Reason::NotSelected, Reason::Examples] {
            assert!(tells_of_values(reason), "{reason}");
        }
        for reason in [Reason::Late, Reason::WrongShape, Reason::TooSlow, Reason::Malformed] {
            assert!(!tells_of_values(reason), "{reason}");
        }
    }
}
