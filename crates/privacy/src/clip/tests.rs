use super::*;
use crate::noise::{Law, NoiseKey, NoiseTable};
use proptest::prelude::*;

fn grid(clip: f64, bits: u32) -> Grid {
    Grid::new(clip, bits, 1.0, 1 << 20).unwrap()
}

/// Adds one update to zeros: what was added, and its exact energy.
fn once<T: Coordinate>(grid: Grid, update: &[T]) -> (Contribution, Vec<i64>, u128) {
    let mut sum = ClippedSum::new(grid, update.len());
    let contribution = sum.add(update).unwrap();
    let energy = sum.sums.iter().map(|q| u128::from(q.unsigned_abs()).pow(2)).sum();
    (contribution, sum.sums.clone(), energy)
}

fn any_f32() -> impl Strategy<Value = f32> {
    prop_oneof![
        -10.0..10.0_f32,
        Just(f32::MAX),
        Just(f32::MIN),
        Just(f32::MIN_POSITIVE),
        Just(1e-45_f32),
        Just(-1e-45_f32),
        Just(0.0_f32),
        any::<u32>().prop_map(f32::from_bits),
    ]
}

fn any_f64() -> impl Strategy<Value = f64> {
    prop_oneof![-10.0..10.0_f64, Just(f64::MAX), Just(5e-324), any::<u64>().prop_map(f64::from_bits)]
}

proptest! {
    #[test]
    fn the_integer_norm_never_exceeds_the_clip(
        update in prop::collection::vec(any_f32(), 1..200), bits in 1..=31_u32, log_clip in -29.0..29.0_f64,
    ) {
        let grid = grid(10_f64.powf(log_clip), bits.min(31));
        let (contribution, values, energy) = once(grid, &update);
        prop_assert!(energy <= grid.most_energy());
        prop_assert_ne!(contribution, Contribution::Unclippable);
        let finite = update.iter().all(|value| value.is_finite());
        prop_assert_eq!(contribution == Contribution::NotFinite, !finite);
        prop_assert!(finite || values.iter().all(|value| *value == 0));
    }

    #[test]
    fn the_integer_norm_never_exceeds_the_clip_in_double_precision(
        update in prop::collection::vec(any_f64(), 1..60), bits in 1..=31_u32,
    ) {
        let grid = grid(1.0, bits);
        let (_, _, energy) = once(grid, &update);
        prop_assert!(energy <= grid.most_energy());
    }

    #[test]
    fn sums_do_not_depend_on_order_or_on_how_they_are_split(
        updates in prop::collection::vec(prop::collection::vec(-2.0..2.0_f32, 50), 2..8), cut in 1..49_usize,
    ) {
        let grid = grid(1.0, 24);
        let mut forward = ClippedSum::new(grid, 50);
        let mut backward = ClippedSum::new(grid, 50);
        for update in &updates {
            forward.add(update).unwrap();
        }
        for update in updates.iter().rev() {
            let mut part = ClippedSum::new(grid, 50);
            part.add(update).unwrap();
            backward.merge(&part).unwrap();
        }
        prop_assert_eq!(&forward.sums, &backward.sums);
        // Unit by unit, with the factor found on the whole.
        let (mut head, mut tail) = (ClippedSum::new(grid, cut), ClippedSum::new(grid, 50 - cut));
        for update in &updates {
            let (factor, _) = grid.factor(update).unwrap();
            let energy = grid.energy(&update[..cut], factor) + grid.energy(&update[cut..], factor);
            prop_assert!(energy <= grid.most_energy());
            head.add_checked(&update[..cut], factor).unwrap();
            tail.add_checked(&update[cut..], factor).unwrap();
        }
        prop_assert_eq!(forward.sums.clone(), [head.sums.clone(), tail.sums.clone()].concat());
    }
}

#[test]
fn updates_at_the_ends_of_the_range_keep_the_norm() {
    for bits in [1, 24, 31] {
        let grid = grid(1.0, bits);
        for value in [f32::MAX, -f32::MAX, 1e-45, f32::MIN_POSITIVE, 1.0] {
            let (_, _, energy) = once(grid, &vec![value; 10_000]);
            assert!(energy <= grid.most_energy(), "{value} {bits}");
        }
        for value in [f64::MAX, 5e-324, 1e-200, 1e200] {
            let (contribution, _, energy) = once(grid, &vec![value; 1000]);
            assert!(energy <= grid.most_energy(), "{value} {bits}");
            assert_ne!(contribution, Contribution::NotFinite, "{value}");
        }
    }
}

#[test]
fn a_clipped_update_keeps_its_direction_and_nearly_the_whole_clip() {
    let update: Vec<f32> = (0..1000).map(|index| (index as f32 - 500.0) * 1e30).collect();
    let grid = grid(2.0, 24);
    let (contribution, values, energy) = once(grid, &update);
    assert_eq!(contribution, Contribution::Clipped);
    assert!(energy as f64 > 0.9999 * grid.most_energy() as f64);
    assert!(values[..500].iter().all(|value| *value < 0) && values[501..].iter().all(|value| *value > 0));
    let huge: Vec<f64> = update.iter().map(|value| f64::from(*value) * 1e270).collect();
    let (_, same, _) = once(grid, &huge);
    assert!(values.iter().zip(&same).all(|(left, right)| (left - right).abs() <= 2));
}

#[test]
fn what_is_not_finite_adds_nothing_and_still_counts() {
    let mut sum = ClippedSum::new(grid(1.0, 24), 3);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(sum.add(&[1.0, bad, 0.0]).unwrap(), Contribution::NotFinite);
    }
    assert_eq!(sum.add(&[0.0_f32; 3]).unwrap(), Contribution::Whole);
    assert_eq!((sum.added(), &sum.sums[..]), (4, &[0, 0, 0][..]));
}

#[test]
fn a_zero_update_and_an_empty_round_are_noised_all_the_same() {
    let grid = grid(1.0, 10);
    let table = NoiseTable::new(Law::Rounded, grid.sigma()).unwrap();
    let mut stream = NoiseStream::new(&table, &NoiseKey::new([1; 32]));
    let noised = ClippedSum::new(grid, 100).noised(&mut stream).unwrap();
    assert!(noised.values().iter().filter(|value| **value != 0).count() > 90);
    // The denominator is the planned one, whoever replied.
    let mean: Vec<f64> = noised.release(50.0).collect();
    assert_eq!(mean[0], noised.values()[0] as f64 * (1.0 / 1024.0 / 50.0));
}

#[test]
fn more_contributions_than_planned_are_refused() {
    let grid = Grid::new(1.0, 24, 1.0, 2).unwrap();
    let mut sum = ClippedSum::new(grid, 1);
    sum.add(&[0.5_f32]).unwrap();
    sum.add(&[0.5_f32]).unwrap();
    assert_eq!(sum.add(&[0.5_f32]).unwrap_err().key, "cohort");
    let mut other = ClippedSum::new(grid, 1);
    other.add(&[0.5_f32]).unwrap();
    assert!(sum.merge(&other).is_err());
    assert!(sum.add(&[0.5_f32, 0.5]).is_err());
}

#[test]
fn grids_whose_sums_could_overflow_are_refused() {
    assert_eq!(Grid::new(1.0, 32, 1.0, 1).unwrap_err().key, "grid_bits");
    assert_eq!(Grid::new(1.0, 31, 100.0, 1).unwrap_err().key, "grid_bits");
    assert_eq!(Grid::new(1.0, 31, 1.0, 1 << 31).unwrap_err().key, "cohort");
    assert_eq!(Grid::new(f64::NAN, 24, 1.0, 1).unwrap_err().key, "clip_l2");
    assert_eq!(Grid::new(0.0, 24, 1.0, 1).unwrap_err().key, "clip_l2");
    assert_eq!(Grid::new(1.0, 24, f64::NAN, 1).unwrap_err().key, "noise_multiplier");
    assert_eq!(Grid::new(1.0, 24, 1.1, 100).unwrap().sigma(), (1.1_f64 * 16_777_216.0).ceil());
}

#[test]
fn sums_are_not_printed() {
    let mut sum = ClippedSum::new(grid(1.0, 24), 1);
    sum.add(&[0.123_f32]).unwrap();
    assert!(!format!("{sum:?}").contains("sums"));
}
