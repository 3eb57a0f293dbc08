//! Why a run cannot be.

use testudo_engine::SpecError;

/// What is wrong with a run: key, problem, fix. Whoever read the file adds file and line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{what}{}", prefix(key), suffix(fix))]
pub struct ScenarioError {
    /// Dotted path of the key; empty if the problem is not one key's.
    pub key: String,
    /// What is wrong, with the value.
    pub what: String,
    /// What to write instead.
    pub fix: String,
}

fn prefix(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{key}: ") }
}

fn suffix(fix: &str) -> String {
    if fix.is_empty() { String::new() } else { format!("; {fix}") }
}

impl ScenarioError {
    /// A problem with one key.
    pub(crate) fn new(key: &str, what: String, fix: &str) -> Self {
        Self { key: key.to_owned(), what, fix: fix.to_owned() }
    }

    /// What reading a table said.
    pub(crate) fn read(message: &str) -> Self {
        let what: String = message.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        let named = |start: &str| {
            message.strip_prefix(start).and_then(|rest| rest.split('`').next()).unwrap_or_default().to_owned()
        };
        let key = [named("unknown field `"), named("missing field `")].concat();
        Self { key, what, fix: String::new() }
    }

    /// What the task's own check said first.
    pub(crate) fn of_task(error: &SpecError) -> Self {
        let Some(problem) = error.0.list.first() else {
            return Self { key: String::new(), what: error.to_string(), fix: String::new() };
        };
        let value = if problem.value.is_empty() { String::new() } else { format!("{}: ", problem.value) };
        Self { key: problem.key.clone(), what: format!("{value}{}", problem.what), fix: problem.fix.clone() }
    }
}
