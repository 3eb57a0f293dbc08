//! Tree aggregation: the noise of a prefix sum is that of the nodes that make it up (Kairouz et al. 2021).
//!
//! Node noise comes from a seed of the whole run, by the node's number, so that it is drawn again instead of stored. The
//! run is charged up front; what a round releases is bound to its manifest by the ledger: one release per round.

use crate::{
    accountant::tree as accountant,
    budget::{Charge, ChargeMechanism},
    error::{ParameterError, within},
    noise::{NoiseSeed, NoiseStream, NoiseTable, Overflow},
    sensitivity::Adjacency,
};

/// Noise of one run.
#[derive(Debug)]
pub struct TreeNoise<'table> {
    table: &'table NoiseTable,
    seed: NoiseSeed,
    /// Digest of what defines the run: task, model, parameters.
    run: [u8; 32],
}

impl<'table> TreeNoise<'table> {
    /// `seed` is kept sealed until the run ends; `run` is the digest of the task.
    #[must_use]
    pub fn new(table: &'table NoiseTable, seed: NoiseSeed, run: [u8; 32]) -> Self {
        Self { table, seed, run }
    }

    /// Adds to `sums`, a unit of round `round` (from 1), the change of the prefix sum's noise: after adding up the
    /// released rounds 1..=t, the noise in the total is that of t's nodes, at most log₂ t + 1 of them.
    ///
    /// # Errors
    /// Sums beyond i64.
    pub fn add_to(&self, round: u64, unit: u64, sums: &mut [i64]) -> Result<(), Overflow> {
        let (old, new) = (nodes(round - 1), nodes(round));
        let mut noise = vec![0; sums.len()];
        for (level, index) in new.iter().filter(|node| !old.contains(node)) {
            self.stream(*level, *index, unit).add_to(sums)?;
        }
        for (level, index) in old.iter().filter(|node| !new.contains(node)) {
            self.stream(*level, *index, unit).fill(&mut noise);
            for (sum, value) in sums.iter_mut().zip(&noise) {
                *sum = sum.checked_sub(*value).ok_or(Overflow)?;
            }
        }
        Ok(())
    }

    fn stream(&self, level: u32, index: u64, unit: u64) -> NoiseStream<'table> {
        // Node and unit in one number: 64 levels and 2³⁴ units lie apart, the index in the digest.
        let mut node = self.run;
        for (byte, more) in node.iter_mut().zip(index.to_le_bytes().into_iter().chain(level.to_le_bytes())) {
            *byte ^= more;
        }
        NoiseStream::new(self.table, &self.seed.key(&node, self.table.sigma(), unit))
    }
}

/// The charge of a whole run: σ of a node over one contribution's Δ, times the participations' √Σcount².
///
/// # Errors
/// Parameters outside their limits.
pub fn charge(
    sigma_grid: u64,
    sensitivity_grid: u64,
    rounds: u64,
    participations: u32,
    separation: u64,
) -> Result<Charge, ParameterError> {
    let square = accountant::sensitivity_squared(rounds, participations, separation)?;
    // Σcount² releases of the same Δ have the same ρ, and no root has to be rounded.
    let releases = within("max_participation", square as f64, 1.0, f64::from(u32::MAX))? as u32;
    let mechanism = ChargeMechanism::Correlated { rounds, participations, separation };
    Charge::new(Adjacency::ZeroOut, mechanism, sigma_grid, sensitivity_grid, releases)
}

/// The dyadic nodes (level, index) that make up rounds 1..=t: the binary ones of t, from the left.
fn nodes(prefix: u64) -> Vec<(u32, u64)> {
    let mut nodes = Vec::new();
    let mut start = 0;
    for level in (0..64).rev() {
        if prefix >> level & 1 == 1 {
            nodes.push((level, start >> level));
            start += 1 << level;
        }
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Law;

    #[test]
    fn prefix_sums_carry_the_noise_of_their_nodes_alone() {
        let table = NoiseTable::new(Law::Rounded, 1000.0).unwrap();
        let noise = TreeNoise::new(&table, NoiseSeed::new([1; 32]), [2; 32]);
        let mut prefix = vec![0; 5];
        for round in 1..=20 {
            noise.add_to(round, 3, &mut prefix).unwrap();
            let mut expected = vec![0; 5];
            for (level, index) in nodes(round) {
                noise.stream(level, index, 3).add_to(&mut expected).unwrap();
            }
            assert_eq!(prefix, expected, "{round}");
        }
    }

    #[test]
    fn every_node_has_its_own_noise() {
        let table = NoiseTable::new(Law::Rounded, 1e6).unwrap();
        let noise = TreeNoise::new(&table, NoiseSeed::new([1; 32]), [2; 32]);
        let mut seen = std::collections::HashSet::new();
        for (level, index, unit) in [(0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1), (3, 2, 5)] {
            let mut value = [0; 2];
            noise.stream(level, index, unit).fill(&mut value);
            assert!(seen.insert(value));
        }
    }

    #[test]
    fn the_charge_counts_every_node_a_client_enters() {
        let charge = charge(7 << 24, 1 << 24, 2000, 6, 313).unwrap();
        assert_eq!(charge.releases, 79);
        let rho = charge.rho_units().unwrap() as f64 / (1_u64 << 40) as f64;
        assert!((rho - 79.0 / 98.0).abs() < 1e-9);
    }
}
