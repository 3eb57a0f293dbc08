//! `testudo privacy epsilon` and `calibrate`.

use crate::common::{expect, json};
use serde_json::Value;

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn epsilon_of(object: &Value, name: &str) -> f64 {
    let accountants = object["accountants"].as_array().unwrap();
    let entry = accountants.iter().find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("{name}: {object}"));
    entry["epsilon"].as_f64().unwrap()
}

fn names(object: &Value) -> Vec<&str> {
    object["accountants"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect()
}

#[test]
fn a_bound_that_says_little_and_noise_that_hides_little_are_warned_of() {
    let warnings = |line: &str| json(0, &words(line))["warnings"].as_array().unwrap().len();
    assert_eq!(warnings("privacy epsilon --noise-multiplier 10 --rounds 10 --delta 1e-6"), 0);
    assert_eq!(warnings("privacy epsilon --noise-multiplier 1 --rounds 100 --delta 1e-6"), 1);
    assert_eq!(warnings("privacy epsilon --noise-multiplier 0.2 --rounds 1 --delta 1e-6"), 2);
    let (text, _) = expect(0, &words("privacy epsilon --noise-multiplier 1 --rounds 100 --delta 1e-6"));
    assert!(text.contains("warning: an ε of ") && text.contains("permits to learn much"), "{text}");
}

#[test]
fn epsilon_prints_every_valid_accountant_and_the_best() {
    let object = json(0, &words("privacy epsilon --mechanism gaussian --noise-multiplier 1.0 --rounds 1 --delta 1e-5"));
    assert_eq!(names(&object), ["gaussian_exact", "zcdp", "rdp", "pld"]);
    assert!((epsilon_of(&object, "gaussian_exact") - 4.377_178_095_681_224).abs() < 1e-9);
    assert!((epsilon_of(&object, "zcdp") - 4.728_386_984_943_314).abs() < 1e-9);
    assert_eq!(object["best"], object["accountants"][0]["epsilon"]);
    assert_eq!(object["adjacency"], "zero-out");
}

#[test]
fn sampled_runs_show_the_unamplified_epsilon_beside() {
    let plan = "privacy epsilon --noise-multiplier 1.1 --rounds 14062 --delta 1e-5";
    let poisson = json(0, &words(&format!("{plan} --sampling poisson --rate 0.004266666666666667")));
    assert_eq!(names(&poisson), ["rdp", "pld"]);
    assert!((epsilon_of(&poisson, "rdp") / 2.596_981_178_594_881_5 - 1.0).abs() < 1e-9);
    assert!((epsilon_of(&poisson, "pld") / 2.381_686_002_234_784 - 1.0).abs() < 1e-3);
    assert!(poisson["unamplified"].as_f64().unwrap() > 1000.0);
    let fixed = json(
        0,
        &words(
            "privacy epsilon --noise-multiplier 2 --rounds 1500 --delta 0.0002941176470588235 --sampling fixed \
             --cohort 50 --population 3400",
        ),
    );
    assert_eq!(names(&fixed), ["rdp"]);
    assert!((epsilon_of(&fixed, "rdp") / 2.214_580_974_986_337_7 - 1.0).abs() < 1e-9);
    assert_eq!(fixed["adjacency"], "replace-one");
}

#[test]
fn the_table_states_adjacency_and_assumptions() {
    let (stdout, _) = expect(
        0,
        &words("privacy epsilon --noise-multiplier 1.2 --rounds 100 --delta 1e-5 --sampling poisson --rate 0.0355"),
    );
    for part in ["rdp", "pld", "best", "without amplification", "zero-out", "independent coin", "fixed"] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
}

#[test]
fn the_other_mechanisms_have_their_accountants() {
    let tree = json(
        0,
        &words(
            "privacy epsilon --mechanism tree --noise-multiplier 7 --rounds 2000 --delta 1e-10 --max-participation 6 \
             --min-separation 313",
        ),
    );
    assert!((epsilon_of(&tree, "gaussian_exact") / 8.526_093_443_452_096 - 1.0).abs() < 1e-9);
    assert!((tree["sensitivity"].as_f64().unwrap() - 79_f64.sqrt()).abs() < 1e-9);
    let matrix = json(
        0,
        &words(
            "privacy epsilon --mechanism matrix --noise-multiplier 1 --rounds 128 --bands 32 --max-participation 4 \
             --min-separation 32 --delta 1e-6",
        ),
    );
    assert!((matrix["sensitivity"].as_f64().unwrap() / 2.944_130_010_559_613 - 1.0).abs() < 1e-9);
    let laplace = json(0, &words("privacy epsilon --mechanism laplace --scale 1 --rounds 1 --delta 1e-5"));
    assert_eq!(names(&laplace), ["pure", "rdp", "pld"]);
    assert_eq!(laplace["scale"], 1.0);
    let discrete =
        json(0, &words("privacy epsilon --mechanism discrete-gaussian --noise-multiplier 1 --rounds 1 --delta 1e-5"));
    assert_eq!(names(&discrete), ["zcdp", "rdp"]);
}

#[test]
fn calibrate_is_the_inverse() {
    let plan = "--rounds 1000 --delta 1e-5 --sampling poisson --rate 0.01";
    let object = json(0, &words(&format!("privacy calibrate --epsilon 1 {plan} --accountant rdp")));
    let noise = object["noise_multiplier"].as_f64().unwrap();
    assert!((noise / 1.513_122_162_607_214_7 - 1.0).abs() < 1e-8, "{noise}");
    let best = json(0, &words(&format!("privacy calibrate --epsilon 1 {plan}")));
    let noise = best["noise_multiplier"].to_string();
    let back = json(0, &words(&format!("privacy epsilon --noise-multiplier {noise} {plan}")));
    assert!(back["best"].as_f64().unwrap() <= 1.0, "{back}");
    let (stdout, _) = expect(0, &words("privacy calibrate --epsilon 2 --rounds 100 --delta 1e-6"));
    assert!(stdout.starts_with("noise multiplier = "), "{stdout}");
}

#[test]
fn wrong_parameters_are_exit_2_and_name_flag_value_and_fix() {
    let base = "privacy epsilon --rounds 10 --delta 1e-6";
    for (line, parts) in [
        (base.to_string(), ["--noise-multiplier", "1.1"]),
        (format!("{base} --noise-multiplier -1"), ["--noise-multiplier -1", "0.001 to"]),
        (format!("{base} --noise-multiplier nan"), ["--noise-multiplier NaN", "0.001 to"]),
        (format!("{base} --noise-multiplier 1 --rate 0.1"), ["--rate", "--sampling poisson"]),
        (format!("{base} --noise-multiplier 1 --sampling poisson"), ["--rate", "--sampling poisson"]),
        (format!("{base} --noise-multiplier 1 --sampling poisson --rate 2"), ["--rate 2", "probability"]),
        (format!("{base} --noise-multiplier 1 --sampling fixed --cohort 5"), ["--population", "10000"]),
        (
            format!("{base} --noise-multiplier 1 --sampling fixed --cohort 5 --population 4"),
            ["--cohort 5", "from 1 to 4"],
        ),
        (format!("{base} --mechanism laplace --noise-multiplier 1"), ["--noise-multiplier", "--scale"]),
        (format!("{base} --mechanism tree --noise-multiplier 1 --sampling poisson"), ["--sampling", "leave"]),
        ("privacy epsilon --rounds 10 --delta 0 --noise-multiplier 1".into(), ["--delta 0", "to 0.5"]),
        ("privacy epsilon --rounds 0 --delta 1e-6 --noise-multiplier 1".into(), ["--rounds 0", "from 1"]),
        ("privacy calibrate --rounds 10 --delta 1e-6 --epsilon 0".into(), ["--epsilon 0", "to 1000000"]),
        (
            "privacy calibrate --rounds 10 --delta 1e-6 --epsilon 1 --accountant best".into(),
            ["--accountant best", "gaussian_exact"],
        ),
    ] {
        let (stdout, stderr) = expect(2, &words(&line));
        assert!(stdout.is_empty(), "{line}: {stdout}");
        for part in parts {
            assert!(stderr.contains(part), "{line}: no {part:?} in {stderr}");
        }
    }
    let object = json(2, &words(&format!("{base} --noise-multiplier 0")));
    assert_eq!(object["error"]["code"], "USAGE");
}
