//! One attacker with many names.

use super::inner::Inner;
use super::prelude::*;
use super::sign_flip::SignFlip;

pub(super) const INFO: Info = Info {
    kind: "sybil",
    formula: "one update under f names: exact, jittered, in convex parts, or in pairs u + r, u - r",
    summary: "One attacker sends one update under several names: the same, or in versions whose sum is the same.",
    citation: "Fung et al. 2020, The Limitations of Federated Learning in Sybil Settings (RAID)",
    knowledge: Knowledge::Colluders,
    parameters: &[
        Parameter {
            name: "attack",
            default: "sign_flip:scale=10",
            meaning: "what the names send together; short form with ; for ,",
        },
        Parameter {
            name: "mode",
            default: "exact",
            meaning: "exact: the same; jitter: each coordinate times 1 + spread N(0, 1); split: f w_k u with random weights w; balanced: pairs u + r, u - r",
        },
        Parameter {
            name: "spread",
            default: "0.1",
            meaning: "size of the differences relative to the update, 0 to 100",
        },
    ],
};

/// The first colluder's update u under every colluder's name. `split` and `balanced` keep the sum f·u; a name without a
/// partner in `balanced` sends u.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sybil {
    /// What the names send together.
    pub attack: Inner,
    /// How the names differ.
    pub mode: Names,
    /// Size of the differences relative to the update.
    pub spread: f64,
}

impl Default for Sybil {
    fn default() -> Self {
        Self { attack: super::AttackConfig::from(SignFlip::default()).into(), mode: Names::Exact, spread: 0.1 }
    }
}

/// How the updates under several names differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Names {
    /// Not at all.
    #[default]
    Exact,
    /// By independent relative noise.
    Jitter,
    /// By random shares of the sum.
    Split,
    /// By opposite noise in pairs.
    Balanced,
}

impl Attack for Sybil {
    fn knowledge(&self) -> Knowledge {
        self.attack.0.knowledge().max(Knowledge::Colluders)
    }

    fn wishes(&self) -> Wishes {
        Wishes { shared: self.mode == Names::Exact, ..self.attack.0.wishes() }
    }

    fn poison(&self, data: &mut Dataset, stream: &mut Stream) -> Result<(), AttackError> {
        self.attack.0.poison(data, stream)
    }

    fn poison_as(&self, colluder: Colluder, data: &mut Dataset, stream: &mut Stream) -> Result<(), AttackError> {
        self.attack.0.poison_as(colluder, data, stream)
    }

    fn poison_round(
        &self,
        colluder: Colluder,
        lesson: &Lesson<'_>,
        data: &mut Dataset,
        stream: &mut Stream,
    ) -> Result<(), AttackError> {
        self.attack.0.poison_round(colluder, lesson, data, stream)
    }

    fn train(&self, lesson: &Lesson<'_>, view: &View<'_>, stream: &mut Stream) -> Option<Vec<f32>> {
        self.attack.0.train(lesson, view, stream)
    }

    fn remember(&self, view: &View<'_>, update: &[f32]) -> Vec<f32> {
        self.attack.0.remember(view, update)
    }

    fn tamper(&self) -> Tamper {
        self.attack.0.tamper()
    }

    fn tamper_in(&self, round: u64) -> Tamper {
        self.attack.0.tamper_in(round)
    }

    fn backdoor(&self) -> Option<Trigger> {
        self.attack.0.backdoor()
    }

    forge_by_formula!();

    fn check(&self) -> Result<(), AttackError> {
        check_range(INFO.kind, "spread", self.spread, (0.0, 100.0))?;
        super::check_depth(INFO.kind, &self.attack)?;
        self.attack.0.check()
    }
}

impl Formula for Sybil {
    fn vector<S: Scalar>(&self, view: &View<'_, S>, own: &[S], stream: &mut Stream) -> Vec<f64> {
        // All names speak for the first colluder, with chance that they share.
        let mut common = view.common_stream();
        let first: &[S] = view.colluders().first().map_or(own, Vec::as_slice);
        let mut sent = self.attack.0.vector(view, first, &mut common);
        let Colluder { index, count } = view.colluder();
        match self.mode {
            Names::Exact => {}
            Names::Jitter => sent.iter_mut().for_each(|value| *value *= 1.0 + self.spread * stream.normal()),
            Names::Split => {
                let weights = common.dirichlet(1.0, count.max(1));
                let share = weights.get(index).map_or(1.0, |weight| weight * count as f64);
                sent.iter_mut().for_each(|value| *value *= share);
            }
            Names::Balanced if index / 2 * 2 + 1 < count => {
                let side = if index.is_multiple_of(2) { self.spread } else { -self.spread };
                // Each pair draws its own differences.
                for _ in 0..index / 2 {
                    sent.iter().for_each(|_| _ = common.normal());
                }
                sent.iter_mut().for_each(|value| *value *= 1.0 + side * common.normal());
            }
            Names::Balanced => {}
        }
        sent
    }
}
