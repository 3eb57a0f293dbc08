//! `testudo load` from outside.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use serde_json::Value;
use std::process::Command;

fn load(words: &[&str]) -> (Option<i32>, Value, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_testudo"))
        .arg("load")
        .args(words)
        .arg("--json")
        .env_remove("TESTUDO_SERVER")
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let last = stdout.lines().last().unwrap_or_else(|| panic!("{stderr}"));
    (output.status.code(), serde_json::from_str(last).unwrap(), stderr)
}

fn check(object: &Value, rounds: usize, rule: &str) {
    assert_eq!((&object["clients"], &object["dimension"]), (&4.into(), &1000.into()), "{object}");
    assert_eq!((&object["rule"], &object["failures"]), (&rule.into(), &0.into()), "{object}");
    let seconds = object["seconds_per_round"].as_array().unwrap();
    assert_eq!(seconds.len(), rounds, "{object}");
    assert!(seconds.iter().all(|seconds| seconds.as_f64().unwrap() >= 0.0), "{object}");
    assert!(object["server_peak_rss_bytes"].as_u64().unwrap() > 1 << 20, "{object}");
}

#[test]
fn a_server_of_its_own_is_measured_with_either_spool() {
    for spool in ["memory", "file"] {
        let words = ["--clients", "4", "--dimension", "1000", "--rounds", "3", "--rule", "median", "--spool", spool];
        let (code, object, stderr) = load(&words);
        assert_eq!(code, Some(0), "{object} {stderr}");
        check(&object, 3, "median");
    }
}

#[test]
fn clients_may_share_connections() {
    let words = ["--clients", "4", "--dimension", "1000", "--rounds", "2", "--connections", "1"];
    let (code, object, stderr) = load(&words);
    assert_eq!(code, Some(0), "{object} {stderr}");
    assert_eq!(object["connections"], 1);
    check(&object, 2, "mean");
}

#[test]
fn lean_clients_need_no_memory_for_models() {
    let words =
        ["--clients", "4", "--dimension", "1000", "--rounds", "3", "--rule", "krum", "--byzantine", "0", "--lean"];
    let (code, object, stderr) = load(&words);
    assert_eq!((code, &object["clients_keep_models"]), (Some(0), &false.into()), "{object} {stderr}");
    check(&object, 3, "krum");
}

#[test]
fn the_time_limit_ends_it_and_the_server_it_started() {
    let words = ["--clients", "4", "--dimension", "1000", "--rounds", "100000", "--timeout", "2"];
    let (code, object, _) = load(&words);
    assert_eq!((code, &object["error"]["code"]), (Some(10), &"UNAVAILABLE".into()), "{object}");
    assert!(object["error"]["next"].as_str().unwrap().contains("--timeout"), "{object}");
}

#[test]
fn what_cannot_be_is_refused() {
    for (words, code, part) in [
        (&["--clients", "0"][..], 2, "1..=100000"),
        (&["--dimension", "0"], 2, "1..="),
        (&["--clients", "4", "--rule", "krum", "--byzantine", "1"], 3, "krum (byzantine = 1)"),
        (&["--rule", "avg"], 3, "trimmed_mean"),
        (&["--timeout", "0"], 2, "--timeout"),
        (&["--server", "http://127.0.0.1:1"], 10, "testudo serve"),
        (&["--server", "127.0.0.1:1"], 2, "http://HOST:PORT"),
        (&["--server", "http://127.0.0.1:1", "--spool", "file"], 2, "--spool"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_testudo")).arg("load").args(words).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {stderr}");
        assert!(stderr.contains(part), "{words:?}: {stderr}");
    }
}
