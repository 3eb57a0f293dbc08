//! Drawing a cohort among the clients that checked in.

use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};
use testudo_protocol::ClientId;

/// Draws `count` clients uniformly without replacement; the result is sorted by id.
///
/// The candidates are sorted first, so the draw depends on the seed and on who is there, not on who came first.
/// Partial Fisher-Yates with rejection sampling; a count over the number of candidates takes all.
pub fn select(seed: [u8; 32], mut candidates: Vec<ClientId>, count: usize) -> Vec<ClientId> {
    candidates.sort();
    candidates.dedup();
    let mut random = ChaCha20Rng::from_seed(seed);
    let count = count.min(candidates.len());
    for place in 0..count {
        let other = place + below(&mut random, (candidates.len() - place) as u64) as usize;
        candidates.swap(place, other);
    }
    candidates.truncate(count);
    candidates.sort();
    candidates
}

/// A uniform number below a positive bound.
pub(crate) fn below(random: &mut ChaCha20Rng, bound: u64) -> u64 {
    let reject_from = u64::MAX - u64::MAX % bound;
    loop {
        let draw = random.next_u64();
        if draw < reject_from {
            return draw % bound;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(count: usize) -> Vec<ClientId> {
        (0..count).map(|number| ClientId::new(format!("client-{number}")).unwrap()).collect()
    }

    #[test]
    fn the_draw_does_not_depend_on_the_order_of_arrival() {
        let forward = select([7; 32], clients(20), 5);
        let mut reversed = clients(20);
        reversed.reverse();
        assert_eq!(select([7; 32], reversed, 5), forward);
        assert_ne!(select([8; 32], clients(20), 5), forward);
        assert!(forward.is_sorted() && forward.len() == 5);
    }

    #[test]
    fn every_client_is_drawn_about_equally_often() {
        let mut counts = std::collections::BTreeMap::new();
        for round in 0..2000u32 {
            let mut seed = [0; 32];
            seed[..4].copy_from_slice(&round.to_le_bytes());
            for client in select(seed, clients(10), 3) {
                *counts.entry(client).or_insert(0) += 1;
            }
        }
        assert_eq!(counts.len(), 10);
        // Mean 600, standard deviation about 20.5: six of them.
        assert!(counts.values().all(|&count| (477..=723).contains(&count)), "{counts:?}");
    }

    #[test]
    fn more_than_there_are_takes_all() {
        assert_eq!(select([1; 32], clients(3), 9).len(), 3);
        assert!(select([1; 32], vec![], 9).is_empty());
    }
}
