//! `testudo join` from outside: two processes train what a third one serves.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use serde_json::Value;
use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

fn testudo(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testudo"));
    command.args(words).env_remove("TESTUDO_SERVER").stdin(Stdio::null());
    command
}

/// `testudo serve` on a free port; killed when dropped.
struct Serving {
    child: Child,
    url: String,
    folder: tempfile::TempDir,
}

impl Serving {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = testudo(&["serve", "--listen", "127.0.0.1:0", "--web", "off", "--json", "--data-dir"]);
        command.arg(folder.path().join("data")).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let url = format!("http://{}", ready["address"].as_str().unwrap());
        Self { child, url, folder }
    }

    /// Creates a task for two clients from the starter model, with three rounds.
    fn create(&self, name: &str) {
        let folder = self.folder.path().join(name);
        let done = testudo(&["init", "--dir"]).arg(&folder).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        let toml = format!(
            "name = \"{name}\"\nrounds = 3\n[model]\ninitial = \"model.safetensors\"\n[cohort]\nsize = 2\n\
             phase_limit_s = 60\n[rule]\nkind = \"mean\"\n"
        );
        let task = folder.join("task.toml");
        fs::write(&task, toml).unwrap();
        let done = testudo(&["task", "create"]).arg(&task).args(["--server", &self.url]).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    fn join(&self, task: &str, words: &[&str]) -> Child {
        let mut command = testudo(&["join", "--server", &self.url, "--task", task]);
        command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(output: &Output) -> Vec<String> {
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success(), "{stdout} {}", String::from_utf8_lossy(&output.stderr));
    stdout.lines().map(ToString::to_string).collect()
}

#[test]
fn two_processes_train_a_task_to_its_end() {
    let serving = Serving::start();
    serving.create("digits");
    let one = serving.join("digits", &["--clients", "2", "--index", "0", "--json"]);
    let two = serving.join("digits", &["--clients", "2", "--index", "1", "--name", "second"]);
    let (one, two) = (one.wait_with_output().unwrap(), two.wait_with_output().unwrap());

    let objects: Vec<Value> = lines(&one).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 4, "{objects:?}");
    for (index, object) in objects[..3].iter().enumerate() {
        assert_eq!((&object["event"], &object["outcome"]), (&"round".into(), &"recorded".into()), "{object}");
        assert_eq!(object["round"], index as u64 + 1, "{object}");
    }
    assert_eq!((&objects[3]["event"], &objects[3]["why"]), (&"ended".into(), &"finished".into()));
    assert_eq!(
        (&objects[1]["verdicts"][0]["round"], &objects[1]["verdicts"][0]["verdict"]),
        (&1.into(), &"accepted".into())
    );
    assert_eq!(objects[3]["verdicts"][0]["round"], 3, "the last verdict comes with the end: {}", objects[3]);
    let accuracy = |object: &Value| object["accuracy_before"].as_f64().unwrap();
    assert!(accuracy(&objects[2]) > accuracy(&objects[0]) + 0.3, "{objects:?}");

    let two = lines(&two);
    assert_eq!(two.len(), 4, "{two:?}");
    assert!(two[1].contains("round   2") && two[1].contains("round 1: accepted"), "{two:?}");
    assert!(two[3].starts_with("finished after 3 rounds"), "{two:?}");
}

#[test]
fn a_csv_file_is_trained_on_and_rounds_can_be_limited() {
    let serving = Serving::start();
    serving.create("csv");
    let file = serving.folder.path().join("own.csv");
    write_csv(&file);
    let file = file.to_str().unwrap();
    let words = ["--data", file, "--label", "class", "--rounds", "1", "--json"];
    let one = serving.join("csv", &[&words[..], &["--name", "a"]].concat());
    let two = serving.join("csv", &[&words[..], &["--name", "b"]].concat());
    for child in [one, two] {
        let objects: Vec<Value> =
            lines(&child.wait_with_output().unwrap()).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(objects.last().unwrap()["why"], "rounds_done", "{objects:?}");
        assert_eq!(objects.len(), 2, "{objects:?}");
    }
}

/// 64 features and ten classes, as the starter model takes; the class is the first column.
fn write_csv(path: &Path) {
    let names: Vec<String> = (0..64).map(|feature| format!("f{feature}")).collect();
    let mut text = format!("class,{}\n", names.join(","));
    for row in 0..40 {
        let values: Vec<String> = (0..64).map(|feature| ((row * 7 + feature * 3) % 17).to_string()).collect();
        text += &format!("{},{}\n", row % 10, values.join(","));
    }
    fs::write(path, text).unwrap();
}

#[test]
fn what_cannot_be_is_refused() {
    let serving = Serving::start();
    let narrow = serving.folder.path().join("narrow.csv");
    fs::write(&narrow, "1,2,0\n3,4,1\n").unwrap();
    let narrow = narrow.to_str().unwrap();
    serving.create("digits");
    for (words, code, part) in [
        (&["--task", "other"][..], 6, "other"),
        (&["--task", "digits", "--index", "3"], 2, "from 0 to 0"),
        (&["--task", "digits", "--data", "/no/such.csv"], 6, "/no/such.csv"),
        (&["--task", "digits", "--data", narrow, "--label", "class"], 2, "class"),
        (&["--task", "digits", "--learning-rate", "0"], 2, "--learning-rate"),
        (&["--task", "digits", "--name", "No Name"], 4, "a-z"),
        (&["--task", "digits", "--cert", "a.pem"], 2, "--key"),
    ] {
        let output = testudo(&["join", "--server", &serving.url]).args(words).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {stderr}");
        assert!(stderr.contains(part), "{words:?}: {stderr}");
    }
    // Data that do not fit show with the first model, which needs both clients.
    let one = serving.join("digits", &["--data", narrow, "--name", "a"]);
    let two = serving.join("digits", &["--data", narrow, "--name", "b"]);
    for child in [one, two] {
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("64 features and 10 classes, the data have 2 and 2"), "{stderr}");
    }
}
