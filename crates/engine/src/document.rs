//! TOML documents whose errors name the file, line, key, value and fix.
//!
//! Shared by `task.toml` and `server.toml`.

use serde::de::DeserializeOwned;
use std::{error::Error, fmt, ops::Range};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// One thing wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// 1-based line, where the key is in the text.
    pub line: Option<usize>,
    /// Dotted path of the key; empty for the document as a whole.
    pub key: String,
    /// The value as written; empty if the key is missing.
    pub value: String,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub fix: String,
}

/// Everything wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// The file's name, or what the text is called.
    pub file: String,
    /// At least one.
    pub list: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}", self.file)?;
            if let Some(line) = problem.line {
                write!(f, ":{line}")?;
            }
            if !problem.key.is_empty() {
                write!(f, ": {}", problem.key)?;
                if !problem.value.is_empty() {
                    write!(f, " = {}", problem.value)?;
                }
            }
            write!(f, ": {}", problem.what)?;
            if !problem.fix.is_empty() {
                write!(f, "\n  fix: {}", problem.fix)?;
            }
        }
        Ok(())
    }
}

impl Error for Problems {}

/// A parsed document that can still say on which line a key stands.
#[derive(Debug)]
pub struct Document<'a> {
    file: String,
    text: &'a str,
    table: Spanned<DeTable<'a>>,
}

impl<'a> Document<'a> {
    /// Parses the text. `file` is what errors call it.
    ///
    /// # Errors
    /// [`Problems`] with the line of the first syntax error.
    pub fn parse(file: &str, text: &'a str) -> Result<Self, Problems> {
        let table = DeTable::parse(text).map_err(|error| Problems {
            file: file.to_string(),
            list: vec![Problem {
                line: error.span().map(|span| line_of(text, span.start)),
                key: String::new(),
                value: String::new(),
                what: one_line(error.message()),
                fix: "write valid TOML (https://toml.io)".into(),
            }],
        })?;
        Ok(Self { file: file.to_string(), text, table })
    }

    /// Reads the whole document into a type whose serde attributes refuse unknown keys.
    ///
    /// # Errors
    /// [`Problems`] naming the key, with the nearest known key where one is misspelt.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Problems> {
        toml::from_str(self.text).map_err(|error| self.explain(&error))
    }

    /// A problem with a key, given by its dotted path.
    pub fn problem(&self, key: &str, what: impl Into<String>, fix: impl Into<String>) -> Problem {
        let found = self.find(key);
        let line = found.as_ref().map(|span| line_of(self.text, span.start));
        let value = found.map(|span| one_line(&self.text[span])).unwrap_or_default();
        Problem { line, key: one_line(key), value: cut(&value), what: what.into(), fix: fix.into() }
    }

    /// Problems of this document.
    pub fn problems(&self, list: Vec<Problem>) -> Problems {
        Problems { file: self.file.clone(), list }
    }

    fn explain(&self, error: &toml::de::Error) -> Problems {
        let message = one_line(error.message());
        let mut key = error.span().and_then(|span| deepest(self.table.get_ref(), &span, "")).unwrap_or_default();
        if let Some(name) = quoted(&message, "unknown field `").or(quoted(&message, "missing field `"))
            && key.rsplit('.').next().map(one_line).as_deref() != Some(name)
        {
            key = if key.is_empty() { name.to_string() } else { format!("{key}.{name}") };
        }
        let fix = fix_for(&message);
        let mut problem = self.problem(&key, message.clone(), fix);
        if problem.line.is_none() {
            problem.line = error.span().map(|span| line_of(self.text, span.start));
        }
        self.problems(vec![problem])
    }

    fn find(&self, key: &str) -> Option<Range<usize>> {
        let mut table = self.table.get_ref();
        let mut parts = key.split('.').peekable();
        while let Some(part) = parts.next() {
            let value = table.iter().find(|(name, _)| name.get_ref() == part).map(|(_, value)| value)?;
            match (value.get_ref(), parts.peek()) {
                (_, None) => return Some(value.span()),
                (DeValue::Table(inner), Some(_)) => table = inner,
                _ => return None,
            }
        }
        None
    }
}

/// Path of the innermost key whose name or value covers a span.
fn deepest(table: &DeTable<'_>, span: &Range<usize>, path: &str) -> Option<String> {
    for (name, value) in table.iter() {
        let here = if path.is_empty() { name.get_ref().to_string() } else { format!("{path}.{}", name.get_ref()) };
        let covers = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
        if let DeValue::Table(inner) = value.get_ref()
            && let Some(found) = deepest(inner, span, &here)
        {
            return Some(found);
        }
        if covers(name.span()) || covers(value.span()) {
            return Some(here);
        }
    }
    None
}

/// The name most like `written`, if one is.
pub fn nearest<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names.into_iter().map(|name| (strsim::jaro_winkler(written, name), name));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

/// The name in backquotes that ends `start`.
fn quoted<'a>(message: &'a str, start: &str) -> Option<&'a str> {
    message.strip_prefix(start).and_then(|rest| rest.split('`').next())
}

/// What to write instead of what serde's message is about: the nearest known name where one is misspelt.
pub fn fix_for(message: &str) -> String {
    if let Some(name) = quoted(message, "missing field `") {
        return format!("add `{name}`");
    }
    let Some(expected) = message.split("expected ").nth(1) else {
        return "see `testudo init` for a commented sample".into();
    };
    let Some(name) = quoted(message, "unknown field `").or_else(|| quoted(message, "unknown variant `")) else {
        return format!("write {expected}");
    };
    let names: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    match nearest(name, names.iter().copied()) {
        Some(known) => format!("did you mean `{known}`? Known here: {}", names.join(", ")),
        _ if names.is_empty() => "remove it".into(),
        _ => format!("use one of: {}", names.join(", ")),
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|&&byte| byte == b'\n').count() + 1
}

/// Control characters and line breaks never reach a terminal or a log line.
fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect::<String>().trim().to_string()
}

fn cut(value: &str) -> String {
    if value.chars().count() <= 80 {
        value.to_string()
    } else {
        format!("{}…", value.chars().take(79).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read by serde")]
    struct Sample {
        name: String,
        cohort: Cohort,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read by serde")]
    struct Cohort {
        size: u64,
        phase_limit_s: u64,
    }

    fn refused(text: &str) -> Problem {
        let document = match Document::parse("task.toml", text) {
            Ok(document) => document,
            Err(problems) => return problems.list[0].clone(),
        };
        document.read::<Sample>().unwrap_err().list[0].clone()
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_line_and_the_nearest_known_one() {
        let problem = refused("name = \"a\"\n[cohort]\nsize = 3\nphase_limt_s = 4\n");
        assert_eq!((problem.line, problem.key.as_str()), (Some(4), "cohort.phase_limt_s"));
        assert!(problem.fix.contains("did you mean `phase_limit_s`"), "{}", problem.fix);
    }

    #[test]
    fn a_wrong_type_is_named_with_its_line_value_and_the_right_type() {
        let problem = refused("name = \"a\"\n[cohort]\nsize = \"many\"\nphase_limit_s = 4\n");
        assert_eq!((problem.line, problem.key.as_str()), (Some(3), "cohort.size"));
        assert_eq!(problem.value, "\"many\"");
        assert!(problem.fix.contains("u64"), "{}", problem.fix);
    }

    #[test]
    fn a_missing_key_is_named() {
        let problem = refused("name = \"a\"\n[cohort]\nsize = 3\n");
        assert_eq!(problem.key, "cohort.phase_limit_s");
        assert_eq!(problem.fix, "add `phase_limit_s`");
    }

    #[test]
    fn broken_syntax_has_a_line() {
        let problem = refused("name = \"a\"\n[cohort\nsize = 3\n");
        assert_eq!(problem.line, Some(2));
    }

    #[test]
    fn control_characters_do_not_reach_the_message() {
        let problems =
            Document::parse("x", "name = \"\\u001b[31m\"\n\"\\u001b\" = 1").unwrap().read::<Sample>().unwrap_err();
        assert!(!problems.to_string().contains('\u{1b}'), "{problems:?}");
    }
}
