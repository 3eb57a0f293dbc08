//! A rule from the command line.

use crate::{
    exit::{Exit, Failure},
    file,
};
use serde::Deserialize as _;
use std::path::Path;
use testudo_aggregate::{RuleConfig, catalogue};
use testudo_engine::document::{Document, Problem, Problems};

/// Longest rule, bytes.
const RULE_BYTES: u64 = 64 << 10;
/// What errors call the rule's text.
const FILE: &str = "--rule";

/// Reads TOML, `@FILE` or a bare kind, with `byzantine` and `pre` added if given apart.
///
/// # Errors
/// What is wrong with the rule: line, key, value and fix.
pub(super) fn read(text: &str, byzantine: Option<u64>, pre: &[String]) -> Result<RuleConfig, Failure> {
    let (name, mut text) = match text.strip_prefix('@') {
        Some(path) => (path, file::read_text(Path::new(path), RULE_BYTES)?),
        None => (FILE, unfold(text)),
    };
    if let Some(byzantine) = byzantine {
        text = format!("{}\nbyzantine = {byzantine}\n", text.trim_end());
    }
    if !pre.is_empty() {
        let list: Vec<String> = pre.iter().map(|kind| toml::Value::from(kind.as_str()).to_string()).collect();
        text = format!("{}\npre = [{}]\n", text.trim_end(), list.join(", "));
    }
    parse(name, &text).map_err(|problems| {
        let kinds: Vec<&str> = catalogue().iter().map(|info| info.kind).collect();
        Failure::new(Exit::Config, "the rule is refused", problems.to_string()).next(format!(
            "write for example --rule 'kind = \"krum\"; byzantine = 2'; the kinds are {}",
            kinds.join(", ")
        ))
    })
}

/// A bare word is a kind; outside strings `;` and the two characters `\n` end a line, because shells hand them on.
fn unfold(text: &str) -> String {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !text.is_empty() && text.bytes().all(is_word) {
        return format!("kind = \"{text}\"");
    }
    let mut unfolded = String::with_capacity(text.len());
    let mut quote = None;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, '\\') if letters.peek() == Some(&'n') => {
                letters.next();
                unfolded.push('\n');
            }
            (None, ';') => unfolded.push('\n'),
            (None, '"' | '\'') => {
                quote = Some(letter);
                unfolded.push(letter);
            }
            (Some(open), closing) => {
                if open == closing {
                    quote = None;
                }
                unfolded.push(letter);
            }
            _ => unfolded.push(letter),
        }
    }
    unfolded
}

fn parse(file: &str, text: &str) -> Result<RuleConfig, Problems> {
    let document = Document::parse(file, text)?;
    let table: toml::Table = document.read()?;
    RuleConfig::deserialize(table.clone()).map_err(|error| {
        // These messages quote the key and read "what; fix".
        let message = error.message().to_string();
        let (what, fix) = message.split_once("; ").unwrap_or((&message, ""));
        let key = message.split('`').skip(1).step_by(2).find(|key| table.contains_key(*key));
        document.problems(vec![match key {
            Some(key) => document.problem(key, what, fix),
            None if table.contains_key("kind") && what.contains("kind") => document.problem("kind", what, fix),
            None => {
                Problem { line: None, key: String::new(), value: String::new(), what: what.into(), fix: fix.into() }
            }
        }])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_rule_is_understood() {
        let krum = r#"krum (byzantine = 2)"#;
        for text in [
            "kind = \"krum\"\nbyzantine = 2",
            r#"kind = "krum"\nbyzantine = 2"#,
            r#"kind = "krum"; byzantine = 2"#,
            r#"kind='krum';byzantine=2;"#,
        ] {
            assert_eq!(read(text, None, &[]).unwrap().to_string(), krum, "{text}");
        }
        assert_eq!(read("krum", Some(2), &[]).unwrap().to_string(), krum);
        assert_eq!(read("median", None, &[]).unwrap().kind(), "median");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "kind = \"krum\" # the one\nbyzantine = 2\n").unwrap();
        assert_eq!(read(&format!("@{}", file.path().display()), None, &[]).unwrap().to_string(), krum);
    }

    #[test]
    fn a_wrong_rule_is_refused_by_key_with_its_fix() {
        for (text, parts) in [
            ("krumm", &["--rule:1: kind = \"krumm\"", "unknown rule kind", "multi_krum"][..]),
            ("krum", &["`byzantine` is missing", "set it to"]),
            (r#"kind = "krum"\nbyzantine = 2\nfoo = 1"#, &["--rule:3: foo = 1", "unknown key", "takes"]),
            (r#"kind = "krum"; byzantine = -1"#, &["--rule:2: byzantine = -1", "at least 0"]),
            (r#"kind = "krum"; byzantine = 2; byzantine = 3"#, &["--rule:3", "duplicate"]),
            ("kind = ", &["--rule:1"]),
            ("byzantine = 2", &["kind"]),
            ("", &["kind"]),
        ] {
            let failure = read(text, None, &[]).unwrap_err();
            assert_eq!(failure.exit, Exit::Config, "{text}");
            for part in parts {
                assert!(failure.why.contains(part), "{text}: {}", failure.why);
            }
        }
        assert_eq!(read("@/no/such/rule.toml", None, &[]).unwrap_err().exit, Exit::NotFound);
    }
}
