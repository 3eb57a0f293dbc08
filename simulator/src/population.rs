//! Which clients are poisoned, and what each of them runs.

use serde::{Deserialize, Serialize};

use crate::attacks::{AttackConfig, NonFinite, SignFlip, WrongShape};
use crate::random::{Purpose, stream};

/// Which identities are poisoned. Fixed for a whole study.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// The clients with the lowest numbers.
    #[default]
    First,
    /// A choice made by the seed.
    Seeded,
}

/// What the poisoned clients run.
#[derive(Clone, Debug, PartialEq)]
pub enum Mix {
    /// The given attack, except that with at least two poisoned clients the last sends NaN, and with at least three the
    /// one before it a wrong shape: so that every check of the server is seen at work.
    Demo(AttackConfig),
    /// All the same.
    Same(AttackConfig),
}

impl Default for Mix {
    /// The demo's mix around a sign flip scaled by 10.
    fn default() -> Self {
        Self::Demo(SignFlip::default().into())
    }
}

/// The clients of a study: honest ones and poisoned ones, numbered from 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Population {
    attacks: Vec<Option<AttackConfig>>,
}

/// Why a population cannot exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PopulationError {
    /// Nobody.
    #[error("clients = 0; give at least 1")]
    NoClients,
    /// More than everybody.
    #[error("poisoned = {poisoned} of clients = {clients}; poison at most {clients}")]
    TooManyPoisoned {
        /// Poisoned clients asked for.
        poisoned: usize,
        /// All clients.
        clients: usize,
    },
}

impl Population {
    /// `clients` clients of which `poisoned` attack.
    ///
    /// # Errors
    /// No clients, or more poisoned clients than clients. A poisoned majority is allowed: studies look for the cliff.
    pub fn new(
        clients: usize,
        poisoned: usize,
        placement: Placement,
        mix: &Mix,
        seed: u64,
    ) -> Result<Self, PopulationError> {
        if clients == 0 {
            return Err(PopulationError::NoClients);
        }
        if poisoned > clients {
            return Err(PopulationError::TooManyPoisoned { poisoned, clients });
        }
        let identities = match placement {
            Placement::First => (0..poisoned).collect(),
            Placement::Seeded => stream(seed, Purpose::Placement, 0, 0).choose(clients, poisoned),
        };
        let mut attacks = vec![None; clients];
        for (order, client) in identities.into_iter().enumerate() {
            attacks[client] = Some(mix.attack(order, poisoned));
        }
        Ok(Self { attacks })
    }

    /// Number of clients.
    pub fn clients(&self) -> usize {
        self.attacks.len()
    }

    /// What `client` runs; `None` if it is honest or does not exist.
    pub fn attack(&self, client: usize) -> Option<&AttackConfig> {
        self.attacks.get(client)?.as_ref()
    }

    /// Whether `client` is poisoned.
    pub fn is_poisoned(&self, client: usize) -> bool {
        self.attack(client).is_some()
    }

    /// The poisoned clients in increasing order.
    pub fn poisoned(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.clients()).filter(|&client| self.is_poisoned(client))
    }
}

impl Mix {
    /// The attack of poisoned client number `order` of `poisoned`.
    fn attack(&self, order: usize, poisoned: usize) -> AttackConfig {
        let from_last = poisoned - 1 - order;
        match self {
            Self::Demo(_) if from_last == 0 && poisoned >= 2 => NonFinite::default().into(),
            Self::Demo(_) if from_last == 1 && poisoned >= 3 => WrongShape::default().into(),
            Self::Demo(attack) | Self::Same(attack) => attack.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attacks::parse;

    fn kinds(poisoned: usize, mix: &Mix) -> Vec<&'static str> {
        let population = Population::new(20, poisoned, Placement::First, mix, 0).unwrap();
        population.poisoned().map(|client| population.attack(client).unwrap().info().kind).collect()
    }

    #[test]
    fn the_demo_mix_adds_nan_and_a_wrong_shape_when_there_are_enough() {
        let mix = Mix::default();
        assert_eq!(kinds(0, &mix), [""; 0]);
        assert_eq!(kinds(1, &mix), ["sign_flip"]);
        assert_eq!(kinds(2, &mix), ["sign_flip", "non_finite"]);
        assert_eq!(kinds(3, &mix), ["sign_flip", "wrong_shape", "non_finite"]);
        assert_eq!(kinds(5, &mix), ["sign_flip", "sign_flip", "sign_flip", "wrong_shape", "non_finite"]);
        assert_eq!(kinds(3, &Mix::Same(parse("ipm:2").unwrap())), ["ipm"; 3]);
    }

    #[test]
    fn placement_is_the_first_clients_or_a_choice_of_the_seed() {
        let mix = Mix::default();
        let chosen = |placement, seed| -> Vec<usize> {
            Population::new(20, 4, placement, &mix, seed).unwrap().poisoned().collect()
        };
        assert_eq!(chosen(Placement::First, 9), [0, 1, 2, 3]);
        assert_eq!(chosen(Placement::Seeded, 9), chosen(Placement::Seeded, 9));
        assert_eq!(chosen(Placement::Seeded, 9).len(), 4);
        assert!((0..5).any(|seed| chosen(Placement::Seeded, seed) != chosen(Placement::Seeded, 9)));
    }

    #[test]
    fn honest_and_unknown_clients_have_no_attack() {
        let population = Population::new(3, 1, Placement::First, &Mix::default(), 0).unwrap();
        assert!(population.is_poisoned(0) && !population.is_poisoned(1) && !population.is_poisoned(99));
        assert_eq!(population.clients(), 3);
    }

    #[test]
    fn impossible_populations_are_refused() {
        let message = |clients, poisoned| {
            Population::new(clients, poisoned, Placement::First, &Mix::default(), 0).unwrap_err().to_string()
        };
        assert!(message(0, 0).contains("clients = 0"));
        assert!(message(3, 4).contains("poisoned = 4 of clients = 3"));
        assert_eq!(Population::new(3, 3, Placement::Seeded, &Mix::default(), 1).unwrap().poisoned().count(), 3);
    }
}
