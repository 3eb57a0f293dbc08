//! Help, wrong use, `init`, `task check`, and no server.

use crate::common::{expect, json, run, text};
use std::fs;

const LEAVES: &[&[&str]] = &[
    &["serve"],
    &["task", "create"],
    &["task", "check"],
    &["task", "list"],
    &["task", "show"],
    &["task", "pause"],
    &["task", "resume"],
    &["task", "stop"],
    &["round", "list"],
    &["round", "show"],
    &["round", "watch"],
    &["client", "list"],
    &["model", "get"],
    &["aggregate"],
    &["privacy", "epsilon"],
    &["privacy", "calibrate"],
    &["init"],
    &["doctor"],
    &["demo"],
    &["join"],
    &["load"],
    &["completion"],
];

/// An address nobody listens on: port 9 is discard, and reserved.
const NOBODY: &str = "http://127.0.0.1:9";

#[test]
fn help_and_version_are_results() {
    for words in [&[][..], &["task"], &["round"], &["client"], &["model"]].into_iter().chain(LEAVES.iter().copied()) {
        let (stdout, stderr) = expect(0, &[words, &["--help"]].concat());
        assert!(stdout.contains("Usage: testudo"), "{words:?}: {stdout}");
        assert!(stderr.is_empty(), "{words:?}: {stderr}");
        assert!(!LEAVES.contains(&words) || stdout.contains("Example"), "{words:?}: {stdout}");
    }
    assert!(expect(0, &["--version"]).0.starts_with("testudo "));
}

#[test]
fn every_shell_has_a_script_that_knows_the_verbs() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (script, stderr) = expect(0, &["completion", shell]);
        for word in ["aggregate", "watch", "--rule"] {
            // Fish writes options without their dashes.
            assert!(script.contains(word.trim_start_matches('-')), "{shell}: no {word}");
        }
        assert!(stderr.is_empty(), "{stderr}");
    }
    assert!(json(0, &["completion", "bash"])["script"].as_str().unwrap().contains("complete -F _testudo"));
    let (_, stderr) = expect(2, &["completion", "cmd"]);
    assert!(stderr.contains("bash"), "{stderr}");
}

#[test]
fn wrong_use_is_exit_2_and_json_where_asked() {
    for words in [
        &["no-such-verb"][..],
        &["task"],
        &["task", "show"],
        &["task", "show", "Not A Name"],
        &["round", "show", "a", "0"],
    ] {
        let (stdout, stderr) = expect(2, words);
        assert!(stdout.is_empty() && !stderr.is_empty(), "{words:?}");
    }
    let object = json(2, &["task", "show"]);
    assert_eq!((&object["error"]["exit"], &object["error"]["code"]), (&2.into(), &"USAGE".into()));
}

#[test]
fn without_a_server_every_operator_verb_is_exit_10_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model.safetensors");
    for words in [
        &["task", "list"][..],
        &["task", "show", "a"],
        &["task", "pause", "a"],
        &["task", "stop", "a", "--yes"],
        &["round", "list", "a"],
        &["round", "show", "a"],
        &["round", "watch", "a"],
        &["client", "list"],
        &["model", "get", "a", "--out", text(&out)],
    ] {
        let (stdout, stderr) = expect(10, &[words, &["--server", NOBODY]].concat());
        assert!(stdout.is_empty(), "{stdout}");
        assert!(stderr.contains("error: cannot reach") && stderr.contains("next: start `testudo serve`"), "{stderr}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let object = json(10, &["task", "list", "--server", NOBODY]);
    assert_eq!(object["error"]["code"], "UNAVAILABLE");
}

#[test]
fn stopping_a_task_needs_a_second_word() {
    let (_, stderr) = expect(2, &["task", "stop", "a", "--server", NOBODY]);
    assert!(stderr.contains("--yes") && stderr.contains("pause"), "{stderr}");
}

#[test]
fn what_init_writes_passes_check_and_is_never_overwritten_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("new");
    let object = json(0, &["init", "--dir", text(&dir)]);
    assert_eq!(object["files"].as_array().unwrap().len(), 3);
    assert_eq!(object["next"].as_array().unwrap().len(), 3);

    let task = dir.join("task.toml");
    let object = json(0, &["task", "check", text(&task)]);
    assert_eq!((&object["name"], &object["model"]["parameters"]), (&"digits".into(), &650.into()));
    assert_eq!(object["model"]["update_bytes"], 2600);
    assert!(object["guarantees"].as_array().unwrap().len() >= 4);
    assert!(object["model"]["server_memory_bytes"]["spool_file"].as_u64().unwrap() > 2600);
    let (stdout, _) = expect(0, &["task", "check", text(&task)]);
    assert!(stdout.starts_with("guarantee report  task digits  suite none  smallest cohort 3\n"), "{stdout}");
    assert!(stdout.contains("\nrobustness    rule trimmed_mean"), "{stdout}");

    expect(0, &["init", "--dir", text(&dir), "--force", "--masking", "pairwise"]);
    let object = json(0, &["task", "check", text(&task)]);
    assert_eq!((&object["suite"], &object["masking"]["group_size"]), (&"pairwise/1".into(), &16.into()));
    assert!(object["masking"]["accept_weak_guarantee"].is_null());
    let (stdout, _) = expect(0, &["task", "check", text(&task)]);
    assert!(stdout.starts_with("guarantee report  task digits  suite pairwise/1  smallest cohort 48\n"), "{stdout}");
    assert!(stdout.contains("\nvisibility    3 rows of 16 clients; no single update\n"), "{stdout}");
    assert!(stdout.contains("\noverride      none\n"), "{stdout}");
    expect(0, &["init", "--dir", text(&dir), "--force"]);

    fs::write(&task, "mine").unwrap();
    fs::remove_file(dir.join("server.toml")).unwrap();
    let (_, stderr) = expect(9, &["init", "--dir", text(&dir)]);
    assert!(stderr.contains("task.toml") && stderr.contains("--force"), "{stderr}");
    assert_eq!(fs::read(&task).unwrap(), b"mine");
    assert!(!dir.join("server.toml").exists(), "nothing is written when something is in the way");
    expect(0, &["init", "--dir", text(&dir), "--force"]);
    expect(0, &["task", "check", text(&task)]);
}

#[test]
fn a_task_that_is_impossible_is_exit_3_with_line_key_and_fix() {
    let folder = tempfile::tempdir().unwrap();
    expect(0, &["init", "--dir", text(folder.path())]);
    let task = folder.path().join("task.toml");
    let sample = fs::read_to_string(&task).unwrap();
    for (from, to, parts) in [
        ("size = 4", "size = 2", &["cohort.size", "at least 3"][..]),
        ("size = 4", "sise = 4", &["cohort.sise", "did you mean `size`"]),
        ("kind = \"trimmed_mean\"", "kind = \"trimmed\"", &["rule.kind", "trimmed_mean"]),
        ("rounds = 20", "rounds = 0", &["rounds", "from 1"]),
    ] {
        fs::write(&task, sample.replacen(from, to, 1)).unwrap();
        let (_, stderr) = expect(3, &["task", "check", text(&task)]);
        for part in parts {
            assert!(stderr.contains(part), "{stderr}");
        }
        assert!(stderr.contains("task.toml:"), "no line: {stderr}");
        // The same is found before anything is sent.
        expect(3, &["task", "create", text(&task), "--server", NOBODY]);
    }
}

#[test]
fn check_works_without_a_model_but_not_with_a_broken_one() {
    let folder = tempfile::tempdir().unwrap();
    expect(0, &["init", "--dir", text(folder.path())]);
    let (task, model) = (folder.path().join("task.toml"), folder.path().join("model.safetensors"));
    fs::write(&model, b"\xff\xff\xff\xff\xff\xff\xff\xff{}").unwrap();
    let (_, stderr) = expect(3, &["task", "check", text(&task)]);
    assert!(stderr.contains("model.safetensors") && stderr.contains("limit"), "{stderr}");
    fs::remove_file(&model).unwrap();
    let (stdout, _) = expect(0, &["task", "check", text(&task)]);
    assert!(stdout.contains("its model is missing") && !stdout.contains("possible"), "{stdout}");
    assert!(stdout.contains("model.safetensors is not there") && stdout.contains("--model"), "{stdout}");
    assert!(json(0, &["task", "check", text(&task)])["model"].is_null());
    expect(6, &["task", "check", text(&task), "--model", text(&model)]);
    expect(6, &["task", "create", text(&task), "--server", NOBODY]);
    expect(6, &["task", "check", text(&folder.path().join("none.toml"))]);
}

#[test]
fn a_wrong_server_configuration_is_exit_3_for_serve_and_doctor() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("server.toml");
    fs::write(&config, "[listen]\nadress = \"127.0.0.1:1\"\n").unwrap();
    let (stdout, stderr) = expect(3, &["serve", "--config", text(&config)]);
    assert!(
        stdout.is_empty() && stderr.contains("did you mean `address`") && stderr.contains("server.toml:2"),
        "{stderr}"
    );
    let object = json(3, &["doctor", "--config", text(&config)]);
    assert_eq!((&object["ok"], &object["checks"][0]["state"]), (&false.into(), &"failed".into()));
    let (_, stderr) = expect(3, &["serve", "--listen", "0.0.0.0:0"]);
    assert!(stderr.contains("--allow-plaintext"), "{stderr}");
    expect(2, &["serve", "--listen", "nonsense"]);
}

#[test]
fn colours_never_reach_a_pipe() {
    let output = run(&["task", "--help"]);
    assert!(!output.stdout.contains(&0x1b));
}
