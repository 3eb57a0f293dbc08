//! The accountants against reference values: one table-driven test per kind; an unknown kind fails.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use serde_json::Value;
use testudo_privacy::accountant::{fixed_size, gaussian, poisson, rdp::RenyiCurve, zcdp};

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
        let orders: Vec<f64> =
            document()["header"]["default_orders"].as_array().unwrap().iter().map(|o| o.as_f64().unwrap()).collect();
        let (epsilon, _) = RenyiCurve::of_rho(number(&case, "rho"), orders).epsilon(number(&case, "delta"));
        assert_relative(&case, "rdp", epsilon, number(&case, "epsilon"), 1e-9);
    }
}
