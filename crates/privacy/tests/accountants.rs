//! What must hold between accountants for any parameters.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use proptest::prelude::*;
use testudo_privacy::accountant::{Mechanism, Sampling, fixed_size, gaussian, laplace, pld, poisson, zcdp};

fn rdp(rate: f64, z: f64, rounds: u64, delta: f64) -> f64 {
    poisson::curve(rate, z).repeated(rounds).epsilon(delta).0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn exact_is_below_the_conversion_and_the_integer_orders(
        z in 0.3..50.0_f64, rounds in 1..5000_u64, exponent in 2.0..12.0_f64,
    ) {
        let delta = 10_f64.powf(-exponent);
        let exact = gaussian::epsilon(gaussian::mu(z, rounds), delta);
        let converted = zcdp::epsilon(zcdp::rho(z, rounds), delta);
        let integers = rdp(1.0, z, rounds, delta);
        prop_assert!(exact <= converted, "{} {}", exact, converted);
        prop_assert!(converted <= integers * (1.0 + 1e-12), "{} {}", converted, integers);
    }

    #[test]
    fn unsampled_epsilon_grows_with_rounds_and_falls_with_noise_and_delta(
        z in 0.3..50.0_f64, rounds in 1..5000_u64, exponent in 2.0..12.0_f64, more in 1.01..3.0_f64,
    ) {
        let delta = 10_f64.powf(-exponent);
        for epsilon in [
            |z, rounds, delta| gaussian::epsilon(gaussian::mu(z, rounds), delta),
            |z, rounds, delta| zcdp::epsilon(zcdp::rho(z, rounds), delta),
        ] {
            let base = epsilon(z, rounds, delta);
            prop_assert!(epsilon(z, rounds + 1, delta) >= base);
            prop_assert!(epsilon(z * more, rounds, delta) <= base);
            prop_assert!(epsilon(z, rounds, (delta * more).min(0.5)) <= base);
        }
    }

    #[test]
    fn rdp_epsilon_grows_with_rounds_and_rate_and_falls_with_noise_and_delta(
        z in 0.4..8.0_f64, rounds in 1..5000_u64, exponent in 2.0..10.0_f64, log_rate in -5.0..0.0_f64, more in 1.01..2.0_f64,
    ) {
        let (delta, rate) = (10_f64.powf(-exponent), 10_f64.powf(log_rate));
        let base = rdp(rate, z, rounds, delta);
        prop_assert!(rdp(rate, z, rounds + 1, delta) >= base);
        prop_assert!(rdp((rate * more).min(1.0), z, rounds, delta) >= base);
        prop_assert!(rdp(rate, z * more, rounds, delta) <= base);
        prop_assert!(rdp(rate, z, rounds, (delta * more).min(0.5)) <= base);
        prop_assert!(base <= rdp(1.0, z, rounds, delta));
    }

    #[test]
    fn fixed_size_epsilon_grows_with_rounds_and_cohort_and_falls_with_noise(
        z in 0.4..8.0_f64, rounds in 1..2000_u64, cohort in 1..500_u64, more in 1.01..2.0_f64,
    ) {
        let epsilon = |cohort, z, rounds: u64| fixed_size::curve(cohort, 1000, z).repeated(rounds).epsilon(1e-5).0;
        let base = epsilon(cohort, z, rounds);
        prop_assert!(epsilon(cohort, z, rounds + 1) >= base);
        prop_assert!(epsilon(cohort + 10, z, rounds) >= base);
        prop_assert!(epsilon(cohort, z * more, rounds) <= base * (1.0 + 1e-12));
        prop_assert!(base <= epsilon(1000, z, rounds) * (1.0 + 1e-12));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn pld_is_below_rdp_and_not_below_the_exact_value(
        z in 0.5..6.0_f64, rounds in 1..2000_u64, exponent in 3.0..10.0_f64, log_rate in -4.0..-0.3_f64,
    ) {
        let (delta, rate) = (10_f64.powf(-exponent), 10_f64.powf(log_rate));
        let (tight, loose) = (pld::poisson(rate, z, rounds, delta), rdp(rate, z, rounds, delta));
        prop_assert!(tight <= loose, "q={} z={}: {} {}", rate, z, tight, loose);
        // The grid's error: 10⁻⁴ and rounding alike grow with the square root of the rounds.
        prop_assert!(pld::poisson(rate, z, rounds + 50, delta) >= tight - 1e-9);
        prop_assert!(pld::poisson(rate, z * 1.05, rounds, delta) <= tight + 1e-9);
        prop_assert!(pld::poisson(rate, z, rounds, delta / 2.0) >= tight - 1e-9);
        prop_assert!(pld::poisson((rate * 1.1).min(1.0), z, rounds, delta) >= tight - 1e-9);
    }

    #[test]
    fn pld_without_sampling_is_just_above_the_exact_value(
        z in 0.5..40.0_f64, rounds in 1..3000_u64, exponent in 3.0..14.0_f64,
    ) {
        let delta = 10_f64.powf(-exponent);
        let exact = gaussian::epsilon(gaussian::mu(z, rounds), delta);
        let tight = pld::poisson(1.0, z, rounds, delta);
        prop_assert!(tight >= exact, "{} {}", tight, exact);
        prop_assert!(tight <= exact * 1.001 + 1e-3, "{} {}", tight, exact);
    }

    #[test]
    fn laplace_by_pld_is_below_pure_and_rdp(scale in 0.3..30.0_f64, rounds in 1..200_u64) {
        let tight = pld::laplace(scale, rounds, 1e-6);
        prop_assert!(tight <= laplace::pure(scale, rounds) * (1.0 + 1e-9) + 1e-9);
        let report = Mechanism::Laplace { scale, rounds }.report(1e-6).unwrap();
        prop_assert!(report.accountants[2].epsilon <= report.accountants[1].epsilon);
    }
}

#[test]
fn sampling_at_rate_one_equals_no_sampling() {
    for (z, rounds, delta) in [(1.0, 10, 1e-6), (3.0, 500, 1e-8)] {
        let report = |sampling| Mechanism::Gaussian { noise_multiplier: z, rounds, sampling }.report(delta).unwrap();
        let plain = report(Sampling::None);
        let sampled = report(Sampling::Poisson { rate: 1.0 });
        for estimate in &sampled.accountants {
            let same = plain.accountants.iter().find(|other| other.name == estimate.name).unwrap();
            assert!((estimate.epsilon - same.epsilon).abs() <= 1e-12 * same.epsilon, "{estimate:?} {same:?}");
        }
    }
}

#[test]
fn one_laplace_release_has_the_known_curve() {
    // δ(ε) = 1 − e^{(ε − 1/b)/2} for one release with scale b.
    for scale in [0.5, 1.0, 4.0] {
        let exact = 1.0 / scale + 2.0 * (1.0_f64 - 1e-3).ln();
        let got = pld::laplace(scale, 1, 1e-3);
        assert!(got >= exact && got < exact + 1e-6, "{scale}: {got} {exact}");
    }
}

fn log_range(low: f64, high: f64) -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => (low.ln()..high.ln()).prop_map(move |log| log.exp().clamp(low, high)),
        1 => Just(low),
        1 => Just(high),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_parameter_within_the_limits_has_an_answer(
        noise in log_range(1e-3, 1e6), rounds in log_range(1.0, 1e9), delta in log_range(1e-100, 0.5),
        rate in log_range(1e-12, 1.0), population in log_range(1.0, 1e9), share in log_range(1e-6, 1.0), which in 0..8,
    ) {
        let (rounds, population) = (rounds as u64, population as u64);
        let part = ((population as f64 * share) as u64).max(1);
        let gaussian = |sampling| Mechanism::Gaussian { noise_multiplier: noise, rounds, sampling };
        let mechanism = match which {
            0 => gaussian(Sampling::None),
            1 => gaussian(Sampling::Poisson { rate }),
            2 => gaussian(Sampling::TruncatedPoisson { rate, population: population.min(100_000), cap: part.min(100_000) }),
            3 => gaussian(Sampling::Fixed { cohort: part, population }),
            4 => Mechanism::Laplace { scale: noise, rounds },
            5 => Mechanism::DiscreteGaussian { noise_multiplier: noise, rounds, sampling: Sampling::Poisson { rate } },
            6 => Mechanism::Tree {
                noise_multiplier: noise,
                rounds: rounds % 4000 + 1,
                participations: part as u32 % 20 + 1,
                separation: population % 500,
            },
            _ => Mechanism::Matrix {
                noise_multiplier: noise,
                rounds: rounds % 2000 + 1,
                bands: 1 + rounds % 2000 / 3,
                participations: part as u32 % 20 + 1,
                separation: population % 500 + 1,
            },
        };
        let report = mechanism.report(delta).unwrap();
        for estimate in &report.accountants {
            prop_assert!(estimate.epsilon >= 0.0, "{:?} {:?}", mechanism, estimate);
        }
        // Where the exact value is known, no other accountant is below it.
        for estimate in report.accountants.iter().filter(|_| report.accountants[0].name == "gaussian_exact") {
            prop_assert!(estimate.epsilon >= report.accountants[0].epsilon, "{:?} {:?}", mechanism, report);
        }
        // Something is always proved, apart from cut samples, whose only accountant may find its grid too coarse.
        prop_assert!(report.best.is_finite() || which == 2, "{:?} {:?}", mechanism, report);
    }
}
