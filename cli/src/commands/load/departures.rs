//! Which clients vanish in which round, and before which step.

use std::sync::{Arc, Mutex, PoisonError};
use testudo_client::Step;

/// Steps that can be left: the keys' own step is not one, because groups are drawn among those who took it.
const STEPS: [Step; 4] = [Step::ShareKeys, Step::MaskedInput, Step::Consistency, Step::Unmask];

/// Before which step each client vanishes.
type Steps = Arc<[Option<Step>]>;

/// The choice of a whole load test; it follows from the seed alone.
#[derive(Debug)]
pub(super) struct Departures {
    seed: u64,
    clients: usize,
    /// Clients that vanish in a round.
    leaving: usize,
    /// The last round that was asked about: every client asks about the same one.
    last: Mutex<Option<(u64, Steps)>>,
}

impl Departures {
    /// A share of the clients, rounded to the nearest number.
    pub(super) fn new(seed: u64, clients: usize, share: f64) -> Self {
        let leaving = ((clients as f64 * share).round() as usize).min(clients);
        Self { seed, clients, leaving, last: Mutex::default() }
    }

    /// Before which step a client vanishes in a round, if it does.
    pub(super) fn step(&self, round: u64, client: usize) -> Option<Step> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let steps = match &*last {
            Some((known, steps)) if *known == round => Arc::clone(steps),
            _ => {
                let steps: Steps = self.draw(round).into();
                *last = Some((round, Arc::clone(&steps)));
                steps
            }
        };
        steps.get(client).copied().flatten()
    }

    fn draw(&self, round: u64) -> Vec<Option<Step>> {
        let mut order: Vec<usize> = (0..self.clients).collect();
        order.sort_by_key(|&client| (mix(mix(self.seed ^ mix(round)) ^ client as u64), client));
        let mut steps = vec![None; self.clients];
        for (rank, client) in order.into_iter().take(self.leaving).enumerate() {
            steps[client] = Some(STEPS[rank % STEPS.len()]);
        }
        steps
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014), over its increment.
fn mix(value: u64) -> u64 {
    let mut bits = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(departures: &Departures, round: u64) -> Vec<Option<Step>> {
        (0..40).map(|client| departures.step(round, client)).collect()
    }

    #[test]
    fn the_same_seed_makes_the_same_choice_and_every_step_is_left() {
        let departures = Departures::new(7, 40, 0.2);
        let first = all(&departures, 1);
        assert_eq!(first.iter().flatten().count(), 8);
        for step in STEPS {
            assert_eq!(first.iter().flatten().filter(|&&left| left == step).count(), 2, "{step:?}");
        }
        assert_ne!(all(&departures, 2), first);
        assert_eq!(all(&departures, 1), first);
        assert_eq!(all(&Departures::new(7, 40, 0.2), 1), first);
        assert_ne!(all(&Departures::new(8, 40, 0.2), 1), first);
    }

    #[test]
    fn nobody_vanishes_unless_asked() {
        assert_eq!(all(&Departures::new(7, 40, 0.0), 1), [None; 40]);
    }
}
