//! Studies: many runs from one file, and what came of them.
//!
//! [`Study::read`] turns a strict TOML file into checked [`Scenario`]s; [`runner::run`] runs them, on as many threads as
//! wanted with the same bits, into a folder that can be resumed; [`results`] are what it leaves there.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use testudo_engine::document::{self, Document, Problem, Problems};

use crate::scenario::{Scenario, ScenarioError};
use crate::words::counted;
use file::RawStudy;
use runner::RunError;
use sweep::{Axis, Combination, Sweep};

pub use results::{Outcome, Summary};
pub use store::StoreError;

pub mod calibrate;
pub mod compare;
pub mod driver;
pub mod figures;
pub mod manifest;
pub mod preset;
pub mod results;
pub mod runner;
pub mod statistics;
pub mod store;
pub mod verify;

mod copy;
mod file;
mod parquet;
mod sweep;

/// A checked study.
#[derive(Clone, Debug)]
pub struct Study {
    /// Its name.
    pub name: String,
    /// What is swept, in the order of the file.
    pub axes: Vec<StudyAxis>,
    /// Every run: cells in the order of the axes, seeds innermost.
    pub runs: Vec<StudyRun>,
    /// Combinations that the file excludes.
    pub excluded: Vec<String>,
    /// Combinations that cannot be, with the reason; only where the file says `on_invalid = "skip"`.
    pub skipped: Vec<(String, String)>,
    /// The axis whose worst value counts.
    pub worst_over: String,
    /// Rounds of the mean of the last measurements.
    pub last: u64,
    /// The text it was read from.
    pub text: String,
}

/// Something that is swept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StudyAxis {
    /// The key, or several joined by " + ".
    pub key: String,
    /// A short name of each value.
    pub labels: Vec<String>,
}

/// One run of a study.
#[derive(Clone, Debug)]
pub struct StudyRun {
    /// What runs.
    pub scenario: Arc<Scenario>,
    /// The place on each axis, in their order.
    pub place: Vec<usize>,
}

/// Most runs of one study.
pub const MOST_RUNS: usize = 200_000;

/// What to do with a combination that cannot be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnInvalid {
    #[default]
    Fail,
    Skip,
}

impl Study {
    /// Reads the text of a study; `file` is what errors call it.
    ///
    /// # Errors
    /// [`Problems`]: each with line, key, value and fix.
    pub fn read(file: &str, text: &str) -> Result<Self, Problems> {
        let document = Document::parse(file, text)?;
        let raw: RawStudy = document.read()?;
        let mut base: toml::Table = document.read()?;
        for key in ["name", "seeds", "on_invalid", "sweep"] {
            base.remove(key);
        }
        if let Some(report) = base.get_mut("report").and_then(toml::Value::as_table_mut) {
            report.remove("worst_over");
        }
        let reader = Reader { document: &document, text };
        let seeds = reader.seeds(raw.seeds.as_ref())?;
        let sweep = Sweep::new(raw.sweep).map_err(|error| reader.one(&error))?;
        reader.check_values(&base, &sweep)?;
        let cells = sweep.size();
        if cells.saturating_mul(seeds.len()) > MOST_RUNS {
            let what = format!(
                "{} and {} are more than {MOST_RUNS} runs",
                counted(cells, "combination"),
                counted(seeds.len(), "seed")
            );
            return Err(document.problems(vec![document.problem("sweep", what, "sweep fewer values")]));
        }
        let axes: Vec<StudyAxis> = sweep.axes.iter().map(Axis::public).collect();
        let worst_over = raw.report.worst_over.clone().unwrap_or_else(|| "adversary.attack".to_owned());
        if raw.report.worst_over.is_some() && !axes.iter().any(|axis| axis.key == worst_over) {
            let known: Vec<&str> = axes.iter().map(|axis| axis.key.as_str()).collect();
            let fix = format!("use one of the swept keys: {}", known.join(", "));
            return Err(document.problems(vec![document.problem("report.worst_over", "is not swept", fix)]));
        }
        let mut study = Self {
            name: raw.name,
            axes,
            runs: Vec::new(),
            excluded: Vec::new(),
            skipped: Vec::new(),
            worst_over,
            last: raw.report.last.unwrap_or(10),
            text: text.to_owned(),
        };
        let on_invalid = raw.on_invalid.unwrap_or_default();
        let mut excluders = vec![false; sweep.exclude.len()];
        for combination in sweep.combinations() {
            let table = combination.applied(&base).map_err(|error| reader.of_combination(&combination, &error))?;
            if let Some(which) = sweep.exclude.iter().position(|exclude| exclude.matches(&table)) {
                excluders[which] = true;
                study.excluded.push(combination.describe());
                continue;
            }
            match scenarios(&table, &seeds) {
                Ok(scenarios) => study.runs.extend(
                    scenarios.into_iter().map(|scenario| StudyRun { scenario, place: combination.place.clone() }),
                ),
                Err(error) if on_invalid == OnInvalid::Skip && !sweep.axes.is_empty() => {
                    study.skipped.push((combination.describe(), error.to_string()));
                }
                Err(error) => return Err(reader.of_combination(&combination, &error)),
            }
        }
        if let Some(unused) = excluders.iter().position(|used| !used) {
            let what = format!("entry {} excludes nothing", unused + 1);
            let fix = "remove it, or write keys and values as the combinations have them";
            let fix = match sweep.exclude[unused].meant(&base, &sweep) {
                Some(meant) => format!("did you mean {meant}? Otherwise {fix}"),
                None => fix.to_owned(),
            };
            return Err(document.problems(vec![reader.at("sweep.exclude", what, fix)]));
        }
        if study.runs.is_empty() {
            let fix = "exclude fewer combinations";
            return Err(document.problems(vec![reader.at("sweep", "no run is left".to_owned(), fix.to_owned())]));
        }
        Ok(study)
    }

    /// Where in the study's text the key stands that a run came to grief over; `None` where no key is to blame. `file` is
    /// what errors call it.
    pub fn located(&self, file: &str, error: &RunError) -> Option<Problems> {
        let RunError::World { source, .. } = error else { return None };
        let problem = source.problem()?;
        let document = Document::parse(file, &self.text).ok()?;
        let reader = Reader { document: &document, text: &self.text };
        let swept = || self.axes.iter().flat_map(|axis| axis.key.split(" + "));
        let section = |key: &str| key.split('.').next().unwrap_or_default().to_owned();
        let key = swept()
            .find(|key| problem.key == *key || problem.key.starts_with(&format!("{key}.")))
            .or_else(|| swept().find(|key| section(key) == section(&problem.key)));
        let found = document.problem(&problem.key, problem.what.clone(), problem.fix.clone());
        let found = match key {
            // What is swept takes the place of what else is written.
            Some(key) if key == problem.key || found.line.is_none() => {
                let swept = reader.at(key, format!("{} (run {})", problem.what, error.run()?), problem.fix.clone());
                Problem { key: problem.key, ..swept }
            }
            _ => found,
        };
        Some(document.problems(vec![found]))
    }

    /// The place of the axis with this key.
    pub fn axis(&self, key: &str) -> Option<usize> {
        self.axes.iter().position(|axis| axis.key == key)
    }

    /// The labels of a run, one per axis.
    pub fn labels(&self, run: &StudyRun) -> Vec<&str> {
        self.axes.iter().zip(&run.place).map(|(axis, &place)| axis.labels[place].as_str()).collect()
    }

    /// Different seeds of the study.
    pub fn seeds(&self) -> Vec<u64> {
        let seeds: BTreeMap<u64, ()> = self.runs.iter().map(|run| (run.scenario.plan.seed, ())).collect();
        seeds.into_keys().collect()
    }

    /// Rounds of all runs.
    pub fn rounds(&self) -> u64 {
        self.runs.iter().map(|run| run.scenario.plan.rounds).sum()
    }
}

/// One combination with each seed.
fn scenarios(table: &toml::Table, seeds: &[u64]) -> Result<Vec<Arc<Scenario>>, ScenarioError> {
    let first = Scenario::from_table(table)?;
    let with = |seed: &u64| {
        let mut plan = first.plan.clone();
        plan.seed = *seed;
        Scenario::new(plan).map(Arc::new)
    };
    seeds.iter().map(with).collect()
}

/// Says where in the file a problem is.
struct Reader<'a> {
    document: &'a Document<'a>,
    text: &'a str,
}

impl Reader<'_> {
    fn seeds(&self, seeds: Option<&toml::Value>) -> Result<Vec<u64>, Problems> {
        let wrong = |what: &str| {
            let fix = "write seeds = { first = 0, count = 5 } or seeds = [1, 2, 3, 4, 5]";
            Err(self.document.problems(vec![self.document.problem("seeds", what, fix)]))
        };
        let number = |value: &toml::Value| value.as_integer().and_then(|number| u64::try_from(number).ok());
        let seeds: Option<Vec<u64>> = match seeds {
            None => Some((0..5).collect()),
            Some(toml::Value::Array(list)) => list.iter().map(number).collect(),
            Some(toml::Value::Table(table)) if table.keys().all(|key| key == "first" || key == "count") => {
                let first = table.get("first").map_or(Some(0), number);
                let count = table.get("count").and_then(number).filter(|count| *count <= 10_000);
                first.zip(count).map(|(first, count)| (first..first.saturating_add(count)).collect())
            }
            Some(_) => None,
        };
        let Some(mut seeds) = seeds else { return wrong("is no list of seeds") };
        seeds.sort_unstable();
        if seeds.is_empty() || seeds.windows(2).any(|pair| pair[0] == pair[1]) {
            return wrong("needs at least one seed, each once");
        }
        Ok(seeds)
    }

    /// Reads each swept value alone, so that a wrong one is named with its key and line.
    fn check_values(&self, base: &toml::Table, sweep: &Sweep) -> Result<(), Problems> {
        for axis in &sweep.axes {
            for place in 0..axis.labels.len() {
                let mut table = base.clone();
                // Other axes give what the base may lack.
                for other in &sweep.axes {
                    other.apply(0, &mut table).map_err(|error| self.one(&error))?;
                }
                axis.apply(place, &mut table).map_err(|error| self.one(&error))?;
                if let Err(error) = crate::scenario::Plan::deserialize(table) {
                    // A key that is in no section is another axis', whose turn comes.
                    let unknown =
                        error.message().split('`').nth(1).filter(|_| error.message().contains("unknown field"));
                    let elsewhere = |key: &str| unknown.is_some_and(|name| key.split('.').any(|part| part == name));
                    if !axis.keys().any(elsewhere) && sweep.axes.iter().any(|axis| axis.keys().any(elsewhere)) {
                        continue;
                    }
                    let message = error.message().trim();
                    let what = format!("value {}: {message}", axis.labels[place]);
                    let fix = match message.contains("expected ") {
                        true => document::fix_for(message),
                        false => "write the value as the section itself takes it".to_owned(),
                    };
                    return Err(self.document.problems(vec![self.at(axis.first_key(), what, fix)]));
                }
            }
        }
        Ok(())
    }

    fn of_combination(&self, combination: &Combination<'_>, error: &ScenarioError) -> Problems {
        // What a key lacks may be another's fault: a cohort is too small only for the rule that is swept.
        let unwritten = self.document.problem(&error.key, "", "").line.is_none();
        let swept = combination.key_of(&error.key).or_else(|| if unwritten { combination.culprit() } else { None });
        let what = match combination.describe() {
            text if text.is_empty() => error.what.clone(),
            text => format!("{} (with {text})", error.what),
        };
        let fix = match swept {
            Some(_) => format!("{}; or exclude the combination, or write on_invalid = \"skip\"", error.fix),
            None => error.fix.clone(),
        };
        let problem = match swept {
            Some(key) => Problem { key: error.key.clone(), ..self.at(key, what, fix) },
            None => self.document.problem(&error.key, what, fix),
        };
        self.document.problems(vec![problem])
    }

    fn one(&self, error: &ScenarioError) -> Problems {
        self.document.problems(vec![self.at(&error.key, error.what.clone(), error.fix.clone())])
    }

    /// A problem with a key of the sweep, which the document itself finds only where it has no dots.
    fn at(&self, key: &str, what: String, fix: String) -> Problem {
        let mut problem = self.document.problem(key, what, fix);
        if problem.line.is_none() || key.contains('.') {
            let quoted = format!("\"{key}\"");
            let stands = |line: &str| {
                let line = line.trim_start();
                line.starts_with(&quoted)
                    || line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
                    || line.trim_matches(['[', ']', ' ']) == key
            };
            let from = self
                .text
                .lines()
                .position(|line| line.trim_start().starts_with("[sweep") || line.trim_start().starts_with("[[sweep"))
                .unwrap_or(0);
            let found = self.text.lines().enumerate().skip(from).find(|(_, line)| stands(line));
            problem.line = found.map(|(index, _)| index + 1).or(problem.line);
            problem.value = String::new();
        }
        problem
    }
}

#[cfg(test)]
mod tests;
