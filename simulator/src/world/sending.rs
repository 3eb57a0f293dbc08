//! What a cohort sends in one round, before anything of it has left.

use std::sync::Arc;

use testudo_protocol::{Model, Tick};

use super::World;
use crate::attack::Tamper;
use crate::network;

/// A round whose clients have trained and forged.
#[derive(Clone, Debug)]
pub struct Sending {
    /// The round, from 1.
    pub round: u64,
    /// The clients selected, in increasing order.
    pub cohort: Vec<usize>,
    /// What each of them sends that sends anything, by client.
    pub parcels: Vec<Parcel>,
    /// The honest clients' updates.
    pub(super) honest: Vec<Vec<f32>>,
    /// The model they trained from.
    pub(super) before: Arc<Model>,
}

/// One client's update on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Parcel {
    /// Whose.
    pub client: usize,
    /// Virtual milliseconds from the start of the round to its arrival.
    pub at: Tick,
    /// The update, d values unless its shape is wrong.
    pub values: Vec<f32>,
    /// The claimed number of examples.
    pub examples: u64,
    /// How its messages differ from an honest client's.
    pub tamper: Tamper,
}

impl World {
    pub(super) fn parcels(&self, round: u64, present: &[usize], rows: Vec<Vec<f32>>) -> Vec<Parcel> {
        let plan = &self.scenario.plan;
        (present.iter().zip(rows))
            .map(|(&client, values)| {
                let tamper = self.tamper(round, client);
                let at = match tamper {
                    Tamper::Late { by_ms } => self.deadline().saturating_add(by_ms),
                    _ => network::arrival(&plan.network, plan.seed, round, client),
                };
                let examples = match tamper {
                    Tamper::Examples { claimed } => claimed,
                    _ => (self.data.of(client).len() as u64).max(1),
                };
                Parcel { client, at, values, examples, tamper }
            })
            .collect()
    }
}
