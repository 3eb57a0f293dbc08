//! Sweeps: `[sweep.grid]` takes every combination, `[[sweep.zip]]` several keys in step, `[[sweep.exclude]]` leaves out.

use serde::Deserialize;
use testudo_engine::document::nearest;
use toml::{Table, Value};

use super::StudyAxis;
use crate::scenario::ScenarioError;
use crate::words::counted;

/// The sections as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSweep {
    grid: Table,
    zip: Vec<Table>,
    exclude: Vec<Table>,
}

/// A checked sweep.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    pub(super) axes: Vec<Axis>,
    pub(super) exclude: Vec<Exclude>,
}

/// One thing that varies: a key of the grid, or the keys of a zip.
#[derive(Debug)]
pub(super) struct Axis {
    keys: Vec<String>,
    /// Per place the value of each key.
    values: Vec<Vec<Value>>,
    pub(super) labels: Vec<String>,
}

/// What is left out: all of these keys have these values.
#[derive(Debug)]
pub(super) struct Exclude(Vec<(String, Value)>);

/// One place on every axis.
#[derive(Debug, Clone)]
pub(super) struct Combination<'a> {
    sweep: &'a Sweep,
    pub(super) place: Vec<usize>,
}

impl Sweep {
    pub(super) fn new(raw: Option<RawSweep>) -> Result<Self, ScenarioError> {
        let raw = raw.unwrap_or_default();
        let mut axes = Vec::new();
        for (key, values) in raw.grid {
            axes.push(Axis::new(vec![(key, values)])?);
        }
        for zip in raw.zip {
            axes.push(Axis::new(zip.into_iter().collect())?);
        }
        let mut keys: Vec<&String> = axes.iter().flat_map(|axis| &axis.keys).collect();
        keys.sort();
        for pair in keys.windows(2) {
            if pair[0] == pair[1] || pair[1].starts_with(&format!("{}.", pair[0])) {
                let what = format!("is swept together with {:?}, which it is part of or equals", pair[0]);
                return Err(ScenarioError::new(pair[1], what, "sweep only one of them"));
            }
        }
        let exclude = raw.exclude.into_iter().map(|table| Exclude(table.into_iter().collect())).collect();
        Ok(Self { axes, exclude })
    }

    pub(super) fn size(&self) -> usize {
        self.axes.iter().fold(1, |size, axis| size.saturating_mul(axis.labels.len()))
    }

    /// Every combination, the last axis fastest.
    pub(super) fn combinations(&self) -> impl Iterator<Item = Combination<'_>> {
        (0..self.size()).map(move |number| {
            let mut rest = number;
            let mut place = vec![0; self.axes.len()];
            for (place, axis) in place.iter_mut().zip(&self.axes).rev() {
                *place = rest % axis.labels.len();
                rest /= axis.labels.len();
            }
            Combination { sweep: self, place }
        })
    }
}

impl Axis {
    fn new(entries: Vec<(String, Value)>) -> Result<Self, ScenarioError> {
        let mut columns = Vec::new();
        for (key, value) in &entries {
            let Value::Array(values) = value else {
                let fix = "write a list of the values to try, for example [0.5, 1.0]";
                return Err(ScenarioError::new(key, "is not a list".to_owned(), fix));
            };
            if values.is_empty() {
                return Err(ScenarioError::new(
                    key,
                    "has no values".to_owned(),
                    "write at least one, or remove the key",
                ));
            }
            if matches!(key.as_str(), "name" | "seeds" | "seed" | "on_invalid") || key.starts_with("sweep") {
                return Err(ScenarioError::new(key, "cannot be swept".to_owned(), "seeds has a key of its own"));
            }
            columns.push(values.clone());
        }
        let Some(length) = columns.first().map(Vec::len) else {
            return Err(ScenarioError::new("sweep.zip", "has no keys".to_owned(), "remove it"));
        };
        if let Some(odd) = columns.iter().position(|column| column.len() != length) {
            let what = format!("has {}, {} has {length}", counted(columns[odd].len(), "value"), entries[0].0);
            return Err(ScenarioError::new(
                &entries[odd].0,
                what,
                "give keys that vary in step the same number of values",
            ));
        }
        let labels = labels(&columns, length);
        let values =
            (0..length).map(|place| columns.iter().map(|column| unlabelled(&column[place])).collect()).collect();
        Ok(Self { keys: entries.into_iter().map(|(key, _)| key).collect(), values, labels })
    }

    pub(super) fn first_key(&self) -> &str {
        &self.keys[0]
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(String::as_str)
    }

    pub(super) fn public(&self) -> StudyAxis {
        StudyAxis { key: self.keys.join(" + "), labels: self.labels.clone() }
    }

    /// Sets this axis' keys in a table.
    pub(super) fn apply(&self, place: usize, table: &mut Table) -> Result<(), ScenarioError> {
        for (key, value) in self.keys.iter().zip(&self.values[place]) {
            set(table, key, value.clone())?;
        }
        Ok(())
    }
}

impl Combination<'_> {
    /// The base with this combination's values.
    pub(super) fn applied(&self, base: &Table) -> Result<Table, ScenarioError> {
        let mut table = base.clone();
        for (axis, &place) in self.sweep.axes.iter().zip(&self.place) {
            axis.apply(place, &mut table)?;
        }
        Ok(table)
    }

    /// For people: each key with the label of its value.
    pub(super) fn describe(&self) -> String {
        let part = |(axis, &place): (&Axis, &usize)| format!("{} = {}", axis.keys.join(" + "), axis.labels[place]);
        self.sweep.axes.iter().zip(&self.place).map(part).collect::<Vec<_>>().join(", ")
    }

    /// The swept key that a problem with `key` comes from.
    pub(super) fn key_of(&self, key: &str) -> Option<&str> {
        let section = key.split('.').next().unwrap_or_default();
        let keys = || self.sweep.axes.iter().flat_map(|axis| &axis.keys).map(String::as_str);
        let within = |swept: &&str| key == *swept || key.starts_with(&format!("{swept}."));
        keys().find(within).or_else(|| keys().find(|swept| swept.split('.').next() == Some(section)))
    }
}

impl Combination<'_> {
    /// The swept key that a problem elsewhere most likely comes from: the rule's, or the first.
    pub(super) fn culprit(&self) -> Option<&str> {
        let keys = || self.sweep.axes.iter().flat_map(|axis| &axis.keys).map(String::as_str);
        keys().find(|key| key.split('.').next() == Some("rule")).or_else(|| keys().next())
    }
}

impl Exclude {
    pub(super) fn matches(&self, table: &Table) -> bool {
        self.0.iter().all(|(key, value)| get(table, key).is_some_and(|found| same(found, value)))
    }

    /// The key or the word that is most like one that no combination has.
    pub(super) fn meant(&self, base: &Table, sweep: &Sweep) -> Option<String> {
        let mut leaves = Vec::new();
        leaves_of("", base, &mut leaves);
        for axis in &sweep.axes {
            for (key, value) in axis.values.iter().flat_map(|values| axis.keys.iter().zip(values)) {
                match value.as_table() {
                    Some(table) => leaves_of(&format!("{key}."), table, &mut leaves),
                    None => leaves.push((key.clone(), value.clone())),
                }
            }
        }
        self.0.iter().find_map(|(key, value)| {
            if leaves.iter().all(|(known, _)| known != key) {
                return nearest(key, leaves.iter().map(|(known, _)| known.as_str())).map(|known| format!("{known:?}"));
            }
            let written = value.as_str()?;
            let words = || leaves.iter().filter(|(known, _)| known == key).filter_map(|(_, value)| value.as_str());
            if words().any(|word| word == written) {
                return None;
            }
            nearest(written, words()).map(|word| format!("{key:?} = {word:?}"))
        })
    }
}

/// Every value that is no section, with its dotted key.
fn leaves_of(path: &str, table: &Table, leaves: &mut Vec<(String, Value)>) {
    for (key, value) in table {
        match value {
            Value::Table(inner) => leaves_of(&format!("{path}{key}."), inner, leaves),
            other => leaves.push((format!("{path}{key}"), other.clone())),
        }
    }
}

/// Whole numbers equal their floats.
fn same(one: &Value, other: &Value) -> bool {
    let number = |value: &Value| value.as_float().or_else(|| value.as_integer().map(|number| number as f64));
    one == other || (number(one).is_some() && number(one) == number(other))
}

fn get<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((first, rest)) => get(table.get(first)?.as_table()?, rest),
    }
}

/// Sets a dotted key. A section that is missing is made; a value that is no section has no keys.
fn set(table: &mut Table, key: &str, value: Value) -> Result<(), ScenarioError> {
    let (first, rest) = match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
            return Ok(());
        }
        Some(parts) => parts,
    };
    let inner = table.entry(first.to_owned()).or_insert_with(|| Table::new().into());
    let Some(inner) = inner.as_table_mut() else {
        let what = format!("{first:?} is a value, not a section with keys");
        return Err(ScenarioError::new(key, what, "sweep the whole value"));
    };
    set(inner, rest, value)
}

/// A table's `label` names it in reports and is no part of the value.
fn unlabelled(value: &Value) -> Value {
    let mut value = value.clone();
    if let Value::Table(table) = &mut value {
        table.remove("label");
    }
    value
}

/// Short names: a table's own label, or its kind with what tells it from the others.
fn labels(columns: &[Vec<Value>], length: usize) -> Vec<String> {
    let by = |full: bool| -> Vec<String> {
        (0..length)
            .map(|place| columns.iter().map(|column| label(&column[place], full)).collect::<Vec<_>>().join(" / "))
            .collect()
    };
    let short = by(false);
    let mut sorted = short.clone();
    sorted.sort();
    sorted.dedup();
    if sorted.len() == short.len() { short } else { by(true) }
}

fn label(value: &Value, full: bool) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Table(table) => {
            if let Some(label) = table.get("label").and_then(Value::as_str) {
                return label.to_owned();
            }
            let pre = table
                .get("pre")
                .and_then(Value::as_array)
                .map(|steps| steps.iter().map(|step| label(step, full) + "+").collect::<String>());
            let kind = table.get("kind").and_then(Value::as_str).unwrap_or_default();
            let rest: Vec<String> = table
                .iter()
                .filter(|(key, _)| !matches!(key.as_str(), "kind" | "pre") && (full || *key != "byzantine"))
                .map(|(key, value)| format!("{key}={}", label(value, full)))
                .collect();
            let rest = if rest.is_empty() { String::new() } else { format!(":{}", rest.join(",")) };
            format!("{}{kind}{rest}", pre.unwrap_or_default()).trim_start_matches(':').to_owned()
        }
        Value::Array(items) => items.iter().map(|item| label(item, full)).collect::<Vec<_>>().join("+"),
        other => other.to_string(),
    }
}
