use super::*;
use proptest::prelude::*;
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};

fn randomness(seed: u64) -> impl FnMut(&mut [u8]) {
    let mut stream = ChaCha20Rng::seed_from_u64(seed);
    move |bytes: &mut [u8]| stream.fill_bytes(bytes)
}

fn placed(shares: Vec<Share>) -> Vec<(u32, Share)> {
    (0..).zip(shares).collect()
}

/// Replaces one value of a share by another field element.
fn spoil(share: &mut Share, limb: usize, by: u64) {
    share.0[limb] = field::add(share.0[limb], by);
}

#[test]
fn limbs_hold_every_bit_of_the_secret_once() {
    for bit in 0..256 {
        let mut secret = [0; 32];
        secret[bit / 8] = 1 << (bit % 8);
        let limbs = split(&secret);
        let expected = (bit / 52, 1u64 << (bit % 52));
        for (limb, &value) in limbs.iter().enumerate() {
            assert_eq!(value, if limb == expected.0 { expected.1 } else { 0 }, "bit {bit}, limb {limb}");
        }
        assert_eq!(*join(&limbs).unwrap(), secret);
    }
    assert_eq!(*join(&split(&[0xff; 32])).unwrap(), [0xff; 32]);
}

#[test]
fn limbs_too_wide_for_a_secret_are_refused() {
    for limb in 0..LIMBS {
        let mut limbs = [0; LIMBS];
        limbs[limb] = 1 << if limb == 4 { 48 } else { 52 };
        assert_eq!(join(&limbs), Err(ShamirError::TooWide), "{limb}");
        limbs[limb] -= 1;
        assert!(join(&limbs).is_ok());
    }
}

#[test]
fn shares_that_are_not_five_field_elements_are_refused() {
    let share = share(&[1; 32], 2, 2, &mut randomness(0)).unwrap().remove(0);
    let bytes = share.to_bytes();
    assert_eq!(Share::from_bytes(&*bytes), Ok(share));
    for length in [0, 39, 41, 48] {
        assert_eq!(Share::from_bytes(&vec![0; length]), Err(ShamirError::NotCanonical));
    }
    for limb in 0..LIMBS {
        for (value, good) in [(P - 1, true), (P, false), (P + 1, false), (u64::MAX, false)] {
            let mut bytes = *bytes;
            bytes[8 * limb..8 * limb + 8].copy_from_slice(&value.to_le_bytes());
            assert_eq!(Share::from_bytes(&bytes).is_ok(), good, "{value} in limb {limb}");
        }
    }
}

#[test]
fn thresholds_that_protect_nothing_or_cannot_be_met_are_refused() {
    for (threshold, count) in [(0, 3), (1, 3), (4, 3), (2, 0), (2, 1), (2, 100_001), (u32::MAX, u32::MAX)] {
        let error = share(&[0; 32], threshold, count, &mut randomness(0)).unwrap_err();
        assert_eq!(error, ShamirError::Threshold { threshold, count: count as usize });
    }
    assert_eq!(share_at(&[0; 32], 2, &[3, 5, 3], &mut randomness(0)), Err(ShamirError::Twice { index: 3 }));
    assert_eq!(Weights::new(&[3, 5, 3]), Err(ShamirError::Twice { index: 3 }));
    assert!(matches!(Weights::new(&[]), Err(ShamirError::Threshold { .. })));
}

#[test]
fn too_few_shares_rebuild_nothing() {
    let shares = placed(share(&[9; 32], 3, 5, &mut randomness(1)).unwrap());
    assert_eq!(reconstruct(&shares[..2], 3), Err(ShamirError::TooFew { have: 2, need: 3 }));
    let weights = Weights::new(&[0, 1, 2]).unwrap();
    let error = weights.reconstruct(shares[..2].iter().map(|(_, share)| share)).unwrap_err();
    assert_eq!(error, ShamirError::TooFew { have: 2, need: 3 });
    assert!(decode(&shares[..2], 3, &|_| true).is_err());
    let twice = [shares[0].clone(), shares[1].clone(), shares[0].clone()];
    assert_eq!(reconstruct(&twice, 3), Err(ShamirError::Twice { index: 0 }));
    assert!(matches!(decode(&twice, 3, &|_| true), Err(ShamirError::Twice { index: 0 })));
}

#[test]
fn the_excluded_value_is_drawn_again() {
    // Every first draw is the excluded value, every later one is 1.
    let mut calls = 0;
    let mut random = |bytes: &mut [u8]| {
        bytes.fill(if calls == 0 { 0xff } else { 0 });
        if calls > 0 {
            bytes[0] = 1;
        }
        calls += 1;
    };
    let shares = share(&[0; 32], 2, 2, &mut random).unwrap();
    assert_eq!(calls, 1 + LIMBS, "one draw for all, then one for each excluded value");
    assert_eq!(*shares[0].0, [1; LIMBS]);
    assert_eq!(*shares[1].0, [2; LIMBS]);
}

#[test]
fn fewer_shares_than_the_threshold_fit_every_secret() {
    // With t − 1 shares and any claimed secret there is exactly one polynomial: its other shares rebuild the claim.
    let (threshold, count) = (4, 6);
    let known = placed(share(&[0xaa; 32], threshold, count, &mut randomness(2)).unwrap());
    for claim in [[0; 32], [1; 32], [0xff; 32]] {
        let points = [0, 1, 2].map(field::point);
        let limbs = split(&claim);
        let at = field::point(5);
        // Lagrange interpolation through (0, claim) and the three known shares, evaluated at the last place.
        let mut forged = [0; LIMBS];
        for (limb, value) in forged.iter_mut().enumerate() {
            let mut nodes = vec![(0, limbs[limb])];
            nodes.extend(points.iter().zip(&known).map(|(&x, (_, share))| (x, share.0[limb])));
            for &(x, y) in &nodes {
                let mut term = y;
                for &(other, _) in nodes.iter().filter(|&&(other, _)| other != x) {
                    let factor = field::mul(field::sub(at, other), field::invert(field::sub(x, other)));
                    term = field::mul(term, factor);
                }
                *value = field::add(*value, term);
            }
        }
        let mut shares = known[..3].to_vec();
        shares.push((5, Share(Zeroizing::new(forged))));
        assert_eq!(*reconstruct(&shares, threshold).unwrap(), claim);
    }
}

#[test]
fn shares_of_one_place_take_every_value_whatever_the_secret() {
    // Mean of the top bit of single shares of two extreme secrets: 4,000 coins each.
    for secret in [[0; 32], [0xff; 32]] {
        let mut random = randomness(3);
        let ones: u32 = (0..800)
            .map(|_| share(&secret, 2, 2, &mut random).unwrap()[0].0.iter().filter(|&&v| v >> 60 == 1).count() as u32)
            .sum();
        assert!((1_800..2_200).contains(&ones), "{ones} of 4,000");
    }
}

#[test]
fn nothing_secret_is_printed() {
    let shares = share(&[7; 32], 2, 2, &mut randomness(4)).unwrap();
    assert_eq!(format!("{shares:?}"), "[Share(…), Share(…)]");
}

#[test]
fn one_wrong_share_too_many_is_an_error_and_not_another_secret() {
    let secret = [5; 32];
    let mut shares = placed(share(&secret, 3, 7, &mut randomness(5)).unwrap());
    for (_, share) in &mut shares[..2] {
        spoil(share, 1, 1);
    }
    assert!(decode(&shares, 3, &|candidate| candidate == &secret).is_ok());
    spoil(&mut shares[2].1, 1, 1);
    let error = decode(&shares, 3, &|candidate| candidate == &secret).err().unwrap();
    assert_eq!(error.to_string(), "more wrong shares than the 2 that 7 shares can correct");
}

#[test]
fn a_single_share_beyond_the_threshold_tells_a_wrong_one_but_not_which() {
    let mut shares = placed(share(&[5; 32], 3, 4, &mut randomness(7)).unwrap());
    assert_eq!(*decode(&shares, 3, &|_| true).unwrap().secret, [5; 32]);
    for limb in 0..LIMBS {
        // Even when every candidate would be believed.
        let good = shares[1].1.clone();
        spoil(&mut shares[1].1, limb, 1);
        assert!(decode(&shares, 3, &|_| true).is_err(), "{limb}");
        shares[1].1 = good;
    }
}

#[test]
fn too_many_wrong_shares_are_told_even_when_every_candidate_would_be_believed() {
    for extra in 2..8 {
        let mut shares = placed(share(&[5; 32], 3, 3 + extra, &mut randomness(8)).unwrap());
        for (by, (_, share)) in (1..).zip(&mut shares[..extra as usize / 2 + 1]) {
            spoil(share, 2, by);
        }
        assert!(decode(&shares, 3, &|_| true).is_err(), "{extra}");
    }
}

#[test]
fn a_consistent_secret_that_does_not_verify_is_refused() {
    let shares = placed(share(&[5; 32], 3, 7, &mut randomness(6)).unwrap());
    assert!(matches!(decode(&shares, 3, &|_| false), Err(ShamirError::Undecodable { .. })));
}

#[test]
fn shares_of_zero_and_all_zero_shares_decode() {
    let mut zero = |bytes: &mut [u8]| bytes.fill(0);
    let mut shares = placed(share(&[0; 32], 2, 6, &mut zero).unwrap());
    assert_eq!(decode(&shares, 2, &|_| true).unwrap().bad, [0u32; 0]);
    spoil(&mut shares[3].1, 0, 1);
    spoil(&mut shares[4].1, 4, P - 1);
    let decoded = decode(&shares, 2, &|_| true).unwrap();
    assert_eq!((*decoded.secret, decoded.bad), ([0; 32], vec![3, 4]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_shares_as_many_as_the_threshold_rebuild_the_secret(
        secret: [u8; 32], count in 2u32..40, threshold in 2u32..40, seed: u64,
    ) {
        let threshold = threshold.min(count);
        let mut stream = ChaCha20Rng::seed_from_u64(seed);
        let mut shares = placed(share(&secret, threshold, count, &mut randomness(seed)).unwrap());
        for last in (1..shares.len()).rev() {
            shares.swap(last, stream.next_u32() as usize % (last + 1));
        }
        prop_assert_eq!(*reconstruct(&shares, threshold).unwrap(), secret);
    }

    #[test]
    fn sharing_at_places_is_sharing_among_all_of_them(secret: [u8; 32], seed: u64) {
        let all = share(&secret, 3, 20, &mut randomness(seed)).unwrap();
        let places = [17, 2, 9, 11];
        let some = share_at(&secret, 3, &places, &mut randomness(seed)).unwrap();
        for (place, share) in places.into_iter().zip(some) {
            prop_assert_eq!(&share, &all[place as usize]);
        }
    }

    #[test]
    fn weights_serve_every_secret_of_the_same_places(a: [u8; 32], b: [u8; 32], seed: u64) {
        let places = [4, 1, 7, 30];
        let weights = Weights::new(&places).unwrap();
        for secret in [a, b] {
            let shares = share_at(&secret, 4, &places, &mut randomness(seed)).unwrap();
            prop_assert_eq!(*weights.reconstruct(&shares).unwrap(), secret);
        }
    }

    #[test]
    fn wrong_shares_within_the_radius_are_corrected_and_named(
        secret: [u8; 32], threshold in 2u32..12, extra in 0u32..14, seed: u64,
    ) {
        let count = threshold + extra;
        let mut stream = ChaCha20Rng::seed_from_u64(seed);
        let mut shares = placed(share(&secret, threshold, count, &mut randomness(seed)).unwrap());
        let wrong = stream.next_u32() % (extra / 2 + 1);
        let mut expected = Vec::new();
        while expected.len() < wrong as usize {
            let place = stream.next_u32() % count;
            if !expected.contains(&place) {
                expected.push(place);
                // Some errors touch one limb only, others all of them.
                for limb in 0..=stream.next_u32() as usize % LIMBS {
                    spoil(&mut shares[place as usize].1, limb, 1 + stream.next_u64() % (P - 1));
                }
            }
        }
        expected.sort_unstable();
        let decoded = decode(&shares, threshold, &|candidate| candidate == &secret).unwrap();
        prop_assert_eq!(*decoded.secret, secret);
        prop_assert_eq!(decoded.bad, expected);
    }

    #[test]
    fn shares_read_what_they_write(values in proptest::array::uniform5(0..P)) {
        let share = Share(Zeroizing::new(values));
        prop_assert_eq!(Share::from_bytes(&*share.to_bytes()).unwrap(), share);
    }
}
