use super::*;
use proptest::prelude::*;

#[test]
fn impossible_assignments_are_refused_with_what_to_change() {
    let seed = Digest([0; 32]);
    assert_eq!(
        assign(&seed, 0, 8).unwrap_err().to_string(),
        "0 clients: between 1 and 100000 can be assigned to groups"
    );
    assert_eq!(assign(&seed, 100_001, 8), Err(BadAssignment::Count { count: 100_001 }));
    assert_eq!(assign(&seed, 8, 0), Err(BadAssignment::GroupSize));
    assert_eq!(place(&seed, 8, 4, 8), Err(BadAssignment::Position { position: 8, count: 8 }));
    assert_eq!(place(&seed, u32::MAX, 4, 8), Err(BadAssignment::Count { count: u32::MAX }));
}

#[test]
fn fewer_clients_than_one_group_form_one() {
    let groups = assign(&Digest([1; 32]), 5, 8).unwrap();
    assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [5]);
}

#[test]
fn every_contribution_changes_the_seed() {
    let seeds = [
        seed(&Digest([0; 32]), &[0; 32], &Digest([0; 32]), 9),
        seed(&Digest([1; 32]), &[0; 32], &Digest([0; 32]), 9),
        seed(&Digest([0; 32]), &[1; 32], &Digest([0; 32]), 9),
        seed(&Digest([0; 32]), &[0; 32], &Digest([1; 32]), 9),
        seed(&Digest([0; 32]), &[0; 32], &Digest([0; 32]), 8),
    ];
    for (i, seed) in seeds.iter().enumerate() {
        assert!(!seeds[..i].contains(seed));
    }
}

#[test]
fn every_order_of_four_clients_is_equally_likely() {
    let mut seen = std::collections::BTreeMap::new();
    for trial in 0u32..24_000 {
        let order = shuffle(&Digest::of(&trial.to_le_bytes()), 4);
        *seen.entry(order).or_insert(0u32) += 1;
    }
    assert_eq!(seen.len(), 24);
    let chi_squared: f64 = seen.values().map(|&count| (f64::from(count) - 1_000.0).powi(2) / 1_000.0).sum();
    // 23 degrees of freedom: exceeded once in a million sequences of trials.
    assert!(chi_squared < 72.0, "{chi_squared}");
}

#[test]
fn words_that_would_favour_small_numbers_are_skipped() {
    /// Returns the given words, then zeros.
    struct Words(Vec<u32>);
    impl rand_chacha::rand_core::TryRng for Words {
        type Error = std::convert::Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            Ok(self.0.pop().unwrap_or(0))
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            unreachable!("only words are drawn")
        }
        fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), Self::Error> {
            unreachable!("only words are drawn")
        }
    }
    // 2^32 is 1 modulo 3: the last word is skipped.
    assert_eq!(below(&mut Words(vec![u32::MAX - 1, u32::MAX]), 3), (u32::MAX - 1) % 3);
    // 2^32 is 0 modulo 4: none is.
    assert_eq!(below(&mut Words(vec![u32::MAX]), 4), 3);
    // 2^32 is 2^31 − 1 modulo 2^31 + 1.
    assert_eq!(below(&mut Words(vec![7, 1 << 31 | 1]), (1 << 31) + 1), 7);
    assert_eq!(below(&mut Words(vec![1 << 31]), (1 << 31) + 1), 1 << 31);
}

proptest! {
    #[test]
    fn everybody_has_one_place_in_groups_of_almost_equal_size(seed: [u8; 32], count in 1u32..300, group_size in 1u32..40) {
        let seed = Digest(seed);
        let groups = assign(&seed, count, group_size).unwrap();
        prop_assert_eq!(groups.len() as u32, (count / group_size).max(1));
        let lengths = groups.iter().map(Vec::len);
        prop_assert!(lengths.clone().max().unwrap() - lengths.clone().min().unwrap() <= 1);
        prop_assert!(count < group_size || lengths.min().unwrap() >= group_size as usize);
        let mut all: Vec<u32> = groups.concat();
        all.sort_unstable();
        prop_assert!(all.into_iter().eq(0..count));
        for (group, roster) in (0..).zip(&groups) {
            for (index, &position) in (0..).zip(roster) {
                let expected = Place { group, index, group_len: roster.len() as u32 };
                prop_assert_eq!(place(&seed, count, group_size, position), Ok(expected));
            }
        }
    }
}
