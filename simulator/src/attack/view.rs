//! What there is to see in a round, and the part of it an attack's knowledge permits.

use testudo_aggregate::Rule;

use super::{Colluder, Knowledge, estimate};
use crate::random::{Purpose, Stream, stream};
use crate::scalar::Scalar;

/// Everything there is to see in a round; a driver leaves out what it cannot observe (a real client on a network sees no
/// honest updates). Numbers of type `S`: `f32` in training, `f64` for reference vectors.
#[derive(Clone, Copy, Debug, Default)]
pub struct Observation<'a, S = f32> {
    /// Round number, from 1.
    pub round: u64,
    /// Which colluder is looking.
    pub colluder: Colluder,
    /// How many clients there are, and how many of them are bad.
    pub crowd: Crowd,
    /// A number all colluders agreed on, from the study's seed: their common source of chance.
    pub accord: u64,
    /// What this attack asked to remember in the round before; empty at first.
    pub memory: &'a [f32],
    /// The released model the round started from.
    pub model: &'a [S],
    /// The change of the released model in the round before; empty in the first.
    pub previous: &'a [S],
    /// Honestly trained updates of the colluders.
    pub colluders: &'a [Vec<S>],
    /// Updates of the honest clients.
    pub honest: &'a [Vec<S>],
    /// What the honest clients would have sent had their labels been reversed; empty unless wished for.
    pub flipped: &'a [Vec<S>],
    /// The rule that will aggregate this round.
    pub deployed: Option<Deployed<'a, S>>,
}

/// Numbers of clients, which any participant may know. The declared number of bad clients and the real one are
/// independent; 0 rows means not told, and is then taken from what is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crowd {
    /// Updates the rule will see.
    pub rows: usize,
    /// Real number of colluders among them.
    pub colluding: usize,
    /// The number the rule is set to tolerate.
    pub declared: usize,
}

/// The deployed rule with a copy of its state: searching against it never moves the server's.
#[derive(Clone, Copy, Debug)]
pub struct Deployed<'a, S = f32> {
    /// The rule.
    pub rule: &'a dyn Rule,
    /// The extra rows its needs name, in their order: of histories, those of the honest rows and then the colluders'.
    pub extras: &'a [Vec<S>],
    /// The round's seed as the rule sees it.
    pub seed: u64,
    /// What the rule asked to remember.
    pub memory: Option<f64>,
}

/// The part of an [`Observation`] that an attack's knowledge permits.
#[derive(Clone, Copy, Debug)]
pub struct View<'a, S = f32> {
    seen: Observation<'a, S>,
}

impl<'a, S: Scalar> View<'a, S> {
    /// Removes from `all` whatever `knowledge` does not permit.
    pub fn new(knowledge: Knowledge, all: Observation<'a, S>) -> Self {
        let mut seen = Observation { round: all.round, colluder: all.colluder, ..Observation::default() };
        seen.crowd = all.crowd;
        seen.accord = all.accord;
        seen.memory = all.memory;
        if knowledge >= Knowledge::Colluders {
            seen.model = all.model;
            seen.previous = all.previous;
            seen.colluders = all.colluders;
        }
        if knowledge >= Knowledge::Honest {
            seen.honest = all.honest;
        }
        if knowledge >= Knowledge::Omniscient {
            seen.flipped = all.flipped;
            seen.deployed = all.deployed;
        }
        Self { seen }
    }

    /// The same for an attack that looks at less.
    #[must_use]
    pub fn narrowed(&self, knowledge: Knowledge) -> Self {
        Self::new(knowledge, self.seen)
    }

    /// Round number, from 1.
    pub fn round(&self) -> u64 {
        self.seen.round
    }

    /// Which colluder is looking.
    pub fn colluder(&self) -> Colluder {
        self.seen.colluder
    }

    /// How many clients there are and how many are bad; where the driver did not tell, as many as are seen and at least
    /// one colluder.
    pub fn crowd(&self) -> Crowd {
        let told = self.seen.crowd;
        if told.rows > 0 {
            return told;
        }
        let colluding = self.seen.colluders.len().max(self.seen.colluder.count);
        let declared = self.seen.deployed.map_or(colluding, |deployed| deployed.rule.byzantine());
        Crowd { rows: self.seen.honest.len() + colluding, colluding, declared }
    }

    /// A stream of random numbers that is the same for all colluders in a round.
    pub fn common_stream(&self) -> Stream {
        stream(self.seen.accord, Purpose::Attack, self.seen.round, u64::MAX)
    }

    /// What the attack asked to remember in the round before; empty at first.
    pub fn memory(&self) -> &'a [f32] {
        self.seen.memory
    }

    /// The released model the round started from; empty if not visible.
    pub fn model(&self) -> &'a [S] {
        self.seen.model
    }

    /// The change of the released model in the round before; empty if there is none or it is not visible.
    pub fn previous(&self) -> &'a [S] {
        self.seen.previous
    }

    /// Honestly trained updates of the colluders; empty if not visible.
    pub fn colluders(&self) -> &'a [Vec<S>] {
        self.seen.colluders
    }

    /// Updates of the honest clients; empty if not visible.
    pub fn honest(&self) -> &'a [Vec<S>] {
        self.seen.honest
    }

    /// Updates of the honest clients on reversed labels; empty if not visible.
    pub fn flipped(&self) -> &'a [Vec<S>] {
        self.seen.flipped
    }

    /// The deployed rule, if visible.
    pub fn deployed(&self) -> Option<Deployed<'a, S>> {
        self.seen.deployed
    }

    /// The best sample of honest updates in sight: those of the honest clients; without them the colluders' honestly
    /// trained ones; empty without those.
    pub fn sample(&self) -> &'a [Vec<S>] {
        if self.seen.honest.is_empty() { self.seen.colluders } else { self.seen.honest }
    }

    /// Best available estimate of the honest mean μ: the mean of [`View::sample`], or the client's `own` update. Summed
    /// in f64 in the given order.
    pub fn honest_mean(&self, own: &[S]) -> Vec<f64> {
        match self.sample() {
            [] => own.iter().map(|value| value.to_f64()).collect(),
            rows => estimate::mean(rows),
        }
    }

    /// Best available estimate of the honest deviation σ (ddof 1): that of [`View::sample`] around `mean`; zeros from
    /// fewer than two rows.
    pub fn honest_deviation(&self, mean: &[f64]) -> Vec<f64> {
        estimate::deviation(self.sample(), mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_hands_over_what_the_knowledge_permits_and_nothing_more() {
        let (model, colluders, honest) = (vec![1.0], vec![vec![2.0]], vec![vec![3.0], vec![5.0]]);
        let rule = testudo_aggregate::RuleConfig::median(1);
        let deployed = Some(Deployed { rule: rule.rule(), extras: &[], seed: 1, memory: None });
        let all = Observation {
            round: 4,
            model: &model,
            previous: &model,
            colluders: &colluders,
            honest: &honest,
            flipped: &honest,
            deployed,
            ..Observation::<f32>::default()
        };
        let seen = |knowledge| {
            let view = View::new(knowledge, all);
            let rows = (view.colluders().len(), view.honest().len(), view.flipped().len());
            (view.round(), view.model().len(), view.previous().len(), rows, view.deployed().is_some())
        };
        assert_eq!(seen(Knowledge::Data), (4, 0, 0, (0, 0, 0), false));
        assert_eq!(seen(Knowledge::Colluders), (4, 1, 1, (1, 0, 0), false));
        assert_eq!(seen(Knowledge::Honest), (4, 1, 1, (1, 2, 0), false));
        assert_eq!(seen(Knowledge::Omniscient), (4, 1, 1, (1, 2, 2), true));
        let view = View::new(Knowledge::Omniscient, all).narrowed(Knowledge::Data);
        assert!(view.honest().is_empty() && view.deployed().is_none());
    }

    #[test]
    fn the_honest_mean_falls_back_on_what_can_be_seen() {
        let (colluders, honest) = (vec![vec![2.0_f32]], vec![vec![3.0], vec![5.0]]);
        let all = Observation { round: 1, colluders: &colluders, honest: &honest, ..Observation::default() };
        assert_eq!(View::new(Knowledge::Honest, all).honest_mean(&[9.0]), [4.0]);
        assert_eq!(View::new(Knowledge::Colluders, all).honest_mean(&[9.0]), [2.0]);
        assert_eq!(View::new(Knowledge::Data, all).honest_mean(&[9.0]), [9.0]);
    }

    #[test]
    fn numbers_of_clients_are_those_told_or_those_seen() {
        let (colluders, honest) = (vec![vec![2.0_f32]; 3], vec![vec![3.0]; 7]);
        let rule = testudo_aggregate::RuleConfig::median(2);
        let deployed = Some(Deployed { rule: rule.rule(), extras: &[], seed: 1, memory: None });
        let seen = Observation { colluders: &colluders, honest: &honest, deployed, ..Observation::default() };
        let crowd = |all| View::new(Knowledge::Omniscient, all).crowd();
        assert_eq!(crowd(seen), Crowd { rows: 10, colluding: 3, declared: 2 });
        let told = Crowd { rows: 20, colluding: 6, declared: 4 };
        assert_eq!(crowd(Observation { crowd: told, ..seen }), told);
        assert_eq!(crowd(Observation::default()).colluding, 1);
    }
}
