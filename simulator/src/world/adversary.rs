//! Who attacks, what attackers see, and what they send.

use testudo_protocol::Model;

use super::training::Turn;
use super::{World, WorldError};
use crate::attack::{Attack as _, Colluder, Crowd, Deployed, Knowledge, Observation, Realism, Tamper, View};
use crate::data::Dataset;
use crate::random::{Purpose, stream};
use crate::scenario::{Placement, Plan};
use crate::workload::Scratch;

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

/// `data` with every label y as C − 1 − y.
pub(super) fn reversed(data: &Dataset) -> Result<Dataset, WorldError> {
    let mut reversed = data.clone();
    let last = data.classes() - 1;
    reversed.relabel(|_, label| last - label).map_err(|source| WorldError::Data { key: "data.source", source })?;
    Ok(reversed)
}

impl World {
    /// Whether `client` attacks in `round`.
    pub(super) fn is_attacking(&self, round: u64, client: usize) -> bool {
        self.scenario.plan.adversary.schedule.attacks(round) && self.is_colluder(client)
    }

    /// Which of all attackers a client is.
    pub(super) fn colluder(&self, client: usize) -> Colluder {
        let index = self.colluders.binary_search(&client).unwrap_or_else(|place| place);
        Colluder { index, count: self.colluders.len() }
    }

    /// What an attacker asked to remember in the last round it took part in.
    pub(super) fn memory(&self, client: usize) -> &[f32] {
        self.state.memories.get(&client).map_or(&[], Vec::as_slice)
    }

    /// What any participant may know before a round: the cohort's size and the attackers that are expected in it.
    pub(super) fn crowd(&self) -> Crowd {
        let plan = &self.scenario.plan;
        let clients = plan.population.clients;
        let rows = plan.cohort.selected(clients).min(clients);
        let colluding = match plan.adversary.placement {
            Placement::PerRound => self.colluders.len(),
            Placement::Fixed | Placement::Pool => (self.colluders.len() * rows).div_ceil(clients.max(1)),
        };
        Crowd { rows, colluding, declared: self.scenario.task.rule.byzantine() }
    }

    /// How an attacker changes its messages of a round.
    pub(super) fn tamper(&self, round: u64, client: usize) -> Tamper {
        match self.is_attacking(round, client) {
            true => self.scenario.plan.adversary.attack.tamper_in(round),
            false => Tamper::None,
        }
    }

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
        let places: Vec<usize> = (0..present.len()).filter(|&place| self.is_attacking(round, present[place])).collect();
        if places.is_empty() {
            return honest;
        }
        let plan = &self.scenario.plan;
        let attack = plan.adversary.attack.attack();
        let (wishes, knowledge) = (attack.wishes(), attack.knowledge());
        let own: Vec<Vec<f32>> = places.iter().map(|&place| rows[place].clone()).collect();
        let flipped = if wishes.flipped { self.flipped(model, round, present) } else { Vec::new() };
        let extras = if knowledge == Knowledge::Omniscient { self.extras(present) } else { Vec::new() };
        let rule = self.scenario.task.rule.as_ref();
        let all = Observation {
            round,
            crowd: Crowd { rows: present.len(), colluding: places.len(), declared: rule.byzantine() },
            accord: plan.seed,
            model: model.parameters(),
            previous: &self.state.previous,
            colluders: &own,
            honest: &honest,
            flipped: &flipped,
            deployed: Some(Deployed {
                rule,
                extras: &extras,
                seed: self.rule_seed_of(round),
                memory: self.state.carry.memory.first().copied().flatten(),
            }),
            ..Observation::default()
        };
        let common = wishes.shared || plan.adversary.realism != Realism::Own;
        let mut memories = Vec::new();
        let mut first: Option<Vec<f32>> = None;
        for (&place, own) in places.iter().zip(&own) {
            let client = present[place];
            let view = View::new(
                knowledge,
                Observation { colluder: self.colluder(client), memory: self.memory(client), ..all },
            );
            let forge = || {
                let mut update = own.clone();
                attack.forge(&view, &mut update, &mut stream(plan.seed, Purpose::Attack, round, client as u64));
                update
            };
            let mut row = match common {
                true => first.get_or_insert_with(forge).clone(),
                false => forge(),
            };
            // Draws come after those of the attack, from a stream of their own: the round's number with the highest bit
            // set.
            let mut random = stream(plan.seed, Purpose::Attack, round | 1 << 63, client as u64);
            plan.adversary.realism.roughen(&mut row, &honest, &mut random);
            attack.tamper_in(round).apply(&mut row);
            rows[place] = row;
            if wishes.memory {
                memories.push((client, attack.remember(&view, own)));
            }
        }
        self.state.memories.extend(memories);
        honest
    }

    /// What the honest clients would have sent of reversed labels, without momentum.
    fn flipped(&self, model: &Model, round: u64, present: &[usize]) -> Vec<Vec<f32>> {
        let mut scratch = Scratch::default();
        (present.iter())
            .filter_map(|client| self.reversed.get(client).map(|data| (*client, data)))
            .map(|(client, data)| self.without_momentum(Turn { model, round, client }, data, &mut scratch))
            .collect()
    }

    /// The extra rows that the rule's needs name, in their order: of histories, the honest clients' first.
    fn extras(&self, present: &[usize]) -> Vec<Vec<f32>> {
        let needs = self.scenario.task.rule.needs().extras;
        let zeros = || vec![0.0; self.state.model.parameters().len()];
        let carry = &self.state.carry;
        let mut extras = Vec::new();
        if needs.last_aggregate {
            extras.push(carry.last_aggregate.as_ref().map_or_else(zeros, |last| last.to_vec()));
        }
        if needs.reference {
            // Studies have no trusted client yet: the engine takes zeros then, too.
            extras.push(zeros());
        }
        if needs.history {
            let (colluders, honest): (Vec<usize>, Vec<usize>) =
                present.iter().partition(|client| self.is_colluder(**client));
            for client in honest.into_iter().chain(colluders) {
                extras.push(carry.history.get(&self.names[client]).map_or_else(zeros, |history| history.sum.to_vec()));
            }
        }
        extras
    }
}
