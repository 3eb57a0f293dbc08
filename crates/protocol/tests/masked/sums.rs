//! Exact sums for any group, vector, survivors and cut into units.

use crate::harness::{Play, add, masked, session};
use proptest::prelude::*;
use testudo_aggregate::apply_masks;
use testudo_protocol::{Digest, secagg::Step};

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_unmasked_sum_is_the_sum_of_the_survivors_inputs(
        clients in 3usize..=40,
        size in 2usize..=40,
        dimension in 1usize..=700,
        bits in 2u32..=24,
        seed in 0u64..1 << 20,
        gone in prop::collection::vec((0usize..40, 1usize..5), 0..8),
    ) {
        let group_size = size.min(clients);
        let leaves = |number: usize, step: Step| {
            gone.iter().any(|&(who, at)| who == number && crate::harness::STEPS[at] == step)
        };
        let mut play = Play::of(clients, session(clients, group_size, dimension)).leaving(leaves);
        play.seed = seed;
        play.inputs = Box::new(move |number| {
            let word = |at: usize| Digest::of(&[seed, number as u64, at as u64].map(u64::to_le_bytes).concat()).0;
            (0..dimension).map(|at| u32::from_le_bytes(word(at)[..4].try_into().unwrap()) >> (32 - bits)).collect()
        });
        let outcome = play.run();
        outcome.assert_exact();
        prop_assert!(outcome.closed || outcome.sums.is_empty());
    }

    #[test]
    fn masks_applied_unit_by_unit_are_the_masks_of_the_whole(
        dimension in 1usize..=1000,
        cuts in prop::collection::vec(1usize..=300, 1..20),
    ) {
        let mut play = Play::of(5, session(5, 5, dimension));
        play.sends = Box::new(move |_, masks, plain| {
            let whole = masked(masks, plain.clone());
            let mut pieces = plain;
            let (mut start, mut lengths) = (0, cuts.iter().cycle());
            while start < pieces.len() {
                let end = (start + lengths.next().unwrap()).min(pieces.len());
                apply_masks(&mut pieces[start..end], start, masks).unwrap();
                start = end;
            }
            assert_eq!(whole, pieces);
            Some(pieces)
        });
        let outcome = play.run();
        outcome.assert_exact();
        prop_assert_eq!(outcome.sums.len(), 1);
    }
}

#[test]
fn sums_wrap_and_come_back() {
    // Two inputs at the top of the ring: the sum is taken mod 2^32.
    let mut play = Play::of(3, session(3, 3, 4));
    play.inputs = Box::new(|number| vec![u32::MAX - number as u32; 4]);
    let outcome = play.run();
    outcome.assert_exact();
    let mut sum = vec![0; 4];
    (0..3).for_each(|number| add(&mut sum, &[u32::MAX - number; 4]));
    assert_eq!(outcome.sums[0].sum, sum);
}
