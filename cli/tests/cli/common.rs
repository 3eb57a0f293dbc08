//! Running the binary.

use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
};
use tempfile::TempDir;

/// The binary without the caller's environment having a say.
pub(crate) fn testudo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testudo"));
    command.args(arguments).env_remove("TESTUDO_SERVER").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Runs it to the end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    testudo(arguments).output().unwrap()
}

/// Runs it and expects an exit code; standard output and standard error as text.
pub(crate) fn expect(code: i32, arguments: &[&str]) -> (String, String) {
    let output = run(arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\nstdout: {stdout}\nstderr: {stderr}");
    (stdout, stderr)
}

/// Runs it with `--json` and expects an exit code and one object.
pub(crate) fn json(code: i32, arguments: &[&str]) -> Value {
    let (stdout, stderr) = expect(code, &[arguments, &["--json"]].concat());
    assert_eq!(stdout.lines().count(), 1, "{arguments:?}: {stdout:?}\n{stderr}");
    let object: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(object["schema_version"], 1, "{object}");
    object
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// `testudo serve` on a free port with its own folder; killed when dropped.
pub(crate) struct Serving {
    pub(crate) child: Child,
    pub(crate) url: String,
    pub(crate) ready: Value,
    _folder: TempDir,
}

impl Serving {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--web", "off", "--data-dir", text(&data), "--json"];
        let mut child = testudo(&arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let url = format!("http://{}", ready["address"].as_str().unwrap());
        Self { child, url, ready, _folder: folder }
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
