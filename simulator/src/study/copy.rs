//! The copy of a study in its results: it names the divisions it was given as they lie there, so that it runs from there.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::Study;
use super::runner::{self, RunError, partition_text};
use super::store::Store;
use crate::world::Library;

/// Writes every division that the study reads, and the study's text with their new names.
///
/// # Errors
/// Divisions that cannot be read, and a folder that cannot be written.
pub(super) fn write(study: &Study, library: &Library, store: &Store) -> Result<(), RunError> {
    let mut names = BTreeMap::new();
    for run in &study.runs {
        let data = &run.scenario.plan.data;
        let Some(path) = data.partition.as_ref().filter(|path| !names.contains_key(*path)) else { continue };
        let failed = |source| RunError::World { run: runner::name(study, run), source: Box::new(source) };
        if let Some(file) = library.load(data).map_err(failed)?.partition() {
            let (name, text) = partition_text(file)?;
            store.write(&name, text.as_bytes())?;
            names.insert(path.clone(), name);
        }
    }
    Ok(store.write("study.toml", renamed(&study.text, &names).as_bytes())?)
}

/// The text with other names at `data.partition`, wherever that is written or swept; nothing else changes.
fn renamed(text: &str, names: &BTreeMap<String, String>) -> String {
    let mut places = Vec::new();
    if let (false, Ok(table)) = (names.is_empty(), DeTable::parse(text)) {
        look("", table.get_ref(), names, &mut places);
    }
    places.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut text = text.to_owned();
    for (span, name) in places {
        text.replace_range(span, &format!("\"{name}\""));
    }
    text
}

fn look(path: &str, table: &DeTable<'_>, names: &BTreeMap<String, String>, places: &mut Vec<(Range<usize>, String)>) {
    for (key, value) in table.iter() {
        let here = if path.is_empty() { key.get_ref().to_string() } else { format!("{path}.{}", key.get_ref()) };
        let swept = ["sweep.grid.", "sweep.zip.", "sweep.exclude."].iter().find_map(|start| here.strip_prefix(start));
        let is_partition = swept.unwrap_or(&here) == "data.partition";
        let items = match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![value],
        };
        for item in items {
            match item.get_ref() {
                DeValue::Table(inner) => look(&here, inner, names, places),
                DeValue::String(name) if is_partition => {
                    places.extend(names.get(name.as_ref()).map(|new| (item.span(), new.clone())));
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_change_wherever_the_key_stands_and_nothing_else_does() {
        let names = BTreeMap::from([("a.json".to_owned(), "partitions/1.json".to_owned())]);
        let text = "name = \"a.json\" # a.json\n[data]\npartition = 'a.json'\npath = \"a.json\"\n[sweep.grid]\n\"data.partition\" = [\"b.json\", \"a.json\"]\n                    data = [{ partition = \"a.json\" }]\n[[sweep.zip]]\n\"data.partition\" = [\"a.json\"]\n[[sweep.exclude]]\n\"data.partition\" = \"a.json\"\n";
        let expected = "name = \"a.json\" # a.json\n[data]\npartition = \"partitions/1.json\"\npath = \"a.json\"\n[sweep.grid]\n\"data.partition\" = [\"b.json\", \"partitions/1.json\"]\n                    data = [{ partition = \"partitions/1.json\" }]\n[[sweep.zip]]\n\"data.partition\" = [\"partitions/1.json\"]\n[[sweep.exclude]]\n\"data.partition\" = \"partitions/1.json\"\n";
        assert_eq!(renamed(text, &names), expected);
        assert_eq!(renamed(text, &BTreeMap::new()), text);
    }
}
