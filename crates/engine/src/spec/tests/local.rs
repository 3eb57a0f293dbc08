//! `[privacy] trust = "local"`: what is accepted, and what is refused.

use super::*;
use testudo_privacy::{accountant::gaussian, budget::ChargeMechanism, sensitivity::Adjacency};

const LOCAL: &str = r#"
name = "keyboard"
rounds = 10
[model]
initial = "model.safetensors"
[cohort]
size = 100
[encoding]
clip_l2 = 0.5
[rule]
kind = "median"
byzantine = 5
[privacy]
mechanism = "gaussian"
trust = "local"
population = "phones"
noise_multiplier = 4.0
budget_epsilon = 20.0
delta = 1e-6
clients = 100000
"#;

#[test]
fn a_local_task_has_its_figures_and_says_what_it_promises() {
    let spec = spec(LOCAL);
    let local = spec.local.as_ref().unwrap();
    let charge = local.budget.charge;
    assert!(spec.privacy.is_none(), "the server adds nothing");
    assert_eq!((charge.adjacency, charge.mechanism), (Adjacency::ReplaceOne, ChargeMechanism::Local));
    assert_eq!((charge.sigma_grid, charge.sensitivity_grid), (4 << 24, 2 << 24), "twice the clip");
    assert_eq!((local.deviation(), local.grid_bits()), (2.0, 24));
    assert_eq!(spec.budget().as_ref(), Some(&local.budget));
    let exact = gaussian::epsilon(gaussian::mu(2.0, 10), 1e-6);
    let epsilon = local.budget.epsilon_of(10);
    assert!(epsilon >= exact && epsilon < exact * (1.0 + 1e-6), "{epsilon} {exact}");
    let all = spec.guarantees.join("\n");
    for part in
        ["local model", "replace-one", "sensitivity 2C", "with the client's own noise", "\"phones\"", "one update"]
    {
        assert!(all.contains(part), "{part}: {all}");
    }
    assert!(!all.contains("warning: ") && !all.contains("no noise"), "{all}");
}

#[test]
fn rows_that_are_noised_may_go_through_anything() {
    for rule in [
        "kind = \"krum\"\nbyzantine = 5",
        "kind = \"mean\"\ngranularity = \"layer\"",
        "kind = \"trimmed_mean\"\nbyzantine = 5\npre = [\"nnm\"]",
        "kind = \"centered_clipping\"\nradius = 0.5\nsteps = 3",
        "kind = \"geometric_median\"\nbyzantine = 5",
    ] {
        let text = LOCAL.replace("kind = \"median\"\nbyzantine = 5", rule);
        assert!(spec(&text).local.is_some() && !spec(&text).examples.weighted, "{rule}");
    }
    spec(&LOCAL.replace("clip_l2 = 0.5", "clip_l2 = 0.5\nmax_l2 = 1000.0"));
    spec(&LOCAL.replace("[rule]", "[tensors]\n\"bn.*\" = \"stats\"\n[rule]"));
    spec(&LOCAL.replace("[privacy]", "[privacy]\nadjacency = \"replace_one\""));
}

#[test]
fn what_has_no_meaning_beside_noise_of_ones_own_is_refused_with_why_and_fix() {
    for (replace, with, key, what, fix) in [
        ("[privacy]", "[privacy]\nadjacency = \"zero_out\"", "privacy.adjacency", "which one", "replace_one"),
        (
            "[privacy]",
            "[privacy]\naccept_large_sensitivity = true",
            "privacy.accept_large_sensitivity",
            "no effect",
            "remove",
        ),
        ("[privacy]", "[privacy]\nsampling = \"poisson\"", "privacy.sampling", "is not to know", "none"),
        ("[privacy]", "[privacy]\nadaptive_clip = {}", "privacy.adaptive_clip", "nobody sees", "central"),
        ("[privacy]", "[privacy]\nparticipations = 2", "privacy.participations", "no effect", "tree"),
        ("\"gaussian\"", "\"tree\"", "privacy.mechanism", "of the server", "write mechanism = \"gaussian\""),
        ("[privacy]", "[privacy]\ngrid_bits = 32", "privacy.grid_bits", "outside", "1 to 31"),
        ("noise_multiplier = 4.0", "noise_multiplier = 1e6", "privacy.grid_bits", "does not fit", "at most"),
        ("clip_l2 = 0.5", "", "encoding.clip_l2", "missing", "clip_l2 = 1.0"),
        ("clip_l2 = 0.5", "clip_l2 = 0.5\naccept = [\"f16\"]", "encoding.accept", "encoding of their own", "remove"),
        ("[rule]", "[examples]\nweighted = true\n[rule]", "examples.weighted", "without noise", "false"),
        ("[rule]", "[examples]\nmax = 10\n[rule]", "examples.max", "no effect", "remove"),
        ("[rule]", "[tensors]\n\"steps\" = \"counter\"\n[rule]", "tensors.steps", "noised", "ignore"),
        ("delta = 1e-6", "delta = 0.01", "privacy.delta", "publish one client", "less than"),
        (
            "rounds = 10",
            "rounds = 10\n[visibility]\nmasking = \"pairwise\"\ngroup_size = 10",
            "visibility.masking",
            "nothing more",
            "none",
        ),
    ] {
        let text = LOCAL.replace(replace, with);
        assert_ne!(text, LOCAL, "{replace}");
        refused(&text, key, what, fix);
    }
}
