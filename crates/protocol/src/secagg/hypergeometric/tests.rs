use super::*;
use proptest::prelude::*;

/// Logarithms to base 2 of tails computed with exact rational numbers: population, marked, drawn, x, P[X > x].
const EXACT: [(u64, u64, u64, u64, f64); 9] = [
    (1000, 100, 32, 19, -42.75861149019694),
    (1000, 100, 32, 31, -113.63235083691976),
    (1000, 175, 32, 24, -44.96329969528019),
    (10000, 1000, 122, 47, -57.256457182472325),
    (10000, 500, 96, 40, -92.25771828205639),
    (100000, 10000, 1000, 300, -231.67873155767646),
    (100000, 20000, 300, 200, -229.16169224088148),
    (1000, 333, 218, 130, -65.42253260197069),
    (10000, 9000, 778, 650, -5.567978472863141e-09),
];

#[test]
fn small_distributions_are_the_textbook_ones() {
    // Two aces in five cards: C(4,2)·C(48,3)/C(52,5).
    let aces = Tails::hypergeometric(52, 4, 5);
    let exactly_two = aces.at_least(2).value() - aces.above(2).value();
    assert!((exactly_two - 103_776.0 / 2_598_960.0).abs() < 1e-15);
    let coins = Tails::binomial(3, 0.5);
    for (x, (above, below)) in (0..).zip([(0.875, 0.0), (0.5, 0.125), (0.125, 0.5), (0.0, 0.875), (0.0, 1.0)]) {
        assert!((coins.above(x).value() - above).abs() < 1e-15, "{x}");
        assert!((coins.below(x).value() - below).abs() < 1e-15, "{x}");
    }
}

#[test]
fn deep_tails_are_exact() {
    for (population, marked, drawn, x, expected) in EXACT {
        let found = Tails::hypergeometric(population, marked, drawn).above(x).log2();
        // 1e-9 relative in the probability is 1.4e-9 in its logarithm.
        assert!((found - expected).abs() < 1e-10, "{found} for {expected}");
    }
}

#[test]
fn degenerate_distributions_have_all_their_mass_in_one_point() {
    for (tails, point) in [
        (Tails::hypergeometric(10, 0, 5), 0),
        (Tails::hypergeometric(10, 10, 5), 5),
        (Tails::hypergeometric(10, 3, 10), 3),
        (Tails::hypergeometric(0, 0, 0), 0),
        (Tails::hypergeometric(3, 9, 9), 3),
        (Tails::binomial(7, 0.0), 0),
        (Tails::binomial(7, 1.0), 7),
        (Tails::binomial(7, f64::NAN), 7),
        (Tails::binomial(0, 0.5), 0),
    ] {
        assert_eq!(tails.above(point), Probability::ZERO);
        assert_eq!(tails.at_least(point), Probability::ONE);
        assert_eq!(tails.below(point), Probability::ZERO);
        assert_eq!(tails.at_most(point), Probability::ONE);
        assert_eq!(tails.at_most(u64::MAX), Probability::ONE);
        assert_eq!(tails.above(u64::MAX), Probability::ZERO);
        assert_eq!(tails.above(u64::MAX - 1), Probability::ZERO);
    }
}

#[test]
fn logarithms_reach_beyond_the_range_of_floating_point_numbers() {
    // All of 2,000 fair coins show heads: 2^−2000.
    let tails = Tails::binomial(2_000, 0.5);
    assert!((tails.above(1_999).log2() + 2_000.0).abs() < 1e-9);
    assert!((tails.below(1).ln() + 2_000.0 * std::f64::consts::LN_2).abs() < 1e-9);
    assert_eq!(tails.above(1_999).value(), 0.0);
    assert_eq!(tails.above(2_000).log2(), f64::NEG_INFINITY);
}

#[test]
fn probabilities_print_and_add_as_numbers_do() {
    for value in [1.0, 0.75, 1e-300, f64::MIN_POSITIVE, 5e-324, 3.0, 0.0] {
        assert_eq!(Probability::new(value).value(), value);
    }
    assert_eq!((Probability::new(0.75) + Probability::new(0.5)).value(), 1.25);
    assert_eq!((Probability::new(1.0) + Probability::new(1e-300)).value(), 1.0);
    assert_eq!((Probability::new(0.75) * 0.5).value(), 0.375);
    assert_eq!(Probability::new(f64::NAN), Probability::ZERO);
}

proptest! {
    #[test]
    fn both_tails_together_are_one(population in 1u64..3_000, marked in 0u64..3_000, drawn in 0u64..3_000, x in 0u64..3_000) {
        let tails = Tails::hypergeometric(population, marked, drawn);
        prop_assert!((tails.above(x).value() + tails.at_most(x).value() - 1.0).abs() < 1e-12);
        prop_assert!((tails.below(x).value() + tails.at_least(x).value() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn marked_and_drawn_may_change_places(population in 1u64..500, marked in 0u64..500, drawn in 0u64..500, x in 0u64..500) {
        let (one, other) = (marked.min(population), drawn.min(population));
        let a = Tails::hypergeometric(population, one, other).above(x).log2();
        let b = Tails::hypergeometric(population, other, one).above(x).log2();
        prop_assert!(a == b || (a - b).abs() < 1e-10, "{} {}", a, b);
    }

    #[test]
    fn leaving_out_the_far_ends_changes_no_tail_that_matters(
        population in 1u64..3_000, marked in 0u64..3_000, drawn in 0u64..3_000, x in 0u64..3_000,
    ) {
        let full = Tails::hypergeometric(population, marked, drawn);
        let short = Tails::hypergeometric_to(population, marked, drawn, 220);
        prop_assert!(short.below.len() <= full.below.len());
        for (exact, found) in [(full.above(x), short.above(x)), (full.below(x), short.below(x))] {
            let (exact, found) = (exact.log2(), found.log2());
            prop_assert!(exact == found || exact < -100.0 && found < -100.0 || (exact - found).abs() < 1e-10);
        }
    }

    #[test]
    fn quantiles_are_the_first_and_last_within_the_bound(
        population in 1u64..400, marked in 0u64..400, drawn in 0u64..400, bits in 0.5f64..60.0,
    ) {
        let tails = Tails::hypergeometric(population, marked, drawn);
        let above = tails.quantile_above(-bits);
        prop_assert!(tails.above(above).log2() <= -bits);
        prop_assert!(above == 0 || tails.above(above - 1).log2() > -bits);
        let below = tails.quantile_below(-bits);
        prop_assert!(tails.below(below).log2() <= -bits);
        prop_assert!(tails.below(below + 1).log2() > -bits);
    }
}
