//! Attacks in some rounds, and behaves in the others.

use super::inner::Inner;
use super::prelude::*;
use super::sign_flip::SignFlip;

pub(super) const INFO: Info = Info {
    kind: "on_off",
    formula: "the inner attack while it is on, else x; ramp: x + share * (forged - x)",
    summary: "Attacks only in some rounds: after a start of good behaviour, in turns, or growing slowly.",
    citation: "Sun et al. 2006, on-off attacks on trust; Bagdasaryan et al. 2020 (one-shot)",
    knowledge: Knowledge::Colluders,
    parameters: &[
        Parameter { name: "attack", default: "sign_flip:scale=10", meaning: "the attack; short form with ; for ," },
        Parameter { name: "start", default: "1", meaning: "first round of the attack, from 1: good reputation first" },
        Parameter { name: "stop", default: "0", meaning: "last round of the attack; 0: to the end" },
        Parameter { name: "on", default: "1", meaning: "rounds of attack in a row, from 1" },
        Parameter { name: "off", default: "0", meaning: "honest rounds between them" },
        Parameter { name: "ramp", default: "0", meaning: "rounds over which the attack grows to its full size" },
    ],
};

/// Data are poisoned in rounds of attack alone, the same way in each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnOff {
    /// The attack.
    pub attack: Inner,
    /// First round of the attack.
    pub start: u64,
    /// Last round of the attack; 0: to the end.
    pub stop: u64,
    /// Rounds of attack in a row.
    pub on: u64,
    /// Honest rounds between them.
    pub off: u64,
    /// Rounds over which the attack grows.
    pub ramp: u64,
}

impl Default for OnOff {
    fn default() -> Self {
        Self {
            attack: super::AttackConfig::from(SignFlip::default()).into(),
            start: 1,
            stop: 0,
            on: 1,
            off: 0,
            ramp: 0,
        }
    }
}

impl OnOff {
    /// Whether `round` (from 1) is one of attack.
    pub fn attacks(&self, round: u64) -> bool {
        let within = round >= self.start && (self.stop == 0 || round <= self.stop);
        within && (round - self.start) % self.on.saturating_add(self.off).max(1) < self.on
    }

    /// How much of the attack `round` sees, 0 to 1.
    fn share(&self, round: u64) -> f64 {
        let since = (round - self.start.min(round)).saturating_add(1);
        if since >= self.ramp { 1.0 } else { since as f64 / self.ramp as f64 }
    }
}

impl Attack for OnOff {
    fn knowledge(&self) -> Knowledge {
        self.attack.0.knowledge()
    }

    fn wishes(&self) -> Wishes {
        Wishes { poison_each_round: true, shared: false, ..self.attack.0.wishes() }
    }

    fn poison_round(
        &self,
        colluder: Colluder,
        lesson: &Lesson<'_>,
        data: &mut Dataset,
        stream: &mut Stream,
    ) -> Result<(), AttackError> {
        if !self.attacks(lesson.round) {
            return Ok(());
        }
        self.attack.0.poison_as(colluder, data, stream)?;
        self.attack.0.poison_round(colluder, lesson, data, stream)
    }

    fn train(&self, lesson: &Lesson<'_>, view: &View<'_>, stream: &mut Stream) -> Option<Vec<f32>> {
        if self.attacks(lesson.round) { self.attack.0.train(lesson, view, stream) } else { Option::None }
    }

    fn remember(&self, view: &View<'_>, update: &[f32]) -> Vec<f32> {
        self.attack.0.remember(view, update)
    }

    fn tamper(&self) -> Tamper {
        self.tamper_in(self.start)
    }

    fn tamper_in(&self, round: u64) -> Tamper {
        if self.attacks(round) { self.attack.0.tamper_in(round) } else { Tamper::None }
    }

    fn backdoor(&self) -> Option<Trigger> {
        self.attack.0.backdoor()
    }

    forge_by_formula!();

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "start", self.start as f64, (1.0, 1e15))?;
        check_range(INFO.kind, "on", self.on as f64, (1.0, 1e15))?;
        super::check_depth(INFO.kind, &self.attack)?;
        self.attack.0.check()
    }
}

impl Formula for OnOff {
    fn vector<S: Scalar>(&self, view: &View<'_, S>, own: &[S], stream: &mut Stream) -> Vec<f64> {
        let honest = || own.iter().map(|value| value.to_f64()).collect::<Vec<f64>>();
        if !self.attacks(view.round()) {
            return honest();
        }
        let share = self.share(view.round());
        let mut sent = self.attack.0.vector(view, own, stream);
        if share < 1.0 {
            sent.iter_mut().zip(honest()).for_each(|(sent, own)| *sent = own + share * (*sent - own));
        }
        sent
    }
}
