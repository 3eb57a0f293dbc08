//! `testudo demo` from outside.

use serde_json::Value;
use std::{path::Path, process::Command};

/// Runs a small demo and returns its last line as JSON, and what went to standard error.
fn demo(report: &Path, more: &[&str]) -> (Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testudo"));
    let usual = ["--clients", "8", "--poisoned", "2"].iter().filter(|_| !more.contains(&"--clients"));
    command.args(["demo", "--rounds", "3", "--json"]).args(usual).arg("--report").arg(report);
    let output = command.args(more).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}\n{stderr}");
    (serde_json::from_str(stdout.lines().last().unwrap()).unwrap(), stderr)
}

/// Without what a clock or a folder decides.
fn numbers(mut object: Value) -> Value {
    for key in ["seconds", "report"] {
        object.as_object_mut().unwrap().remove(key).unwrap();
    }
    object
}

#[test]
fn three_trainings_end_with_their_accuracies_and_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.html");
    let (object, stderr) = demo(&report, &[]);
    let runs = object["runs"].as_array().unwrap();
    let names: Vec<_> = runs.iter().map(|run| (run["name"].as_str().unwrap(), run["rule"].as_str().unwrap())).collect();
    assert_eq!(names, [("clean", "mean"), ("poisoned", "mean"), ("defended", "multi_krum")]);
    let accuracy: Vec<f64> = runs.iter().map(|run| run["accuracy"].as_f64().unwrap()).collect();
    assert!(accuracy.iter().all(|accuracy| (0.0..=1.0).contains(accuracy)), "{accuracy:?}");
    assert!(accuracy[1] < accuracy[0] - 0.2 && accuracy[1] < accuracy[2] - 0.2, "{accuracy:?}");
    // One of the two sends NaN: refused in each of the three rounds, whatever the rule.
    assert_eq!((&runs[0]["rejected"], &runs[0]["rejected_honest"]), (&0.into(), &0.into()));
    assert_eq!((&runs[1]["rejected"], &runs[1]["rejected_honest"]), (&3.into(), &0.into()));
    assert!(runs[2]["rejected"].as_u64().unwrap() >= 6, "{}", runs[2]);
    assert!(object["seconds"].as_f64().unwrap() > 0.0);

    let lines: Vec<&str> = stderr.lines().filter(|line| line.starts_with("round ")).collect();
    assert_eq!(lines.len(), 9, "{stderr}");
    assert!(lines[3].contains("poisoned") && lines[3].contains("(NON_FINITE)"), "{stderr}");
    assert!(lines[8].contains("defended") && lines[8].contains("not selected: "), "{stderr}");
    assert_eq!(Path::new(object["report"].as_str().unwrap()), report);
    let page = std::fs::read_to_string(&report).unwrap();
    assert!(page.contains("<svg") && page.contains("defended"));
}

#[test]
fn the_same_seed_gives_the_same_numbers_and_another_seed_others() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.html");
    let one = numbers(demo(&report, &["--seed", "7"]).0);
    assert_eq!(one, numbers(demo(&report, &["--seed", "7"]).0));
    assert_ne!(one["runs"], numbers(demo(&report, &["--seed", "8"]).0)["runs"]);
}

#[test]
fn a_masked_demo_shows_sums_only_and_survives_who_vanishes() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["--secure", "--clients", "32", "--poisoned", "1", "--dropouts", "2", "--rule", "median"];
    let (object, stderr) = demo(&folder.path().join("report.html"), &more);
    let secure = &object["secure"];
    assert_eq!((&secure["group_size"], &secure["sums"], &secure["dropouts"]), (&8.into(), &4.into(), &2.into()));
    assert_eq!((&secure["lost_groups"], &secure["masked_inputs"]), (&0.into(), &31.into()), "{secure}");
    let number = |key: &str| secure[key].as_f64().unwrap();
    assert!(number("largest_correlation") < number("chance_correlation"), "{secure}");
    assert!(number("step_correlation") > 0.5, "{secure}");
    let accuracy = |run: usize| object["runs"][run]["accuracy"].as_f64().unwrap();
    assert!(accuracy(1) < accuracy(2), "{object}");
    assert!(stderr.contains("guarantee report") && stderr.contains("no single update"), "{stderr}");
    // Two vanished in round 2, one of them before its input was in.
    assert!(stderr.lines().any(|line| line.contains("defended") && line.contains("left: client-")), "{stderr}");
}

#[test]
fn a_private_demo_shows_its_budget_and_hides_verdicts() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let more = ["--dp", "--clients", "12", "--poisoned", "2", "--data-dir", data.to_str().unwrap()];
    let (object, stderr) = demo(&folder.path().join("report.html"), &more);
    let budget = &object["privacy"]["budget"];
    assert_eq!((&budget["population"], &budget["privacy_unit"]), (&"demo".into(), &"client".into()), "{object}");
    let number = |key: &str| budget[key].as_f64().unwrap();
    assert!(number("epsilon_spent") > 0.5 && number("epsilon_spent") <= number("epsilon_limit"), "{budget}");
    assert_eq!(budget["epsilon_unamplified"], budget["epsilon_spent"]);
    assert_eq!(budget["history"].as_array().unwrap().len(), 3, "{budget}");
    assert!(!budget["not_covered"].as_array().unwrap().is_empty());
    let defended = &object["runs"][2];
    assert_eq!((&defended["rule"], &defended["rejected"]), (&"trimmed_mean".into(), &Value::Null), "{defended}");
    let newest = budget["history"][2]["release"].as_str().unwrap();
    assert_eq!(defended["model_digest"].as_str().unwrap().trim_start_matches("sha256:"), newest, "{defended}");
    assert!(stderr.contains("privacy") && stderr.contains("not covered"), "{stderr}");
    // The ledger is there after it, and holds.
    let run = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_testudo")).args(words).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr))
    };
    let (code, text) = run(&["privacy", "show", "--data-dir", data.to_str().unwrap()]);
    assert!(code == Some(0) && text.contains("demo-defended"), "{text}");
    let (code, text) = run(&["privacy", "verify-ledger", "--data-dir", data.to_str().unwrap()]);
    assert!(code == Some(0) && text.contains("3 charges"), "{text}");
    // A budget that does not hold the run, and a rule without a proof.
    let (code, text) = run(&["demo", "--dp", "--clients", "12", "--rounds", "1", "--budget-epsilon", "0.01"]);
    assert!(code == Some(8) && text.contains("more releases like it fit"), "{text}");
    let (code, text) = run(&["demo", "--dp", "--clients", "12", "--rounds", "1", "--rule", "median"]);
    assert!(code == Some(3) && text.contains("median cannot be used with [privacy]"), "{text}");
}

#[test]
fn a_private_demo_without_a_trusted_server_masks_and_noises_the_robust_training() {
    let folder = tempfile::tempdir().unwrap();
    let more =
        ["--dp", "--masked", "--clients", "48", "--group-size", "16", "--dropouts", "1", "--budget-epsilon", "20"];
    let (object, stderr) = demo(&folder.path().join("report.html"), &more);
    let budget = &object["privacy"]["budget"];
    assert_eq!((&budget["trust_model"], &budget["tasks"][0]["rounds_released"]), (&"distributed".into(), &3.into()));
    assert_eq!(budget["history"].as_array().unwrap().len(), 3, "{budget}");
    let secure = &object["secure"];
    assert_eq!((&secure["sums"], &secure["group_size"], &secure["lost_groups"]), (&3.into(), &16.into(), &0.into()));
    let defended = &object["runs"][2];
    assert!(defended["rule"] == "trimmed_mean" && defended["rejected"].is_u64(), "noised rows hide it: {defended}");
    assert!(stderr.contains("distributed model") && stderr.contains("no single update"), "{stderr}");
}

#[test]
fn a_task_whose_plan_does_not_fit_its_limit_is_told_so_by_check() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("task.toml");
    let text = |epsilon: f64| {
        format!(
            "name = \"a\"\nrounds = 100\n[model]\ninitial = \"m\"\n[cohort]\nsize = 100\n[encoding]\nclip_l2 = 1.0\n\
             [rule]\nkind = \"mean\"\n[privacy]\nmechanism = \"gaussian\"\npopulation = \"phones\"\nnoise_multiplier = 8.0\n\
             budget_epsilon = {epsilon:?}\ndelta = 1e-6\nclients = 100000\n"
        )
    };
    for (epsilon, expected) in [(1.0, 8), (20.0, 0)] {
        std::fs::write(&path, text(epsilon)).unwrap();
        let words = ["task", "check", path.to_str().unwrap(), "--json"];
        let output = Command::new(env!("CARGO_BIN_EXE_testudo")).args(words).output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(expected), "{stdout}");
        let part = if expected == 8 { "PRIVACY_BUDGET_EXHAUSTED" } else { "epsilon_unamplified" };
        assert!(stdout.contains(part), "{stdout}");
    }
}

#[test]
fn the_noise_multiplier_that_a_refusal_names_does_whatever_it_is_measured_against() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("task.toml");
    let masks = "[visibility]\nmasking = \"pairwise\"\ngroup_size = 32\ncolluders = 0.02\n";
    let krum = "kind = \"multi_krum\"\nbyzantine = 10";
    let mean = "kind = \"mean\"";
    for (rule, masks, more, times) in [
        (mean, "", "", "1 times"),
        (mean, "", "adjacency = \"replace_one\"", "2 times"),
        (krum, "", "accept_large_sensitivity = true", "22 times"),
        (mean, "", "trust = \"local\"", "2 times"),
        (mean, masks, "trust = \"distributed\"", "1.000"),
    ] {
        let text = |noise: &str| {
            format!(
                "name = \"a\"\nrounds = 100\n[model]\ninitial = \"m\"\n[cohort]\nsize = 128\nminimum = 96\n{masks}[encoding]\n\
                 clip_l2 = 1.0\n[rule]\n{rule}\n[privacy]\nmechanism = \"gaussian\"\npopulation = \"phones\"\nnoise_multiplier = \
                 {noise}\nbudget_epsilon = 2.0\ndelta = 1e-6\nclients = 100000\n{more}\n"
            )
        };
        let check = |noise: &str| {
            std::fs::write(&path, text(noise)).unwrap();
            let words = ["task", "check", path.to_str().unwrap(), "--json"];
            let output = Command::new(env!("CARGO_BIN_EXE_testudo")).args(words).output().unwrap();
            (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr))
        };
        let (code, refused) = check("8.0");
        assert!(code == Some(8) && refused.contains(times), "{more}: {refused}");
        let named = refused.split("raise noise_multiplier to ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        let (code, said) = check(named);
        assert_eq!(code, Some(0), "{more}: {named} {said}");
        let less = named.parse::<f64>().unwrap() * 0.999;
        assert_eq!(check(&format!("{less:?}")).0, Some(8), "{more}: {named} is more than it takes");
    }
}

#[test]
fn check_says_who_adds_the_noise_and_what_one_round_tells() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("task.toml");
    let masks = "[visibility]\nmasking = \"pairwise\"\ngroup_size = 32\ncolluders = 0.02\n";
    for (trust, masks, key) in
        [("central", "", "divisor"), ("local", "", "deviation"), ("distributed", masks, "honest")]
    {
        let text = format!(
            "name = \"a\"\nrounds = 10\n[model]\ninitial = \"m\"\n[cohort]\nsize = 128\nminimum = 96\n{masks}[encoding]\n\
             clip_l2 = 1.0\n[rule]\nkind = \"mean\"\n[privacy]\nmechanism = \"gaussian\"\ntrust = {trust:?}\n\
             population = \"phones\"\nnoise_multiplier = 8.0\nbudget_epsilon = 20.0\ndelta = 1e-6\nclients = 100000\n"
        );
        std::fs::write(&path, text).unwrap();
        let words = ["task", "check", path.to_str().unwrap(), "--json"];
        let output = Command::new(env!("CARGO_BIN_EXE_testudo")).args(words).output().unwrap();
        let object: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let privacy = &object["privacy"];
        assert_eq!(privacy["trust_model"], trust);
        assert!(privacy["epsilon"].as_f64().unwrap() > privacy["epsilon_of_one_round"].as_f64().unwrap(), "{privacy}");
        assert!(privacy[key].as_f64().is_some_and(|value| value > 0.0), "{key}: {privacy}");
        let output = Command::new(env!("CARGO_BIN_EXE_testudo")).args(&words[..3]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("noise: z = 8 over the clip, which task.toml calls noise_multiplier, is "), "{said}");
        assert_eq!(said.contains("--min-shared-noise"), trust == "distributed", "{said}");
    }
}

#[test]
fn a_model_that_the_mean_lets_explode_ends_that_training_and_not_the_demo() {
    let folder = tempfile::tempdir().unwrap();
    let (object, stderr) = demo(&folder.path().join("report.html"), &["--attack", "sign_flip:scale=1e30"]);
    assert!(object["runs"][1]["ended_early"].as_str().unwrap().contains("abandoned"), "{object}");
    assert!(object["runs"][2]["ended_early"].is_null(), "{object}");
    assert!(stderr.contains("this training ends here"), "{stderr}");
}

#[test]
fn what_cannot_be_is_refused_before_anything_starts() {
    for (words, code, part) in [
        (&["--clients", "8", "--poisoned", "4"][..], 2, "at most 3"),
        (&["--clients", "2"], 2, "3..=500"),
        (&["--attack", "shouting"], 2, "sign_flip"),
        (&["--attack", "sign_flip:loud=1"], 2, "scale"),
        (&["--rule", "krumm"], 3, "multi_krum"),
        (&["--clients", "8", "--rule", "kind = \"krum\"\\nbyzantine = 3"], 3, "krum (byzantine = 3)"),
        (&["--group-size", "8"], 2, "--secure"),
        (&["--noise-multiplier", "8"], 2, "--dp"),
        (&["--secure", "--clients", "7"], 2, "--group-size 8"),
        (&["--report", "/no/such/folder/report.html"], 6, "/no/such/folder/report.html"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_testudo")).arg("demo").args(words).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {stderr}");
        assert!(stderr.contains(part), "{words:?}: {stderr}");
    }
}
