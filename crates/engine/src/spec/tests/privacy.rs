//! `[privacy]`: what is accepted, and the matrix of refusals.

use super::*;
use testudo_privacy::sensitivity::{Adjacency, Combination};

pub(super) const PRIVATE: &str = r#"
name = "keyboard"
rounds = 10
[model]
initial = "model.safetensors"
[cohort]
size = 100
[encoding]
clip_l2 = 0.5
[rule]
kind = "mean"
[privacy]
mechanism = "gaussian"
population = "phones"
noise_multiplier = 2.0
budget_epsilon = 10.0
clients = 10000
delta = 1e-6
"#;

fn with_rule(rule: &str) -> String {
    PRIVATE.replace("kind = \"mean\"", rule)
}

#[test]
fn a_private_mean_has_its_figures_and_says_what_it_promises() {
    let spec = spec(PRIVATE);
    let privacy = spec.privacy.as_ref().unwrap();
    assert_eq!((privacy.population.as_str(), privacy.rows, privacy.divisor), ("phones", 100, 100.0));
    assert_eq!((privacy.adjacency, privacy.combination), (Adjacency::ZeroOut, Combination::ClippedSum));
    assert_eq!((privacy.charge.sensitivity_grid, privacy.charge.sigma_grid), (1 << 24, 2 << 24));
    assert!((privacy.deviation() - 0.01).abs() < 1e-12, "2·0.5/100");
    assert!(!spec.examples.weighted, "claimed weights are not bounded by the clip");
    let all = spec.guarantees.join("\n");
    for part in ["epsilon = ", "delta = 1e-6", "without amplification", "zero-out", "not covered: ", "\"phones\""] {
        assert!(all.contains(part), "{part}: {all}");
    }
    assert!(!all.contains("warning: ") && !all.contains("no noise"), "{all}");
}

#[test]
fn epsilon_is_that_of_the_exact_accountant() {
    let spec = spec(PRIVATE);
    let privacy = spec.privacy.unwrap();
    let exact = testudo_privacy::accountant::gaussian::epsilon(10_f64.sqrt() / 2.0, 1e-6);
    let epsilon = privacy.epsilon(10);
    assert!(epsilon >= exact && epsilon < exact * (1.0 + 1e-6), "{epsilon} {exact}");
    assert!(privacy.fits_alone("keyboard", 10).is_ok(), "{epsilon}");
    assert!(privacy.fits_alone("keyboard", 20).is_err());
}

#[test]
fn every_proved_rule_has_its_divisor_and_sensitivity() {
    let krum = "kind = \"multi_krum\"\nbyzantine = 2\nselect = 98";
    let accepted = with_rule(krum).replace("[privacy]", "[privacy]\naccept_large_sensitivity = true");
    for (text, divisor, clips) in [
        (with_rule("kind = \"trimmed_mean\"\nbyzantine = 10"), 80.0, 1),
        (with_rule("kind = \"trimmed_mean\"\nfraction = 0.1"), 80.0, 1),
        (with_rule("kind = \"centered_clipping\"\nradius = 0.5\nsteps = 1"), 100.0, 1),
        (accepted, 98.0, 6),
        (PRIVATE.replace("[privacy]", "[privacy]\nadjacency = \"replace_one\""), 100.0, 2),
        (PRIVATE.replace("size = 100", "size = 100\nover_selection = 1.5"), 100.0, 1),
    ] {
        let privacy = spec(&text).privacy.unwrap();
        assert_eq!((privacy.divisor, privacy.charge.sensitivity_grid), (divisor, clips << 24), "{text}");
    }
}

#[test]
fn what_has_no_proof_or_no_meaning_beside_noise_is_refused_with_why_and_fix() {
    let cases = [
        // (replace, with, key, part of the message, part of the fix)
        ("kind = \"mean\"", "kind = \"median\"\nbyzantine = 1", "rule.kind", "move the median by C", "trimmed_mean"),
        ("kind = \"mean\"", "kind = \"krum\"\nbyzantine = 1", "rule.kind", "2C", "multi_krum"),
        (
            "kind = \"mean\"",
            "kind = \"multi_krum\"\nbyzantine = 1",
            "rule.kind",
            "hardly falls",
            "accept_large_sensitivity",
        ),
        ("kind = \"mean\"", "kind = \"bulyan\"\nbyzantine = 1", "rule.kind", "trivial bound", "trimmed_mean"),
        ("kind = \"mean\"", "kind = \"geometric_median\"\nbyzantine = 1", "rule.kind", "attained", "mean"),
        ("kind = \"mean\"", "kind = \"norm_clip\"\nradius = 1.0", "rule.kind", "clip_l2 already", "mean"),
        ("kind = \"mean\"", "kind = \"meamed\"\nbyzantine = 1", "rule.kind", "median", "trimmed_mean"),
        (
            "kind = \"mean\"",
            "kind = \"trimmed_mean\"\nbyzantine = 1\npre = [\"nnm\"]",
            "rule.pre",
            "destroys every bound",
            "remove nnm",
        ),
        (
            "kind = \"mean\"",
            "kind = \"mean\"\npre = [{ kind = \"clip\", radius = 1.0 }]",
            "rule.pre",
            "already",
            "remove",
        ),
        ("kind = \"mean\"", "kind = \"mean\"\ngranularity = \"layer\"", "rule.granularity", "whole update", "model"),
        (
            "kind = \"mean\"",
            "kind = \"centered_clipping\"\nradius = 0.25\nsteps = 1",
            "rule.radius",
            "is not encoding.clip_l2",
            "radius = 0.5",
        ),
        (
            "kind = \"mean\"",
            "kind = \"centered_clipping\"\nradius = 0.5\nsteps = 3",
            "rule.steps",
            "not public",
            "steps = 1",
        ),
        ("kind = \"mean\"", "kind = \"fltrust\"\n[reference]\nclient = \"a\"", "rule.kind", "not public", "mean"),
        ("clip_l2 = 0.5", "", "encoding.clip_l2", "missing", "clip_l2 = 1.0"),
        ("clip_l2 = 0.5", "clip_l2 = 0", "encoding.clip_l2", "outside", "norm"),
        ("clip_l2 = 0.5", "clip_l2 = 0.5\nmax_l2 = 2.0", "encoding.max_l2", "without noise", "clip_l2"),
        ("clip_l2 = 0.5", "clip_l2 = 0.5\naccept = [\"f16\"]", "encoding.accept", "without noise", "f32"),
        ("[rule]", "[examples]\nweighted = true\n[rule]", "examples.weighted", "2C", "false"),
        ("[rule]", "[tensors]\n\"bn.*\" = \"stats\"\n[rule]", "tensors.bn.*", "without noise", "ignore"),
        ("gaussian", "dp_ftrl", "privacy.mechanism", "correlated noise is", "gaussian"),
        ("gaussian", "local", "privacy.mechanism", "is a trust model", "gaussian"),
        ("gaussian", "discrete_gaussian", "privacy.mechanism", "under trust", "gaussian"),
        ("[privacy]", "[privacy]\ntrust = \"everybody\"", "privacy.trust", "not a trust model", "\"local\""),
        ("gaussian", "gausian", "privacy.mechanism", "not a mechanism", "\"tree\" or \"matrix\""),
        ("[privacy]", "[privacy]\nsampler = \"opendp\"", "privacy.sampler", "grid", "grid"),
        ("[privacy]", "[privacy]\nadjacency = \"add_or_remove\"", "privacy.adjacency", "secret or noised", "zero_out"),
        ("[privacy]", "[privacy]\nadjacency = \"zero\"", "privacy.adjacency", "not an adjacency", "replace_one"),
        ("[privacy]", "[privacy]\ngrid_bits = 32", "privacy.grid_bits", "outside", "1 to 31"),
        (
            "[privacy]",
            "[privacy]\naccept_large_sensitivity = true",
            "privacy.accept_large_sensitivity",
            "no effect",
            "remove",
        ),
        ("clients = 10000", "clients = 99", "privacy.clients", "fewer than one cohort", "population"),
        ("[privacy]", "[privacy]\nclip = 1.0", "privacy.clip", "unknown field", ""),
        ("\"phones\"", "\"\"", "privacy.population", "not a name", "phones"),
        ("noise_multiplier = 2.0", "noise_multiplier = 0", "privacy.noise_multiplier", "outside", "from"),
        ("noise_multiplier = 2.0", "noise_multiplier = 1e6", "privacy.grid_bits", "does not fit", "at most"),
        ("noise_multiplier = 2.0", "", "privacy.noise_multiplier", "missing field", "add"),
        ("budget_epsilon = 10.0", "budget_epsilon = -1", "privacy.budget_epsilon", "outside", "from"),
        ("clients = 10000\ndelta = 1e-6", "", "privacy.delta", "missing", "clients"),
        ("clients = 10000\n", "", "privacy.clients", "cannot be told", "add clients"),
        ("delta = 1e-6", "delta = 0.01", "privacy.delta", "publish one client", "less than"),
        ("clients = 10000", "clients = 1000000", "privacy.delta", "publish one client", "less than"),
        ("size = 100", "size = 100\nover_selection = 1.1", "cohort.over_selection", "fixed beforehand", "1"),
        (
            "rounds = 10",
            "rounds = 10\n[visibility]\nmasking = \"pairwise\"\ngroup_size = 10",
            "visibility.masking",
            "summed before",
            "distributed",
        ),
    ];
    for (replace, with, key, what, fix) in cases {
        let mut text = PRIVATE.replace(replace, with);
        assert_ne!(text, PRIVATE, "{replace}");
        if key == "cohort.over_selection" {
            text = text.replace("kind = \"mean\"", "kind = \"trimmed_mean\"\nbyzantine = 10");
        }
        refused(&text, key, what, fix);
    }
}

#[test]
fn a_delta_follows_from_the_number_of_clients() {
    let text = PRIVATE.replace("clients = 10000\ndelta = 1e-6", "clients = 100000");
    let delta = spec(&text).privacy.unwrap().delta;
    assert!((delta / 100_000_f64.powf(-1.1) - 1.0).abs() < 1e-9, "{delta}");
    assert!(!spec(&text).guarantees.iter().any(|line| line.contains("within ten times")), "nobody chose it");
    // Below one over any number of devices that there may be.
    assert!(spec(&PRIVATE.replace("clients = 10000\ndelta = 1e-6", "delta = 1e-11")).privacy.is_some());
}

#[test]
fn what_deserves_a_second_look_is_a_warning() {
    let warned = |text: &str, part: &str| {
        let all = spec(text).guarantees.join("\n");
        assert!(all.contains("warning: ") && all.contains(part), "{part}: {all}");
    };
    warned(&PRIVATE.replace("size = 100", "size = 10"), "the noise on the mean is large");
    warned(
        &PRIVATE.replace("noise_multiplier = 2.0", "noise_multiplier = 0.2").replace("= 10.0", "= 1000.0"),
        "hides little",
    );
    warned(&PRIVATE.replace("budget_epsilon = 10.0", "budget_epsilon = 1.0"), "does not fit its own limit");
    warned(&PRIVATE.replace("delta = 1e-6", "delta = 5e-5"), "within ten times");
}
