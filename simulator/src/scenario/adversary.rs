//! `[adversary]`: who attacks, when, how, and how alike the attackers are.

use serde::{Deserialize, Serialize};

use super::ScenarioError;
use super::sections::range;
use crate::attack::{Attack as _, Realism};
use crate::attacks::{AttackConfig, None as NoAttack};

/// The attackers of a run. How many the rule reckons with is `rule.byzantine`; the two are independent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Adversary {
    /// How many clients attack.
    pub colluders: usize,
    /// Which clients those are.
    pub placement: Placement,
    /// How alike the attackers' updates are.
    pub realism: Realism,
    /// When they attack; honest otherwise.
    pub schedule: Schedule,
    /// Whether attackers hold a share of the training data.
    pub data: ColluderData,
    /// What they do.
    pub attack: AttackConfig,
}

impl Default for Adversary {
    fn default() -> Self {
        Self {
            colluders: 0,
            placement: Placement::Fixed,
            realism: Realism::Own,
            schedule: Schedule::default(),
            data: ColluderData::Share,
            attack: NoAttack {}.into(),
        }
    }
}

/// Which clients attack. Three different experiments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// The clients with the highest numbers; cohorts are drawn among everyone.
    #[default]
    Fixed,
    /// A set chosen by the seed; cohorts are drawn among everyone, so their number in a cohort is hypergeometric.
    Pool,
    /// Exactly all colluders in every cohort; the rest of the cohort is drawn among the honest clients.
    PerRound,
}

/// Whether attackers hold data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColluderData {
    /// As every other client.
    #[default]
    Share,
    /// None: the training data are divided among the honest clients. Without an attack everyone is honest and holds a
    /// share.
    None,
}

/// When attackers attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// First round of the attack.
    pub start: u64,
    /// Last round of the attack; 0: to the end.
    pub stop: u64,
    /// Rounds of attack in a row, then `off` honest ones.
    pub on: u64,
    /// Honest rounds between attacks.
    pub off: u64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { start: 1, stop: 0, on: 1, off: 0 }
    }
}

impl Schedule {
    /// Whether `round` (from 1) is one of attack.
    pub fn attacks(&self, round: u64) -> bool {
        let within = round >= self.start && (self.stop == 0 || round <= self.stop);
        within && (round - self.start) % (self.on + self.off).max(1) < self.on
    }
}

impl Adversary {
    /// Whether nothing is attacked: `kind = "none"`, or nobody does.
    pub fn is_absent(&self) -> bool {
        self.colluders == 0 || matches!(self.attack, AttackConfig::None(_))
    }

    pub(super) fn check(&self, clients: usize, grouped: bool) -> Result<(), ScenarioError> {
        range("adversary.colluders", self.colluders as f64, 0.0, clients as f64)?;
        range("adversary.schedule.start", self.schedule.start as f64, 1.0, 1e9)?;
        range("adversary.schedule.on", self.schedule.on as f64, 1.0, 1e9)?;
        if let Realism::Jitter(sigma) = self.realism {
            range("adversary.realism.jitter", sigma, 0.0, 100.0)?;
        }
        let tamper = self.attack.tamper_in(self.schedule.start);
        if tamper.concerns_masked_rounds_only() && !grouped && !self.is_absent() {
            let what = format!("{} acts in a step that only masked rounds have", self.attack);
            let fix = "write visibility.group_size above 1, or step = \"input\" for dropouts";
            return Err(ScenarioError::new("adversary.attack", what, fix));
        }
        if self.colluders == clients && self.data == ColluderData::None && !self.is_absent() {
            let fix = "leave at least one honest client, or write data = \"share\"";
            return Err(ScenarioError::new("adversary.data", "nobody would hold data".to_owned(), fix));
        }
        Ok(())
    }

    /// Whether attackers go without data in this run.
    pub(crate) fn holds_nothing(&self) -> bool {
        self.data == ColluderData::None && !self.is_absent()
    }
}
