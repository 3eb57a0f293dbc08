//! The accountants against reference values: one table-driven test per kind; an unknown kind fails.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use serde_json::Value;
use testudo_privacy::accountant::{
    distributed, fixed_size, gaussian, laplace, pld, poisson, rdp::RenyiCurve, skellam, zcdp,
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
        assert!(got >= number(&case, "epsilon"));
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
        assert_relative(&case, "epsilon", zcdp::epsilon(got.rho, number(&case, "delta")), number(&case, "epsilon"), 1e-11);
    }
}
