//! Everything a finished study leaves in its folder.

use super::results::Outcome;
use super::store::{Store, StoreError};
use crate::report::study::Findings;

/// Writes `runs.csv`, `rounds.parquet`, `report.html`, `tables.md`, `tables.tex` and `cells.json`.
///
/// # Errors
/// [`StoreError`]; each file is written whole or not at all.
pub fn write(outcome: &Outcome, store: &Store) -> Result<(), StoreError> {
    let format = |file: &'static str| move |what: String| StoreError::Format { file, what };
    store.write("runs.csv", &outcome.csv().map_err(|error| format("runs.csv")(error.to_string()))?)?;
    let rounds = super::parquet::rounds(outcome).map_err(|error| format("rounds.parquet")(error.to_string()))?;
    store.write("rounds.parquet", &rounds)?;
    let findings = Findings::new(outcome);
    store.write("report.html", findings.html().as_bytes())?;
    store.write("tables.md", findings.markdown().as_bytes())?;
    store.write("tables.tex", findings.latex().as_bytes())?;
    let cells =
        serde_json::to_string_pretty(&findings.cells()).map_err(|error| format("cells.json")(error.to_string()))?;
    store.write("cells.json", (cells + "\n").as_bytes())
}
