//! Tree aggregation: the noise of a prefix sum is that of the nodes that make it up (Kairouz et al. 2021).
//!
//! Step t completes one node, the largest dyadic block of steps that ends with t, and draws its noise Z_t. The prefix of t
//! steps is made up of the binary ones of t: step t adds Z_t and takes the noise of the m nodes away that its own node
//! replaces, where 2^m is the largest power of two that divides t: N_t = Z_t − Σ_{l<m} Z_{t−2^l}.
//!
//! Nothing is stored: Z_t comes from the run's seed and from the manifest of what step t summed, so that one noise never
//! meets two sums.

use crate::{
    accountant::tree as accountant,
    budget::{Charge, ChargeMechanism},
    error::{ParameterError, within},
    noise::{NoiseSeed, NoiseStream, NoiseTable, Overflow},
    sensitivity::Adjacency,
};
use zeroize::Zeroizing;

/// Adds to `noise`, a unit of the newest step, what it adds to the noise of the sum of all steps. `manifests` are those
/// of the steps 1, 2, … up to it; `seed` is the run's.
///
/// # Errors
/// Noise beyond i64.
pub fn add_noise(
    (table, seed): (&NoiseTable, &NoiseSeed),
    manifests: &[[u8; 32]],
    unit: u64,
    noise: &mut [i64],
) -> Result<(), Overflow> {
    let Some(newest) = manifests.last() else { return Ok(()) };
    let stream = |manifest| NoiseStream::new(table, &seed.key(manifest, table.sigma(), unit));
    stream(newest).add_to(noise)?;
    let mut node = Zeroizing::new(vec![0; noise.len()]);
    for level in 0..manifests.len().trailing_zeros() {
        stream(&manifests[manifests.len() - 1 - (1 << level)]).fill(&mut node);
        for (sum, value) in noise.iter_mut().zip(node.iter()) {
            *sum = sum.checked_sub(*value).ok_or(Overflow)?;
        }
    }
    Ok(())
}

/// Standard deviation of the noise in the sum of all steps, root mean square over the steps, for nodes of σ = 1.
#[must_use]
pub fn prefix_deviation(rounds: u64) -> f64 {
    let total: u64 = (1..=rounds).map(|step| u64::from(step.count_ones())).sum();
    (total as f64 / rounds.max(1) as f64).sqrt()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Law;
    use proptest::prelude::*;

    fn manifest(step: u64) -> [u8; 32] {
        [step as u8; 32]
    }

    /// The dyadic nodes that make up steps 1..=t, by the step that completes them: the binary ones of t, from the left.
    fn nodes(prefix: u64) -> Vec<u64> {
        let mut ends = Vec::new();
        for level in (0..64).rev().filter(|level| prefix >> level & 1 == 1) {
            ends.push(ends.last().copied().unwrap_or(0) + (1 << level));
        }
        ends
    }

    proptest! {
        #[test]
        fn prefix_sums_carry_the_noise_of_their_nodes_alone(steps in 1..130_u64, unit in 0..5_u64) {
            let table = NoiseTable::new(Law::Rounded, 1000.0).unwrap();
            let seed = NoiseSeed::new([1; 32]);
            let manifests: Vec<[u8; 32]> = (1..=steps).map(manifest).collect();
            let mut prefix = vec![0; 5];
            for step in 1..=manifests.len() {
                add_noise((&table, &seed), &manifests[..step], unit, &mut prefix).unwrap();
            }
            let mut expected = vec![0; 5];
            for end in nodes(steps) {
                let key = seed.key(&manifest(end), table.sigma(), unit);
                NoiseStream::new(&table, &key).add_to(&mut expected).unwrap();
            }
            prop_assert_eq!(prefix, expected);
        }
    }

    #[test]
    fn another_sum_in_a_step_gets_other_noise_in_its_node() {
        let table = NoiseTable::new(Law::Rounded, 1e6).unwrap();
        let noise = |newest: u8, unit| {
            let mut values = [0; 2];
            let manifests = [[1; 32], [newest; 32]];
            add_noise((&table, &NoiseSeed::new([1; 32])), &manifests, unit, &mut values).unwrap();
            values
        };
        assert_eq!(noise(2, 0), noise(2, 0));
        assert_ne!(noise(2, 0), noise(3, 0));
        assert_ne!(noise(2, 0), noise(2, 1));
    }

    #[test]
    fn the_noise_of_a_prefix_grows_with_its_binary_ones() {
        assert_eq!(prefix_deviation(1), 1.0);
        assert!((prefix_deviation(3) - (4.0_f64 / 3.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn the_charge_counts_every_node_a_client_enters() {
        let charge = charge(7 << 24, 1 << 24, 2000, 6, 313).unwrap();
        assert_eq!(charge.releases, 79);
        let rho = charge.rho_units().unwrap() as f64 / (1_u64 << 40) as f64;
        assert!((rho - 79.0 / 98.0).abs() < 1e-9);
    }
}
