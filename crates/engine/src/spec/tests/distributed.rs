//! `[privacy] trust = "distributed"`: what is accepted, how thresholds follow, and what is refused.

use super::*;
use proptest::prelude::*;
use testudo_privacy::{
    accountant::zcdp,
    budget::{ChargeMechanism, Gate},
    clip::rounded_bound,
    sensitivity::Adjacency,
};

const SHARED: &str = r#"
name = "keyboard"
rounds = 10
[model]
initial = "model.safetensors"
[cohort]
size = 128
minimum = 96
[visibility]
masking = "pairwise"
group_size = 32
colluders = 0.02
[encoding]
clip_l2 = 0.5
[rule]
kind = "mean"
[privacy]
mechanism = "gaussian"
trust = "distributed"
population = "phones"
noise_multiplier = 4.0
budget_epsilon = 20.0
delta = 1e-6
clients = 100000
"#;

#[test]
fn shares_are_sized_for_the_honest_survivors_that_the_threshold_leaves() {
    let spec = spec(SHARED);
    let (shares, masking) = (spec.shares.as_ref().unwrap(), spec.masking.as_ref().unwrap());
    // 2 % of 128 clients are 2 colluders, and both may be in one group; its threshold is 22 of 32.
    assert_eq!((masking.complete_threshold(32), shares.honest(), shares.shares.colluders()), (22, 20, 2));
    let charge = shares.budget.charge;
    let bound = rounded_bound(&shares.grid);
    assert_eq!((charge.adjacency, charge.sensitivity_grid), (Adjacency::ZeroOut, bound));
    assert_eq!(charge.mechanism, ChargeMechanism::Shares { honest: 20, coordinates: 1 << 30 });
    assert_eq!(charge.sigma_grid, (4.0 * 1_048_576.0 / 20_f64.sqrt()).ceil() as u64);
    assert!((charge.noise_multiplier() / 4.0 - 1.0).abs() < 1e-3, "the clip and a ten-thousandth");
    assert_eq!((charge.gate(), masking.bits), (Gate::Zcdp, 20));
    let expected = zcdp::epsilon(10.0 / 32.0, 1e-6);
    let epsilon = shares.budget.epsilon_of(10);
    assert!(epsilon >= expected && epsilon < expected * 1.001, "{epsilon} {expected}");
    assert!(spec.privacy.is_none() && spec.local.is_none() && spec.budget().as_ref() == Some(&shares.budget));
    let all = spec.guarantees.join("\n");
    for part in [
        "distributed model",
        "20 survivors of every group are honest",
        "fewer than 22 survivors",
        "do not clip",
        "wraps",
        "computational",
        "zero-out",
        "\"phones\"",
        "noise of up to 3.9995 times",
        "2 of a group of 32",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
    let nobody =
        self::spec(&SHARED.replace("colluders = 0.02", "colluders = 0.0\ndropout = 0.0")).guarantees.join("\n");
    assert!(nobody.contains("at 0 % a group is lost with probability 0\n"), "{nobody}");
    let replaced = self::spec(&SHARED.replace("[privacy]", "[privacy]\nadjacency = \"replace_one\""));
    assert_eq!(replaced.budget().unwrap().charge.sensitivity_grid, 2 * bound);
}

#[test]
fn a_number_of_honest_survivors_raises_the_threshold() {
    let with = |honest: u64| SHARED.replace("[privacy]", &format!("[privacy]\nhonest = {honest}"));
    for (honest, threshold) in [(26, 28), (20, 22), (5, 22)] {
        let spec = spec(&with(honest));
        let masking = spec.masking.as_ref().unwrap();
        assert_eq!((masking.complete_threshold(32), spec.shares.unwrap().honest()), (threshold, honest as u32));
    }
    let list = problems(&with(31));
    assert!(list.iter().any(|one| one.key == "privacy.honest" && one.fix.contains("from 1 to 30")), "{list:?}");
    let configured = spec(&SHARED.replace("group_size = 32", "group_size = 32\nthreshold = 25"));
    assert_eq!(configured.shares.unwrap().honest(), 23, "a configured threshold counts");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_group_of_any_cohort_is_unmasked_with_fewer_honest_survivors(
        group_size in 8_usize..40, groups in 2_usize..6, extra in 0_usize..30, colluders in 0.0..0.06_f64,
    ) {
        let (least, most) = (group_size * groups, group_size * groups + extra);
        let text = SHARED
            .replace("size = 128\nminimum = 96", &format!("size = {most}\nminimum = {least}"))
            .replace("group_size = 32", &format!("group_size = {group_size}\naccept_weak_guarantee = \"a test\""))
            .replace("colluders = 0.02", &format!("colluders = {colluders}"));
        let strong = text.replace("\naccept_weak_guarantee = \"a test\"", "");
        let spec = TaskSpec::new("task.toml", &text).or_else(|_| TaskSpec::new("task.toml", &strong));
        // Refused ones are drawn again, and too many of them fail the test.
        prop_assume!(spec.is_ok());
        let spec = spec.unwrap();
        let (masking, honest) = (spec.masking.unwrap(), spec.shares.unwrap().honest() as usize);
        for clients in least..=most {
            for size in masking.groups(clients) {
                // Whoever the groups are drawn for: no group holds more colluders than there are, but for 2^−40.
                let held = crate::guarantees::colluders_held(&masking, clients, size);
                prop_assert!(masking.complete_threshold(size) >= honest + held, "{clients} {size}");
            }
        }
    }
}

#[test]
fn rows_that_are_noised_may_go_through_any_rule_over_rows() {
    for rule in [
        "kind = \"median\"\nbyzantine = 1",
        "kind = \"trimmed_mean\"\nbyzantine = 1",
        "kind = \"trimmed_mean\"\nbyzantine = 1\npre = [\"nnm\"]",
        "kind = \"mean\"\ngranularity = \"layer\"",
    ] {
        let text = SHARED.replace("kind = \"mean\"", rule).replace("[visibility]", "[visibility]\nbyzantine = 0.0");
        assert!(spec(&text).shares.is_some(), "{rule}");
    }
}

#[test]
fn what_has_no_meaning_beside_shares_is_refused_with_why_and_fix() {
    for (replace, with, key, what, fix) in [
        (
            "masking = \"pairwise\"\ngroup_size = 32\ncolluders = 0.02",
            "",
            "visibility.masking",
            "share of the noise",
            "pairwise",
        ),
        (
            "[privacy]",
            "[privacy]\naccept_large_sensitivity = true",
            "privacy.accept_large_sensitivity",
            "no effect",
            "remove",
        ),
        ("[privacy]", "[privacy]\nadjacency = \"add_or_remove\"", "privacy.adjacency", "secret or noised", "zero_out"),
        ("[privacy]", "[privacy]\nsampling = \"poisson\"", "privacy.sampling", "is not to know", "none"),
        ("[privacy]", "[privacy]\nadaptive_clip = {}", "privacy.adaptive_clip", "nobody sees", "central"),
        ("\"gaussian\"", "\"matrix\"", "privacy.mechanism", "of the server", "gaussian"),
        ("[privacy]", "[privacy]\ngrid_bits = 15", "privacy.grid_bits", "outside", "16 to 28"),
        ("[privacy]", "[privacy]\ngrid_bits = 28", "privacy.grid_bits", "does not fit", "must fit 32 bits"),
        ("noise_multiplier = 4.0", "noise_multiplier = 1e-6", "privacy.noise_multiplier", "does not fit", "from 2"),
        (
            "noise_multiplier = 4.0",
            "noise_multiplier = 1000.0",
            "privacy.grid_bits",
            "does not fit",
            "must fit 32 bits",
        ),
        ("clip_l2 = 0.5", "clip_l2 = 0.5\nbits = 20", "encoding.bits", "no effect", "remove"),
        ("clip_l2 = 0.5", "clip_l2 = 0.5\nkappa = 0.1", "encoding.kappa", "no effect", "remove"),
        ("clip_l2 = 0.5", "", "encoding.clip_l2", "missing", "clip_l2"),
        ("[rule]", "[examples]\nweighted = true\n[rule]", "examples.weighted", "without noise", "false"),
        ("[rule]", "[tensors]\n\"steps\" = \"counter\"\n[rule]", "tensors.steps", "counters", "ignore"),
        ("delta = 1e-6", "delta = 0.01", "privacy.delta", "publish one client", "less than"),
        ("colluders = 0.02", "colluders = 0.4", "visibility.colluders", "certain to be secret", "fewer colluders"),
        // Never more than there are in the group that is named, whatever other sizes there may be.
        ("colluders = 0.02", "colluders = 0.9", "visibility.colluders", "a group of 32 clients", "fewer colluders"),
        (
            "size = 128\nminimum = 96",
            "size = 240\nminimum = 240",
            "visibility.group_size",
            "none over all their members",
            "lower",
        ),
    ] {
        let mut text = SHARED.replace(replace, with);
        assert_ne!(text, SHARED, "{replace}");
        if with.contains("size = 240") {
            text = text.replace("group_size = 32", "group_size = 120");
        }
        refused(&text, key, what, fix);
    }
    for trust in ["central", "local"] {
        let text =
            SHARED.replace("\"distributed\"", &format!("{trust:?}")).replace("[privacy]", "[privacy]\nhonest = 5");
        let text = text.replace("masking = \"pairwise\"\ngroup_size = 32\ncolluders = 0.02", "");
        let list = problems(&text);
        assert!(list.iter().any(|one| one.key == "privacy.honest" && one.what.contains("no effect")), "{list:?}");
    }
}
