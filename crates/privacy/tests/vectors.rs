//! The accountants against reference values: one table-driven test per kind; an unknown kind fails.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use serde_json::Value;
use testudo_privacy::{
    accountant::{
        Mechanism, Sampling, distributed, fixed_size, gaussian, laplace,
        matrix::{self, Toeplitz},
        pld, poisson,
        rdp::RenyiCurve,
        skellam, tree, zcdp,
    },
    mechanism::adaptive_clip::update_noise_multiplier,
};

fn document() -> Value {
    serde_json::from_str(include_str!("../vectors/privacy.json")).unwrap()
}

fn cases(kind: &str) -> Vec<Value> {
    let cases: Vec<Value> =
        document()["cases"].as_array().unwrap().iter().filter(|case| case["kind"] == kind).cloned().collect();
    assert!(!cases.is_empty(), "no case of kind {kind}");
    cases
}

fn number(case: &Value, key: &str) -> f64 {
    case[key].as_f64().unwrap_or_else(|| panic!("{}: no number {key}", case["id"]))
}

fn count(case: &Value, key: &str) -> u64 {
    case[key].as_u64().unwrap_or_else(|| panic!("{}: no count {key}", case["id"]))
}

fn default_orders() -> Vec<f64> {
    document()["header"]["default_orders"].as_array().unwrap().iter().map(|order| order.as_f64().unwrap()).collect()
}

#[track_caller]
fn assert_relative(case: &Value, name: &str, got: f64, expected: f64, tolerance: f64) {
    let error = (got - expected).abs() / expected.abs();
    assert!(error <= tolerance, "{} {name}: {got:.17e}, expected {expected:.17e}, error {error:e}", case["id"]);
}

#[test]
fn gaussian_composition() {
    for case in cases("gaussian_composition") {
        let (z, rounds, delta) = (number(&case, "noise_multiplier"), count(&case, "rounds"), number(&case, "delta"));
        let exact = gaussian::epsilon(gaussian::mu(z, rounds), delta);
        let rho = zcdp::rho(z, rounds);
        let converted = zcdp::epsilon(rho, delta);
        assert_relative(&case, "rho", rho, number(&case, "rho"), 1e-12);
        assert_relative(&case, "exact", exact, number(&case, "epsilon_exact"), 1e-12);
        assert_relative(&case, "cks20", converted, number(&case, "epsilon_cks20"), 1e-11);
        assert!(exact <= converted && converted <= number(&case, "epsilon_bun_steinke"));
    }
}

#[test]
fn poisson_subsampled_gaussian() {
    for case in cases("poisson_subsampled_gaussian") {
        let (z, rounds, delta) = (number(&case, "noise_multiplier"), count(&case, "rounds"), number(&case, "delta"));
        let curve = poisson::curve(number(&case, "sampling_rate"), z).repeated(rounds);
        for (order, value) in case["rdp_at"].as_object().into_iter().flatten() {
            let got = curve.at(order.parse().unwrap()).unwrap();
            assert_relative(&case, &format!("rdp at {order}"), got, value.as_f64().unwrap(), 1e-10);
        }
        let (epsilon, order) = curve.epsilon(delta);
        assert_relative(&case, "rdp", epsilon, number(&case, "epsilon_rdp_integer_orders"), 1e-9);
        if let Some(expected) = case["optimal_order_integer"].as_f64() {
            assert_eq!(order, expected, "{}", case["id"]);
        }
    }
}

#[test]
fn rdp_point_poisson_gaussian() {
    for case in cases("rdp_point_poisson_gaussian") {
        let (rate, z) = (number(&case, "sampling_rate"), number(&case, "noise_multiplier"));
        let got = poisson::divergence(rate, z, number(&case, "order"));
        assert_relative(&case, "rdp", got, number(&case, "rdp"), 1e-12);
    }
}

#[test]
fn wor_subsampled_gaussian() {
    for case in cases("wor_subsampled_gaussian") {
        let (cohort, population) = (count(&case, "sample_size"), count(&case, "population"));
        let curve = fixed_size::curve(cohort, population, number(&case, "noise_multiplier"));
        let (epsilon, order) = curve.repeated(count(&case, "rounds")).epsilon(number(&case, "delta"));
        assert_relative(&case, "rdp", epsilon, number(&case, "epsilon"), 1e-9);
        assert_eq!(order, number(&case, "optimal_order"));
    }
}

#[test]
fn rho_to_eps_gaussian() {
    for case in cases("rho_to_eps_gaussian") {
        let (rho, delta) = (number(&case, "rho"), number(&case, "delta"));
        let exact = gaussian::epsilon(gaussian::mu_of_rho(rho), delta);
        assert_relative(&case, "exact", exact, number(&case, "epsilon"), 1e-12);
        assert_relative(&case, "published", exact, number(&case, "epsilon_published"), 1e-6);
        assert_relative(&case, "cks20", zcdp::epsilon(rho, delta), number(&case, "epsilon_cks20"), 1e-11);
    }
}

#[test]
fn published_rdp_old_conversion() {
    for case in cases("published_rdp_old_conversion") {
        let (z, rounds, delta) = (number(&case, "noise_multiplier"), count(&case, "rounds"), number(&case, "delta"));
        let (epsilon, _) = poisson::curve(number(&case, "sampling_rate"), z).repeated(rounds).epsilon(delta);
        let reference = number(&case, "epsilon");
        assert!(epsilon >= reference && epsilon <= 1.005 * reference, "{}: {epsilon}", case["id"]);
    }
}

#[test]
fn curves_of_rho_at_other_orders_convert_alike() {
    for case in cases("tree_aggregation_single_epoch") {
        let (epsilon, _) = RenyiCurve::of_rho(number(&case, "rho"), default_orders()).epsilon(number(&case, "delta"));
        assert_relative(&case, "rdp", epsilon, number(&case, "epsilon"), 1e-9);
    }
}

#[test]
fn pld_gaussian() {
    for case in cases("pld_gaussian") {
        let (z, rounds, delta) = (number(&case, "noise_multiplier"), count(&case, "rounds"), number(&case, "delta"));
        let got = pld::poisson(1.0, z, rounds, delta);
        let exact = number(&case, "epsilon_exact");
        assert!(got >= exact && got <= exact + 1e-3, "{}: {got} {exact}", case["id"]);
    }
}

#[test]
fn poisson_subsampled_gaussian_by_pld() {
    for case in cases("poisson_subsampled_gaussian") {
        let (z, rounds, delta) = (number(&case, "noise_multiplier"), count(&case, "rounds"), number(&case, "delta"));
        let got = pld::poisson(number(&case, "sampling_rate"), z, rounds, delta);
        assert_relative(&case, "pld", got, number(&case, "epsilon_pld_pessimistic_1e4"), 1e-3);
        assert!(got < number(&case, "epsilon_rdp_integer_orders"));
    }
}

#[test]
fn truncated_poisson_gaussian() {
    for case in cases("truncated_poisson_gaussian") {
        let got = pld::truncated_poisson(
            number(&case, "sampling_rate"),
            count(&case, "population"),
            count(&case, "cohort_cap"),
            number(&case, "noise_multiplier"),
            count(&case, "rounds"),
            number(&case, "delta"),
        );
        assert_relative(&case, "pld", got, number(&case, "epsilon"), 1e-3);
    }
}

#[test]
fn laplace_by_every_accountant() {
    let orders: Vec<f64> = default_orders();
    for case in cases("laplace") {
        let (scale, rounds, delta) =
            (number(&case, "scale_over_l1_sensitivity"), count(&case, "rounds"), number(&case, "delta"));
        let got = pld::laplace(scale, rounds, delta);
        assert_relative(&case, "pld", got, number(&case, "epsilon"), 1e-3);
        if rounds == 1 {
            // δ(ε) = 1 − e^{(ε − 1/b)/2}; the reference itself lies a little above.
            assert!(got >= 1.0 / scale + 2.0 * (-delta).ln_1p());
        }
        let (rdp, _) = laplace::curve(scale, orders.iter().copied()).repeated(rounds).epsilon(delta);
        assert_relative(&case, "rdp", rdp, number(&case, "epsilon_rdp"), 1e-9);
        assert_relative(&case, "pure", laplace::pure(scale, rounds), number(&case, "epsilon_pure"), 1e-12);
    }
}

#[test]
fn rdp_point_skellam() {
    for case in cases("rdp_point_skellam") {
        let (scale, order) = (number(&case, "scale"), number(&case, "order"));
        let (l2, l1) = (number(&case, "l2") * scale, number(&case, "l1") * scale);
        let variance = number(&case, "central_variance") * scale * scale;
        let got = skellam::curve(variance, l2, l1, [order]).at(order).unwrap();
        assert_relative(&case, "rdp", got, number(&case, "rdp"), 1e-12);
    }
}

#[test]
fn distributed_discrete_gaussian() {
    for case in cases("distributed_discrete_gaussian") {
        let got = distributed::guarantee(
            count(&case, "clients"),
            number(&case, "local_sigma_grid"),
            count(&case, "dim"),
            number(&case, "l2_sens_grid"),
            number(&case, "l1_sens_grid"),
        );
        assert_relative(&case, "tau", got.tau, number(&case, "tau"), 1e-12);
        assert_relative(&case, "epsilon_cdp", got.epsilon, number(&case, "epsilon_cdp"), 1e-12);
        assert_relative(&case, "rho", got.rho, number(&case, "rho"), 1e-12);
        assert_relative(
            &case,
            "epsilon",
            zcdp::epsilon(got.rho, number(&case, "delta")),
            number(&case, "epsilon"),
            1e-11,
        );
    }
}

#[test]
fn tree_aggregation_single_epoch() {
    for case in cases("tree_aggregation_single_epoch") {
        let steps: Vec<u64> = match case["steps"].as_array() {
            Some(steps) => steps.iter().map(|steps| steps.as_u64().unwrap()).collect(),
            None => vec![count(&case, "steps")],
        };
        let depth = tree::single_participation(&steps).unwrap();
        assert_eq!(u64::from(depth), count(&case, "depth"));
        let (z, delta) = (number(&case, "noise_multiplier"), number(&case, "delta"));
        let rho = zcdp::rho(z, depth.into());
        assert_relative(&case, "rho", rho, number(&case, "rho"), 1e-12);
        assert_relative(&case, "cks20", zcdp::epsilon(rho, delta), number(&case, "epsilon_cks20"), 1e-11);
        let exact = gaussian::epsilon(gaussian::mu(z, depth.into()), delta);
        assert_relative(&case, "exact", exact, number(&case, "epsilon_exact_gaussian"), 1e-12);
    }
}

#[test]
fn tree_aggregation_multi_participation() {
    for case in cases("tree_aggregation_multi_participation") {
        let participations = u32::try_from(count(&case, "max_participation")).unwrap();
        let square =
            tree::sensitivity_squared(count(&case, "steps"), participations, count(&case, "min_separation")).unwrap();
        assert_eq!(square as f64, number(&case, "sensitivity_sq"), "{}", case["id"]);
        let (z, delta) = (number(&case, "noise_multiplier"), number(&case, "delta"));
        let rho = zcdp::rho(z, square);
        assert_relative(&case, "rho", rho, number(&case, "rho"), 1e-12);
        let exact = gaussian::epsilon(gaussian::mu(z, square), delta);
        assert_relative(&case, "exact", exact, number(&case, "epsilon"), 1e-12);
    }
}

#[test]
fn matrix_mechanism() {
    for case in cases("matrix_mechanism") {
        let rounds = count(&case, "n") as usize;
        let once = |matrix: Toeplitz, participations: u64, separation: u64| {
            let sensitivity = matrix.sensitivity(participations as usize, separation as usize).unwrap();
            let (most, mean) = matrix.prefix_errors();
            (sensitivity, sensitivity * most, sensitivity * mean)
        };
        let (sensitivity, most, mean) = match case["mechanism"].as_str().unwrap() {
            "independent" => once(Toeplitz::independent(rounds).unwrap(), 1, 1),
            "sqrt_toeplitz" => once(Toeplitz::square_root(rounds, rounds).unwrap(), 1, 1),
            "binary_tree" => matrix::binary_tree(rounds as u64),
            "banded_sqrt_toeplitz" => {
                let banded = Toeplitz::square_root(rounds, count(&case, "bands") as usize).unwrap();
                once(banded, count(&case, "max_participation"), count(&case, "min_gap"))
            }
            other => panic!("unknown mechanism {other}"),
        };
        assert_relative(&case, "sensitivity", sensitivity, number(&case, "sensitivity"), 1e-12);
        assert_relative(&case, "max", most, number(&case, "max_prefix_error_per_sigma"), 1e-10);
        assert_relative(&case, "rms", mean, number(&case, "rms_prefix_error_per_sigma"), 1e-10);
    }
}

#[test]
fn adaptive_clip_split() {
    for case in cases("adaptive_clip_split") {
        let got =
            update_noise_multiplier(number(&case, "effective_noise_multiplier"), number(&case, "clipped_count_stddev"));
        assert_relative(&case, "z_delta", got.unwrap(), number(&case, "update_noise_multiplier"), 1e-12);
    }
}

#[test]
fn every_kind_has_a_test() {
    let tested = [
        "gaussian_composition",
        "poisson_subsampled_gaussian",
        "rdp_point_poisson_gaussian",
        "wor_subsampled_gaussian",
        "tree_aggregation_single_epoch",
        "tree_aggregation_multi_participation",
        "matrix_mechanism",
        "rho_to_eps_gaussian",
        "pld_gaussian",
        "laplace",
        "adaptive_clip_split",
        "calibrate_noise_multiplier",
        "distributed_discrete_gaussian",
        "rdp_point_skellam",
        "truncated_poisson_gaussian",
        "published_rdp_old_conversion",
    ];
    for case in document()["cases"].as_array().unwrap() {
        assert!(tested.contains(&case["kind"].as_str().unwrap()), "untested kind: {case}");
    }
}

#[test]
fn calibrate_noise_multiplier() {
    for case in cases("calibrate_noise_multiplier") {
        let (rate, rounds, delta) = (number(&case, "sampling_rate"), count(&case, "rounds"), number(&case, "delta"));
        let mechanism = Mechanism::Gaussian { noise_multiplier: 1.0, rounds, sampling: Sampling::Poisson { rate } };
        let target = number(&case, "target_epsilon");
        let by_rdp = mechanism.calibrate(target, delta, Some("rdp")).unwrap();
        assert_relative(&case, "noise_multiplier", by_rdp, number(&case, "noise_multiplier"), 1e-8);
        let best = mechanism.calibrate(target, delta, None).unwrap();
        assert!(best < by_rdp && mechanism.with_noise(best).report(delta).unwrap().best <= target);
    }
}
