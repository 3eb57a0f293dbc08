//! Operator commands against `testudo serve`.

use crate::common::{Serving, expect, json, text};
use std::fs;

#[test]
fn a_task_lives_from_create_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let serving = Serving::start();
    assert_eq!((&serving.ready["transport"], &serving.ready["web"]), (&"plaintext".into(), &serde_json::Value::Null));
    let server = ["--server", serving.url.as_str()];
    let with = |words: &[&'static str]| [words, &server[..]].concat();

    assert_eq!(json(0, &with(&["task", "list"]))["tasks"], serde_json::json!([]));
    expect(0, &["init", "--dir", text(folder.path())]);
    let task = folder.path().join("task.toml");
    let created = json(0, &["task", "create", text(&task), server[0], server[1]]);
    assert_eq!((&created["task"]["name"], &created["task"]["state"]), (&"digits".into(), &"running".into()));
    let again = json(9, &["task", "create", text(&task), server[0], server[1]]);
    assert_eq!(again["error"]["code"], "EXISTS");

    let (stdout, _) = expect(0, &with(&["task", "list"]));
    assert!(stdout.contains("digits") && stdout.contains("running"), "{stdout}");
    let (stdout, _) = expect(0, &with(&["task", "show", "digits"]));
    assert!(stdout.contains("650 coordinates") && stdout.contains("robustness    rule trimmed_mean"), "{stdout}");
    let (toml, _) = expect(0, &with(&["task", "show", "digits", "--toml"]));
    assert_eq!(toml, fs::read_to_string(&task).unwrap());
    assert_eq!(json(6, &with(&["task", "show", "other"]))["error"]["code"], "NOT_FOUND");

    assert_eq!(json(0, &with(&["task", "pause", "digits"]))["task"]["state"], "paused");
    assert_eq!(json(0, &with(&["task", "resume", "digits"]))["task"]["state"], "running");
    assert_eq!(json(0, &with(&["round", "list", "digits"]))["rounds"], serde_json::json!([]));
    expect(6, &with(&["round", "show", "digits", "7"]));
    assert_eq!(json(0, &with(&["client", "list"]))["clients"], serde_json::json!([]));

    let out = folder.path().join("initial.safetensors");
    let got = json(0, &["model", "get", "digits", "--initial", "--out", text(&out), server[0], server[1]]);
    assert_eq!(fs::read(&out).unwrap(), fs::read(folder.path().join("model.safetensors")).unwrap());
    assert_eq!(got["digest"], created["task"]["model_digest"]);
    expect(9, &["model", "get", "digits", "--initial", "--out", text(&out), server[0], server[1]]);
    expect(0, &["model", "get", "digits", "--initial", "--force", "--out", text(&out), server[0], server[1]]);
    let none = folder.path().join("none.safetensors");
    let (_, stderr) = expect(6, &["model", "get", "digits", "--out", text(&none), server[0], server[1]]);
    assert!(stderr.contains("--initial") && !none.exists(), "{stderr}");

    let object = json(0, &["doctor", "--config", text(&doctor_config(folder.path())), server[0], server[1]]);
    assert!(object["checks"].as_array().unwrap().iter().any(|check| check["name"] == "server"), "{object}");

    assert_eq!(json(0, &with(&["task", "stop", "digits", "--yes"]))["task"]["state"], "stopped");
    let watched = expect(0, &with(&["round", "watch", "digits", "--jsonl"]));
    assert!(watched.0.is_empty(), "the stream closes with the task: {}", watched.0);
}

/// Free ports and its own folder.
fn doctor_config(folder: &std::path::Path) -> std::path::PathBuf {
    let path = folder.join("doctor.toml");
    let data = folder.join("doctor-data");
    let text = format!("[listen]\naddress = \"127.0.0.1:0\"\nweb = \"127.0.0.1:0\"\n[storage]\ndata_dir = {data:?}\n");
    fs::write(&path, text).unwrap();
    path
}

#[cfg(unix)]
#[test]
fn sigterm_stops_the_server_gracefully_with_exit_0() {
    for signal in ["-TERM", "-INT"] {
        let mut serving = Serving::start();
        serving.signal(signal);
        assert_eq!(serving.child.wait().unwrap().code(), Some(0), "{signal}");
    }
}

#[test]
fn a_taken_address_is_refused() {
    let serving = Serving::start();
    let folder = tempfile::tempdir().unwrap();
    let address = serving.ready["address"].as_str().unwrap();
    let words = ["serve", "--listen", address, "--web", "off", "--data-dir", text(folder.path())];
    let (stdout, stderr) = expect(9, &words);
    assert!(stdout.is_empty() && stderr.contains("cannot start") && stderr.contains("doctor"), "{stderr}");
}
