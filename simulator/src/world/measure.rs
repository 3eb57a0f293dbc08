//! What is counted each round and measured now and then.

use serde::{Deserialize, Serialize};
use testudo_aggregate::OptimizerConfig;
use testudo_protocol::{Model, Verdict};

use super::{Ending, World};

/// Verdicts since the last measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Taken as they are.
    pub accepted: u64,
    /// Shortened.
    pub clipped: u64,
    /// Taken in part.
    pub trimmed: u64,
    /// Left out.
    pub rejected: u64,
    /// Selected, but no update came in time.
    pub dropout: u64,
    /// Of these, updates that were mostly held back: rejected, over half of their coordinates cut, or shortened to less
    /// than half.
    pub held_back: u64,
}

/// The federation after a round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The round, 0 before the first.
    pub round: u64,
    /// Test accuracy in 0..=1.
    pub accuracy: f64,
    /// Mean test cross-entropy in nats; `None` if not finite.
    pub loss: Option<f64>,
    /// Share of triggered test examples classified as the attacker's target; `None` without a backdoor.
    pub backdoor: Option<f64>,
    /// Distance of this round's aggregate from the mean of the honest updates, L2; with the FedAvg optimiser only.
    pub distance: Option<f64>,
    /// That distance squared over the mean squared distance of honest updates from their mean: the empirical κ.
    pub kappa: Option<f64>,
    /// L2 distance of the model from the one of least loss on the honest clients' data; `None` where that is not known.
    #[serde(default)]
    pub excess: Option<f64>,
    /// L2 norm of the model.
    pub norm: f64,
    /// Verdicts on honest clients since the last measurement.
    pub honest: Counts,
    /// Verdicts on attackers since the last measurement.
    pub colluders: Counts,
    /// Rounds abandoned since the start.
    pub abandoned: u64,
    /// Payload bytes sent since the start.
    pub bytes: u64,
    /// Whom a detector has found so far; `None` if nobody watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
}

/// How many clients a detector has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Of the honest ones.
    pub honest: Found,
    /// Of the attackers.
    pub colluders: Found,
    /// Median rounds from the attack's start until an attacker was first suspect, of those that were.
    pub delay: Option<f64>,
}

/// Clients of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// All.
    pub clients: u64,
    /// Suspect at some time.
    pub flagged: u64,
    /// In quarantine now.
    pub quarantined: u64,
}

impl Found {
    /// Share that was suspect at some time, in 0..=1; `None` of nobody.
    pub fn rate(&self) -> Option<f64> {
        (self.clients > 0).then(|| self.flagged as f64 / self.clients as f64)
    }
}

impl Counts {
    /// Takes one verdict.
    pub fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Accepted => self.accepted += 1,
            Verdict::Clipped { .. } => self.clipped += 1,
            Verdict::Trimmed { .. } => self.trimmed += 1,
            Verdict::Rejected { .. } => self.rejected += 1,
            // An update whose round was abandoned has no verdict.
            _ => self.dropout += 1,
        }
        self.held_back += u64::from(is_held_back(verdict));
    }

    /// Updates that got a verdict.
    pub fn judged(&self) -> u64 {
        self.accepted + self.clipped + self.trimmed + self.rejected
    }

    /// The sum of two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            accepted: self.accepted + other.accepted,
            clipped: self.clipped + other.clipped,
            trimmed: self.trimmed + other.trimmed,
            rejected: self.rejected + other.rejected,
            dropout: self.dropout + other.dropout,
            held_back: self.held_back + other.held_back,
        }
    }
}

/// Whether little of an update reached the aggregate.
pub(super) fn is_held_back(verdict: Verdict) -> bool {
    match verdict {
        Verdict::Rejected { .. } => true,
        Verdict::Trimmed { share } => share > 0.5,
        Verdict::Clipped { factor } => factor < 0.5,
        _ => false,
    }
}

impl World {
    pub(super) fn judge(&mut self, cohort: &[usize], ending: &Ending) {
        for client in cohort {
            let verdict = ending.verdicts.get(client).copied().unwrap_or(Verdict::Dropout);
            let colluder = self.is_colluder(*client);
            let counts = if colluder { &mut self.state.colluders } else { &mut self.state.honest };
            counts.add(verdict);
        }
    }

    pub(super) fn measure_start(&mut self) {
        let measured = self.look(0);
        self.state.measured.push(measured);
    }

    pub(super) fn measure(&mut self, round: u64, before: &Model, honest: &[Vec<f32>], ending: &Ending) {
        let mut measured = self.look(round);
        if let (Some(after), OptimizerConfig::FedAvg { learning_rate }) = (&ending.model, self.scenario.optimizer()) {
            let decay = self.base_factor();
            let moved = after.parameters().iter().zip(before.parameters());
            let aggregate: Vec<f64> =
                moved.map(|(after, before)| (f64::from(*after) - f64::from(*before) * decay) / learning_rate).collect();
            (measured.distance, measured.kappa) = distance_and_kappa(&aggregate, honest);
        }
        (measured.honest, measured.colluders) =
            (std::mem::take(&mut self.state.honest), std::mem::take(&mut self.state.colluders));
        self.state.measured.push(measured);
    }

    fn look(&self, round: u64) -> Measured {
        let model = self.state.model.parameters();
        let evaluation = self.workload.evaluate(model, self.data.test());
        let squares: f64 = model.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
        Measured {
            round,
            accuracy: evaluation.accuracy,
            loss: Some(evaluation.loss).filter(|loss| loss.is_finite()),
            backdoor: self.probe.as_ref().map(|probe| self.workload.accuracy(model, probe)),
            excess: self.excess(model),
            norm: squares.sqrt(),
            abandoned: self.state.abandoned,
            bytes: self.state.bytes,
            standing: self.standing(),
            ..Measured::default()
        }
    }

    /// How far the model is from the optimum; `None` where nobody knows it.
    fn excess(&self, model: &[f32]) -> Option<f64> {
        let squares = (model.iter().zip(self.optimum.as_ref()?)).map(|(at, best)| f64::from(at - best).powi(2));
        Some(squares.sum::<f64>().sqrt()).filter(|distance| distance.is_finite())
    }

    /// What weight decay multiplies the model by.
    fn base_factor(&self) -> f64 {
        1.0 - self.rate() * self.scenario.plan.training.weight_decay
    }
}

/// ‖a − x̄‖ and ‖a − x̄‖² / mean ‖xᵢ − x̄‖² over the honest rows.
fn distance_and_kappa(aggregate: &[f64], honest: &[Vec<f32>]) -> (Option<f64>, Option<f64>) {
    if honest.is_empty() {
        return (None, None);
    }
    let mut mean = vec![0.0_f64; aggregate.len()];
    for row in honest {
        mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    mean.iter_mut().for_each(|sum| *sum /= honest.len() as f64);
    let square: f64 = aggregate.iter().zip(&mean).map(|(a, mean)| (a - mean) * (a - mean)).sum();
    let spread = |row: &Vec<f32>| row.iter().zip(&mean).map(|(x, mean)| (f64::from(*x) - mean).powi(2)).sum::<f64>();
    let variance = honest.iter().map(spread).sum::<f64>() / honest.len() as f64;
    let finite = |value: f64| Some(value).filter(|value| value.is_finite());
    (finite(square.sqrt()), finite(square / variance))
}
