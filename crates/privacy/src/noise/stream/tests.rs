use super::*;
use crate::{
    math::Wide,
    noise::{NoiseSeed, decide},
};

fn stream<'table>(table: &'table NoiseTable, number: u8) -> NoiseStream<'table> {
    NoiseStream::new(table, &NoiseKey::new([number; 32]))
}

fn draw(table: &NoiseTable, number: u8, count: usize) -> Vec<i64> {
    let mut values = vec![0; count];
    stream(table, number).fill(&mut values);
    values
}

/// Probabilities of −reach..=reach.
fn masses(law: Law, sigma: f64, reach: i64) -> Vec<f64> {
    match law {
        Law::Discrete => {
            let density = |k: i64| (-0.5 * (k as f64 / sigma).powi(2)).exp();
            let beyond = (40.0 * sigma) as i64 + 40;
            let total: f64 = (-beyond..=beyond).map(density).sum();
            (-reach..=reach).map(|k| density(k) / total).collect()
        }
        Law::Rounded => {
            let tail = |x: f64| crate::math::normal::upper_tail(Wide::from(x / sigma));
            (-reach..=reach)
                .map(|k| {
                    let k = k.abs() as f64;
                    (tail(k - 0.5) - tail(k + 0.5)).nearest()
                })
                .collect()
        }
    }
}

/// (χ² − f)/√(2f) over cells of at least `least` expected values; both tails are cells.
fn chi_square(counts: &[u64], masses: &[f64], total: u64, least: f64) -> f64 {
    let (mut statistic, mut cells) = (0.0, 0_u64);
    let (mut observed, mut expected, mut seen, mut mass) = (0_u64, 0.0, 0_u64, 0.0);
    for (count, share) in counts.iter().zip(masses) {
        observed += count;
        expected += share * total as f64;
        seen += count;
        mass += share;
        let rest = (1.0 - mass) * total as f64;
        if expected >= least && rest >= least {
            statistic += (observed as f64 - expected).powi(2) / expected;
            cells += 1;
            (observed, expected) = (0, 0.0);
        }
    }
    let (observed, expected) = (observed + total - seen, expected + (1.0 - mass).max(0.0) * total as f64);
    statistic += (observed as f64 - expected).powi(2) / expected;
    let freedom = cells as f64;
    (statistic - freedom) / (2.0 * freedom).sqrt()
}

fn validate(law: Law, sigma: f64, count: u64) -> f64 {
    let table = NoiseTable::new(law, sigma).unwrap();
    let reach = (12.0 * sigma).ceil() as i64 + 2;
    let mut counts = vec![0_u64; (2 * reach + 1) as usize];
    let mut stream = stream(&table, 42);
    let mut values = vec![0; 100_000];
    for _ in 0..count / 100_000 {
        stream.fill(&mut values);
        for value in &values {
            counts[(value + reach) as usize] += 1;
        }
    }
    let score = chi_square(&counts, &masses(law, sigma, reach), count, 20.0);
    println!("{law:?} {sigma}: {score:.2}");
    score
}

const VALIDATED: [(Law, f64); 11] = [
    (Law::Discrete, 0.7),
    (Law::Discrete, 1.0),
    (Law::Discrete, 3.3),
    (Law::Discrete, 40.0),
    (Law::Discrete, 70.0),
    (Law::Discrete, 1000.0),
    (Law::Rounded, 0.4),
    (Law::Rounded, 1.0),
    (Law::Rounded, 5.5),
    (Law::Rounded, 70.0),
    (Law::Rounded, 1000.0),
];

#[test]
fn two_million_values_have_the_exact_probabilities() {
    for (law, sigma) in VALIDATED {
        let score = validate(law, sigma, 2_000_000);
        assert!(score.abs() < 5.0, "{law:?} {sigma}: {score}");
    }
}

#[test]
#[ignore = "a minute: 5·10⁷ values of every law; `ci/noise` runs it"]
fn fifty_million_values_have_the_exact_probabilities() {
    for (law, sigma) in VALIDATED {
        let score = validate(law, sigma, 50_000_000);
        assert!(score.abs() < 5.0, "{law:?} {sigma}: {score}");
    }
}

#[test]
fn the_statistic_sees_a_sigma_wrong_by_a_hundredth() {
    let table = NoiseTable::new(Law::Rounded, 5.5).unwrap();
    let values = draw(&table, 1, 2_000_000);
    let mut counts = vec![0_u64; 161];
    for value in &values {
        counts[(value + 80) as usize] += 1;
    }
    let right = chi_square(&counts, &masses(Law::Rounded, 5.5, 80), values.len() as u64, 20.0);
    let wrong = chi_square(&counts, &masses(Law::Rounded, 5.555, 80), values.len() as u64, 20.0);
    assert!(right.abs() < 5.0 && wrong > 20.0, "{right} {wrong}");
}

#[test]
fn a_million_values_are_distributed_like_those_of_opendp() {
    for sigma in [1_u32, 5, 1000] {
        let table = NoiseTable::new(Law::Discrete, f64::from(sigma)).unwrap();
        let mut ours = std::collections::BTreeMap::<i64, (u64, u64)>::new();
        let cell = |value: i64| value.div_euclid(i64::from(sigma / 8).max(1));
        let count = 1_000_000;
        for value in draw(&table, 9, count) {
            ours.entry(cell(value)).or_default().0 += 1;
        }
        for _ in 0..count {
            let value = opendp::traits::samplers::sample_discrete_gaussian(sigma.into()).unwrap();
            ours.entry(cell(i64::try_from(value).unwrap())).or_default().1 += 1;
        }
        // Two samples of one size: Σ (a−b)²/(a+b) over the cells that hold enough.
        let cells: Vec<(f64, f64)> =
            ours.values().filter(|(a, b)| a + b >= 50).map(|(a, b)| (*a as f64, *b as f64)).collect();
        let statistic: f64 = cells.iter().map(|(a, b)| (a - b).powi(2) / (a + b)).sum();
        let freedom = cells.len() as f64 - 1.0;
        let score = (statistic - freedom) / (2.0 * freedom).sqrt();
        println!("{sigma}: {score:.2}");
        // The other sample is fresh every time: 6 is passed once in 10⁸ runs.
        assert!(score.abs() < 6.5, "{sigma}: {score}");
    }
}

#[test]
fn a_stream_is_a_sequence_however_it_is_read() {
    for (law, sigma) in [(Law::Rounded, 3e7), (Law::Discrete, 2.0)] {
        let table = NoiseTable::new(law, sigma).unwrap();
        let whole = draw(&table, 3, 20_000);
        let mut pieces = vec![0; 20_000];
        let mut stream = stream(&table, 3);
        let (mut rest, mut size) = (&mut pieces[..], 1);
        while !rest.is_empty() {
            let (now, later) = rest.split_at_mut(size.min(rest.len()));
            stream.fill(now);
            rest = later;
            size = size * 3 % 1511 + 1;
        }
        assert_eq!(whole, pieces);
        let mut sums = vec![5; 20_000];
        NoiseStream::new(&table, &NoiseKey::new([3; 32])).add_to(&mut sums).unwrap();
        assert!(sums.iter().zip(&whole).all(|(sum, value)| *sum == value + 5));
        assert_ne!(whole, draw(&table, 4, 20_000));
    }
}

#[test]
fn exact_decisions_change_no_output() {
    // With a guard of a quarter most of the slow decisions are exact ones; the values are the same.
    for (law, sigma) in [(Law::Rounded, 0.4), (Law::Rounded, 5.5), (Law::Rounded, 1e9), (Law::Discrete, 70.0)] {
        let table = NoiseTable::new(law, sigma).unwrap();
        let key = NoiseKey::new([5; 32]);
        let mut wide = vec![0; 30_000];
        NoiseStream::with_guard(&table, &key, 0.25).fill(&mut wide);
        assert_eq!(wide, draw(&table, 5, 30_000), "{law:?} {sigma}");
    }
}

#[test]
fn the_exact_decision_agrees_with_floats_far_from_ties_and_reads_more_levels_at_them() {
    let table = NoiseTable::new(Law::Discrete, 3.0).unwrap();
    let key = NoiseKey::new([1; 32]);
    let side = || Side { key: key.clone(), words: [0; 8], at: None };
    for bin in [0_usize, 3, 9] {
        let density = (-(bin as f64).powi(2) / 18.0).exp();
        let probability = density / (table.scale * table.weights[bin] as f64);
        let around = (probability * 4_294_967_296.0) as u32;
        assert!(decide::exact(&table, &mut side(), 0, bin, bin as u64, around - 10));
        assert!(!decide::exact(&table, &mut side(), 0, bin, bin as u64, around.saturating_add(10)));
    }
    // The levels differ from each other and from the main stream.
    let mut side = side();
    let words: Vec<(u64, u64)> = (0..12).map(|index| side.words(7, index)).collect();
    let distinct: std::collections::HashSet<u64> = words.iter().flat_map(|(a, b)| [*a, *b]).collect();
    assert_eq!(distinct.len(), 24);
    assert_eq!(side.words(7, 2), words[2]);
}

#[test]
fn sums_that_leave_the_range_are_refused() {
    let table = NoiseTable::new(Law::Rounded, 1000.0).unwrap();
    for edge in [i64::MAX, i64::MIN] {
        assert_eq!(stream(&table, 1).add_to(&mut [edge; 64]), Err(Overflow));
    }
    assert!(stream(&table, 1).add_to(&mut [i64::MAX - 100_000; 64]).is_ok());
}

#[test]
fn known_values_never_change() {
    let seed = NoiseSeed::new([1; 32]);
    let expect = |law, sigma: f64, expected: [i64; 6]| {
        let table = NoiseTable::new(law, sigma).unwrap();
        let mut values = [0; 6];
        NoiseStream::new(&table, &seed.key(&[2; 32], sigma, 3)).fill(&mut values);
        assert_eq!(values, expected, "{law:?} {sigma}");
    };
    expect(Law::Rounded, 1.5, [-1, -2, -1, 0, 0, 1]);
    expect(Law::Rounded, 18_454_938.0, [-12_751_838, 21_396_313, -4_688_973, -1_563_268, 1_366_151, 12_572_169]);
    expect(Law::Discrete, 3.0, [3, -2, 7, 1, -2, 1]);
    expect(Law::Discrete, 1e9, [-468_477_757, -221_538_482, 174_595_612, 317_680_118, 1_196_709_867, 55_364_481]);
}
