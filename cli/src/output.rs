//! Data on standard output, everything else on standard error.

use crate::{
    exit::{Exit, Failure},
    format::{clean_lines, is_unsafe},
};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    io::{self, ErrorKind, IsTerminal, Write},
};

/// Version of the JSON objects' shape.
const SCHEMA_VERSION: u32 = 1;

/// Where a command's results go, and in which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// JSON instead of text.
    pub(crate) json: bool,
    /// Colours on standard output: a terminal, and no `NO_COLOR`.
    pub(crate) colour: bool,
    /// Someone watches standard error: progress bars make sense.
    pub(crate) watched: bool,
}

impl Output {
    /// Looks at the terminal and the environment.
    pub(crate) fn new(json: bool) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self { json, colour: io::stdout().is_terminal() && !plain, watched: io::stderr().is_terminal() && !plain }
    }

    /// A result: the object with `--json`, else the text.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(crate) fn result(&self, object: Value, text: impl FnOnce(&Self) -> String) -> Result<(), Failure> {
        match self.json {
            true => self.line(&json_line(object)),
            false => self.line(&text(self)),
        }
    }

    /// Lines of text on standard output.
    ///
    /// # Errors
    /// If standard output cannot be written; [`Exit::Ok`] if its reader went away.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Failure::reader_gone(),
            _ => Failure::new(Exit::Internal, "cannot write to standard output", error.to_string()),
        })
    }

    /// A message on standard error. Nobody reading it is no failure.
    pub(crate) fn note(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{}", clean_lines(text));
    }

    /// Tells why a command failed: text on standard error and, with `--json`, an object on standard output.
    pub(crate) fn failure(&self, failure: &Failure) {
        // Nothing to say: told already, or nobody listens.
        if failure.what.is_empty() {
            return;
        }
        let _ = writeln!(io::stderr().lock(), "{}", failure.text());
        if self.json {
            let _ = self.line(&json_line(failure.json()));
        }
    }
}

/// One line of JSON with its schema version. Characters that steer terminals are escaped: JSON itself would let those
/// beyond ASCII through.
pub(crate) fn json_line(mut object: Value) -> String {
    if let Value::Object(entries) = &mut object {
        entries.entry("schema_version").or_insert(json!(SCHEMA_VERSION));
    }
    let plain = object.to_string();
    let mut text = String::with_capacity(plain.len());
    for letter in plain.chars() {
        if is_unsafe(letter) {
            let mut units = [0; 2];
            for unit in letter.encode_utf16(&mut units) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        } else {
            text.push(letter);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_one_line_with_a_version_and_reads_back_exactly() {
        let hostile = "a\u{1b}[31m\u{9b}2J\u{202e}\n\u{7f}ü";
        let line = json_line(json!({ "name": hostile }));
        assert!(line.chars().all(|letter| !is_unsafe(letter)), "{line:?}");
        let back: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(back["name"], hostile);
        assert_eq!(back["schema_version"], 1);
    }
}
