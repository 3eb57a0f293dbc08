//! What attackers send.

use testudo_protocol::Model;

use super::World;
use crate::attack::{Observation, View};
use crate::random::{Purpose, stream};
use crate::scenario::{Placement, Plan, Realism};

/// The attackers, in increasing order; nobody without an attack.
pub(super) fn colluders(plan: &Plan) -> Vec<usize> {
    let (clients, count) = (plan.population.clients, plan.adversary.colluders);
    if plan.adversary.is_absent() {
        return Vec::new();
    }
    match plan.adversary.placement {
        Placement::Fixed | Placement::PerRound => (clients - count..clients).collect(),
        Placement::Pool => stream(plan.seed, Purpose::Placement, 0, 0).choose(clients, count),
    }
}

impl World {
    /// Replaces the attackers' rows; answers the honest clients' rows.
    pub(super) fn forge(
        &mut self,
        model: &Model,
        round: u64,
        present: &[usize],
        rows: &mut [Vec<f32>],
    ) -> Vec<Vec<f32>> {
        let honest: Vec<Vec<f32>> = (present.iter().zip(&*rows))
            .filter(|(client, _)| !self.is_colluder(**client))
            .map(|(_, row)| row.clone())
            .collect();
        let plan = &self.scenario.plan;
        if self.colluders.is_empty() || !plan.adversary.schedule.attacks(round) {
            return honest;
        }
        let places: Vec<usize> = (0..present.len()).filter(|&place| self.is_colluder(present[place])).collect();
        let own: Vec<Vec<f32>> = places.iter().map(|&place| rows[place].clone()).collect();
        let attack = plan.adversary.attack.attack();
        let all = Observation { round, model: model.parameters(), colluders: &own, honest: &honest };
        let view = View::new(attack.knowledge(), all);
        let forge = |client: usize, own: &[f32]| {
            let mut update = own.to_vec();
            attack.forge(&view, &mut update, &mut stream(plan.seed, Purpose::Attack, round, client as u64));
            update
        };
        let mut shared: Option<Vec<f32>> = None;
        for (&place, own) in places.iter().zip(&own) {
            let client = present[place];
            rows[place] = match plan.adversary.realism {
                Realism::Own => forge(client, own),
                realism => {
                    let mut row = shared.get_or_insert_with(|| forge(client, own)).clone();
                    roughen(realism, &mut row, &honest, plan.seed, round, client);
                    row
                }
            };
            attack.tamper().apply(&mut rows[place]);
        }
        honest
    }
}

/// Makes one attacker's copy of the common update its own. Draws come after those of the attack, from a stream of their
/// own: the round's number with the highest bit set.
fn roughen(realism: Realism, row: &mut [f32], honest: &[Vec<f32>], seed: u64, round: u64, client: usize) {
    let sigma = match realism {
        Realism::Own | Realism::Identical => return,
        Realism::Jitter(sigma) => sigma,
        Realism::SupportMatched => 0.5,
    };
    let mut random = stream(seed, Purpose::Attack, round | 1 << 63, client as u64);
    for value in row.iter_mut() {
        *value = (f64::from(*value) * (1.0 + sigma * random.normal())) as f32;
    }
    if realism == Realism::SupportMatched && !honest.is_empty() {
        let pattern = &honest[random.below(honest.len())];
        row.iter_mut().zip(pattern).filter(|(_, pattern)| **pattern == 0.0).for_each(|(value, _)| *value = 0.0);
    }
}
