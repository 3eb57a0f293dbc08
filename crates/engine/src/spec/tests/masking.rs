use super::*;
use crate::{Assumed, Masking};

/// The keyboard task of a thousand clients.
const KEYBOARD: &str = r#"
name = "keyboard-next-word"
rounds = 10
[model]
initial = "model.safetensors"
[cohort]
size = 1000
minimum = 1000
[visibility]
masking = "pairwise"
group_size = 32
threshold = 26
colluders = 0.1
byzantine = 0.01
[encoding]
clip_l2 = 2.0
[rule]
kind = "trimmed_mean"
byzantine = 13
"#;

/// A public key: of the first example of RFC 8032.
const AUTHORITY: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

fn with(replace: &str, by: &str) -> String {
    let text = KEYBOARD.replace(replace, by);
    assert_ne!(text, KEYBOARD, "{replace}");
    text
}

#[test]
fn a_masked_task_has_its_defaults() {
    let text = with("threshold = 26\ncolluders = 0.1\nbyzantine = 0.01\n", "").replace("minimum = 1000\n", "");
    let spec = spec(&text.replace("group_size = 32", "group_size = 36"));
    let expected = Masking {
        group_size: 36,
        threshold: None,
        clip_l2: 2.0,
        kappa: 2.0,
        bits: 16,
        max_weight: None,
        step_limit_ms: 60_000,
        assumed: Assumed { colluders: 0.05, byzantine: None, dropout: 0.05 },
        authority: None,
        accept_weak_guarantee: None,
    };
    assert_eq!(spec.masking, Some(expected));
    // 27 rows are more than the rule needs for 13 bad ones; fewer would not be enough.
    assert_eq!(spec.cohort.minimum, 27 * 36);
}

#[test]
fn the_report_of_the_keyboard_task_is_this_one() {
    let spec = spec(KEYBOARD);
    let expected = [
        "visibility: 31 rows of 32-33 clients; no single update",
        "server: honest-but-curious server (the aggregator runs the enrolment authority)",
        "privacy: >= 2 honest clients per row for <= 175 colluders (declared 100), failure <= 2^-40",
        "robustness: trimmed mean holds for <= 13 Byzantine clients (declared 10), failure <= 2^-20 per round",
        "dropouts: threshold 26 of 32, 27 of 33; at 5 % a group is lost with probability 1.1e-3",
        "rounds: 1000 clients selected, groups drawn when 1000 of them or, at the deadline, at least 1000 have sent their \
         keys; released with at least 27 rows, abandoned otherwise",
    ];
    assert_eq!(spec.guarantees[..expected.len()], expected);
    let last =
        ["not covered: what a row sum reveals; participation; a correct sum from a malicious server", "override: none"];
    assert_eq!(spec.guarantees[spec.guarantees.len() - last.len()..], last);
}

#[test]
fn each_impossible_masked_task_is_refused_with_line_key_and_fix() {
    let key = format!("authority = \"{AUTHORITY}\"\ncolluders = 0.1");
    let cases = [
        // (replace, with, key, part of the message, part of the fix)
        ("group_size = 32\nthreshold = 26", "", "visibility.group_size", "is missing", "group_size = 16"),
        ("group_size = 32", "group_size = 1", "visibility.group_size", "from 2", "8 to 1000"),
        ("group_size = 32", "group_size = 1001", "visibility.group_size", "cohort's size, 1000", "1000"),
        (
            "group_size = 32",
            "group_size = 64\n# threshold",
            "cohort.size",
            "needs at least 27 rows",
            "lower group_size",
        ),
        ("threshold = 26", "threshold = 21", "visibility.threshold", "from 22", "22 to 32"),
        ("threshold = 26", "threshold = 33", "visibility.threshold", "from 22", "22 to 32"),
        ("threshold = 26", "treshold = 26", "visibility.treshold", "unknown field", "threshold"),
        ("colluders = 0.1", "colluders = 1.5", "visibility.colluders", "outside", "from 0"),
        ("colluders = 0.1", "dropout = -0.1", "visibility.dropout", "outside", "from 0"),
        ("byzantine = 0.01", "byzantine = 0.5", "visibility.byzantine", "not a share", "0.01"),
        ("colluders = 0.1", "step_limit_s = 0", "visibility.step_limit_s", "outside", "from 0.05"),
        ("colluders = 0.1", "authority = \"abc\"", "visibility.authority", "64 hexadecimal", "public key"),
        ("colluders = 0.1", "accept_weak_guarantee = \" \"", "visibility.accept_weak_guarantee", "not a reason", "why"),
        ("colluders = 0.1", "accept_weak_guarantee = \"x\"", "visibility.accept_weak_guarantee", "no effect", "remove"),
        ("clip_l2 = 2.0", "", "encoding.clip_l2", "is missing", "add clip_l2"),
        ("clip_l2 = 2.0", "clip_l2 = 0.0", "encoding.clip_l2", "positive", "honest"),
        ("clip_l2 = 2.0", "clip_l2 = 2.0\nkappa = 2.5", "encoding.kappa", "at most clip_l2, 2", "up to 2"),
        ("clip_l2 = 2.0", "clip_l2 = 2.0\nkappa = nan", "encoding.kappa", "above 0", "remove"),
        ("clip_l2 = 2.0", "clip_l2 = 2.0\nbits = 25", "encoding.bits", "outside 1 to 24", "16"),
        ("clip_l2 = 2.0", "clip_l2 = 2.0\nmax_l2 = 3.0", "encoding.max_l2", "no effect", "clip_l2"),
        ("clip_l2 = 2.0", "clip_l2 = 2.0\naccept = [\"f16\"]", "encoding.accept", "no effect", "remove"),
        ("[rule]", "[examples]\nmax = 100\n[rule]", "examples.max", "no effect", "weighted = true"),
        ("[rule]", "[tensors]\nsteps = \"counter\"\n[rule]", "tensors.steps", "counters do not work", "ignore"),
        ("[rule]", "[reference]\nclient = \"a\"\n[rule]", "reference.client", "no reference", "remove"),
        ("trimmed_mean\"\nbyzantine = 13", "fltrust\"", "rule.kind", "one trusted client's update", "trimmed_mean"),
        ("trimmed_mean\"\nbyzantine = 13", "foolsgold\"", "rule.kind", "every client's updates", "trimmed_mean"),
        ("kind = \"trimmed_mean\"", "kind = \"monna\"\nrow = 0", "rule.kind", "by its number", "trimmed_mean"),
        ("byzantine = 13", "byzantine = 16", "cohort.size", "31 groups, but the rule needs at least 33", "raise"),
        ("minimum = 1000", "minimum = 700", "cohort.minimum", "must be from 864", "864 to 1000"),
        // Infeasible: too many colluders, then against a malicious server, Byzantine clients, dropouts.
        (
            "colluders = 0.1",
            "colluders = 0.2",
            "visibility.group_size",
            "at most 175 colluders among 1000",
            "threshold",
        ),
        (
            "colluders = 0.1",
            key.as_str(),
            "visibility.group_size",
            "at most 21 colluders among 1000",
            "write group_size",
        ),
        (
            "byzantine = 0.01",
            "byzantine = 0.03",
            "visibility.byzantine",
            "at most 13 Byzantine",
            "tolerate more bad rows",
        ),
        (
            "colluders = 0.1",
            "dropout = 0.25",
            "visibility.dropout",
            "a group is lost with probability 0.75",
            "lower byzantine or dropout",
        ),
        (
            "threshold = 26",
            "threshold = 32",
            "visibility.group_size",
            "a group is lost with probability 0.8",
            "threshold",
        ),
        ("group_size = 32\nthreshold = 26", "group_size = 7", "visibility.group_size", "below 8", "write group_size"),
    ];
    for (replace, by, key, what, fix) in cases {
        let text = with(replace, by);
        let problem = refused(&text, key, what, fix);
        if !problem.what.starts_with("is missing") {
            assert_names_its_line(&text, &problem);
        }
    }
}

#[test]
fn what_has_no_meaning_in_clear_mode_is_refused_key_by_key() {
    let keys = [
        ("visibility", "threshold = 8"),
        ("visibility", "step_limit_s = 60"),
        ("visibility", "colluders = 0.05"),
        ("visibility", "byzantine = 0.05"),
        ("visibility", "dropout = 0.05"),
        ("visibility", "authority = \"00\""),
        ("visibility", "accept_weak_guarantee = \"test\""),
        ("encoding", "kappa = 1.0"),
        ("encoding", "bits = 16"),
        ("encoding", "clip_l2 = 1.0"),
    ];
    for (section, line) in keys {
        let list = problems(&GOOD.replace("[rule]", &format!("[{section}]\n{line}\n[rule]")));
        let key = format!("{section}.{}", line.split(' ').next().unwrap());
        assert!(list.len() == 1 && list[0].key == key && list[0].what.contains("no effect"), "{line}: {list:?}");
    }
}

#[test]
fn the_sum_of_the_largest_group_fits_32_bits() {
    let one_sum = |size: usize, bits: u32| {
        with("size = 1000\nminimum = 1000", &format!("size = {size}\nminimum = {size}"))
            .replace("group_size = 32\nthreshold = 26", &format!("group_size = {size}"))
            .replace("byzantine = 0.01\n", "")
            .replace("kind = \"trimmed_mean\"\nbyzantine = 13", "kind = \"mean\"")
            .replace("clip_l2 = 2.0", &format!("clip_l2 = 2.0\nbits = {bits}"))
    };
    for (size, bits) in [(4096, 20), (256, 24)] {
        spec(&one_sum(size, bits));
        let list = problems(&one_sum(size + 1, bits));
        assert!(list[0].key == "encoding.bits" && list[0].fix.contains(&format!("bits = {}", bits - 1)), "{list:?}");
    }
    // A single row takes all that is left over: 16 to 31 clients make one group of 31.
    let text =
        one_sum(256, 24).replace("group_size = 256", "group_size = 150").replace("minimum = 256", "minimum = 150");
    spec(&text);
    let list = problems(&text.replace("size = 256", "size = 299"));
    assert!(list[0].what.contains("the sum of 299 clients"), "{list:?}");
}

#[test]
fn no_override_accepts_groups_that_have_no_graph_or_too_many_neighbours_for_a_message() {
    let one_sum = |size: usize, shares: &str| {
        with("size = 1000\nminimum = 1000", &format!("size = {size}\nminimum = {size}"))
            .replace("group_size = 32\nthreshold = 26\ncolluders = 0.1\n", &format!("group_size = {size}\n{shares}\n"))
            .replace("byzantine = 0.01\n", "accept_weak_guarantee = \"a test\"\n")
            .replace("kind = \"trimmed_mean\"\nbyzantine = 13", "kind = \"mean\"")
    };
    for (size, shares, what) in [
        (5000, "colluders = 0.2\ndropout = 0.33", "more than the 1022 whose shares fit one message"),
        (1200, "colluders = 0.5\ndropout = 0.3", "a group of 1200 clients"),
    ] {
        let list = problems(&one_sum(size, shares));
        let found = list.iter().find(|problem| problem.key == "visibility.group_size" && problem.what.contains(what));
        assert!(found.is_some_and(|problem| problem.fix.contains("declare fewer")), "{list:?}");
    }
}

#[test]
fn weights_are_asked_for_and_fit_their_bits() {
    let mean = with("kind = \"trimmed_mean\"\nbyzantine = 13", "kind = \"mean\"").replace("byzantine = 0.01\n", "");
    assert_eq!(spec(&mean).masking.unwrap().max_weight, None);
    assert!(!spec(&mean).examples.weighted);
    let weighted = mean.replace("[rule]", "[examples]\nweighted = true\nmax = 500\n[rule]");
    let weighted_spec = spec(&weighted);
    assert_eq!(weighted_spec.masking.unwrap().max_weight, Some(500));
    assert!(weighted_spec.guarantees.iter().any(|line| line.contains("claimed examples up to 500")));
    let list = problems(&weighted.replace("clip_l2 = 2.0", "clip_l2 = 2.0\nbits = 8"));
    assert!(list[0].key == "examples.max" && list[0].fix.contains("max = 255"), "{list:?}");
    let list = problems(&with("[rule]", "[examples]\nweighted = true\n[rule]").replace("trimmed_mean", "meamed"));
    assert!(list.iter().any(|problem| problem.key == "examples.weighted"), "{list:?}");
}

#[test]
fn an_accepted_weakness_is_in_the_report_with_its_reason() {
    let text = with("group_size = 32\nthreshold = 26", "group_size = 4\naccept_weak_guarantee = \"a demo\"")
        .replace("1000", "32")
        .replace("byzantine = 0.01", "byzantine = 0.125")
        .replace("byzantine = 13", "byzantine = 3");
    let report = spec(&text).guarantees;
    let all = report.join("\n");
    assert!(all.contains("visibility: 8 rows of 4 clients"), "{all}");
    assert!(all.contains("for <= 3 Byzantine clients (NOT for the declared 4)"), "{all}");
    // Four poisoned spoil four of eight rows every second time.
    assert!(all.contains("4 spoil more than 3 of 8 rows with probability 0.50"), "{all}");
    let last = report.last().unwrap();
    assert!(last.starts_with("override: \"a demo\" accepts: a row is the sum of only 4 clients"), "{last}");
    let list = problems(&text.replace("accept_weak_guarantee = \"a demo\"", ""));
    assert!(list.iter().any(|problem| problem.key == "visibility.group_size"), "{list:?}");
    assert!(list.iter().any(|problem| problem.key == "visibility.byzantine"), "{list:?}");
}

#[test]
fn an_independent_authority_makes_the_claim_against_a_malicious_server_with_its_own_numbers() {
    let key = AUTHORITY;
    let text =
        with("group_size = 32\nthreshold = 26", &format!("group_size = 32\nthreshold = 26\nauthority = \"{key}\""))
            .replace("colluders = 0.1", "colluders = 0.02");
    let spec = spec(&text);
    assert_eq!(spec.masking.as_ref().unwrap().authority, hex::decode(key).ok().and_then(|key| key.try_into().ok()));
    let all = spec.guarantees.join("\n");
    assert!(
        all.contains("server: malicious server, designed for, not proved; needs the enrolment authority d75a9801"),
        "{all}"
    );
    assert!(all.contains("for <= 21 colluders (declared 20), failure <= 2^-100"), "{all}");
    assert!(all.contains("honest-but-curious server: <= 175 colluders (declared 20), failure <= 2^-40"), "{all}");
}

#[test]
fn a_share_of_bad_clients_becomes_bad_rows_by_the_groups_formula() {
    let share = |fraction: f64, rest: &str| {
        with("byzantine = 13", &format!("byzantine = {{ fraction = {fraction}, risk = 1e-3{rest} }}"))
            .replace("byzantine = 0.01\n", "")
            .replace("group_size = 32\nthreshold = 26", "group_size = 16\nthreshold = 13")
            .replace("colluders = 0.1", "colluders = 0.02")
    };
    let rows = spec(&share(0.005, "")).rule.byzantine();
    // 62 rows, each spoiled with 1 − 0.995¹⁷ = 0.082: mean 5.1, and more than 13 with probability 4.0e-4, more than 12 with 1.3e-3.
    assert_eq!(rows, 13);
    let all = spec(&share(0.005, "")).guarantees.join("\n");
    assert!(all.contains("0.5 % bad clients spoil more than 13 rows with probability <= 0.001"), "{all}");
    // A population of 1200 holds six bad clients, and none spoils two rows.
    assert_eq!(spec(&share(0.005, ", population = 1200")).rule.byzantine(), 6);
    let list = problems(&share(0.005, ", population = 900"));
    assert!(list[0].what.contains("smaller than a cohort"), "{list:?}");
    let list = problems(&share(0.1, ""));
    assert!(list[0].key == "rule.byzantine" && list[0].fix.contains("accept_weak_guarantee"), "{list:?}");
    let twice = share(0.005, "").replace("colluders = 0.02", "colluders = 0.02\nbyzantine = 0.01");
    assert!(problems(&twice)[0].what.contains("declared twice"));
}

#[test]
fn what_the_fix_suggests_is_accepted() {
    let authority = format!("authority = \"{AUTHORITY}\"");
    let cases = [
        with("colluders = 0.1", "colluders = 0.18"),
        with("colluders = 0.1", "colluders = 0.2").replace("byzantine = 13", "byzantine = 3").replace("0.01", "0.003"),
        with("group_size = 32\nthreshold = 26", "group_size = 7"),
        with("colluders = 0.1", &format!("colluders = 0.02\n{authority}")).replace("threshold = 26\n", ""),
        with("colluders = 0.1", "dropout = 0.2"),
    ];
    for text in cases {
        let problem = problems(&text).remove(0);
        let number = |key: &str| {
            let rest = problem.fix.split(&format!("{key} = ")).nth(1)?;
            Some(rest.chars().take_while(char::is_ascii_digit).collect::<String>())
        };
        let size = number("write group_size").unwrap_or_else(|| panic!("{problem:?}"));
        let lines = text.lines().filter(|line| !line.starts_with("threshold"));
        let lines = lines.map(|line| match (line.starts_with("group_size"), number("and threshold")) {
            (true, Some(threshold)) => format!("group_size = {size}\nthreshold = {threshold}"),
            (true, None) => format!("group_size = {size}"),
            (false, _) => line.to_string(),
        });
        spec(&lines.collect::<Vec<_>>().join("\n"));
    }
}

#[test]
fn the_report_of_formed_groups_has_their_numbers() {
    let spec = spec(KEYBOARD);
    let masking = spec.masking.clone().unwrap();
    let lines = guarantees::for_groups(&spec, 1020, &masking.groups(1020));
    assert!(lines[0].contains("31 rows of 32-33 clients"), "{lines:?}");
    assert!(lines[2].contains("(declared 102)"), "{lines:?}");
    assert!(guarantees::infeasible_for(&spec, 1020, &masking.groups(1020)).is_empty());
    // Groups smaller than the task promised are named.
    let few = guarantees::infeasible_for(&spec, 28, &[4; 7]);
    assert!(few.iter().any(|weakness| weakness.what.contains("only 4 clients")), "{few:?}");
    assert!(guarantees::for_groups(&spec, 28, &[4; 7]).last().unwrap().contains("none was given"));
    let clear = TaskSpec::new("task.toml", GOOD).unwrap();
    assert_eq!(guarantees::for_groups(&clear, 10, &[]), clear.guarantees);
    assert!(guarantees::infeasible(&clear).is_empty());
}
