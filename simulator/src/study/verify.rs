//! Doing some runs of a finished study again.

use std::path::Path;

use super::results::Finished;
use super::runner::{self, Options, RunError};
use super::store::{self, StoreError};
use super::{Study, StudyRun};
use crate::world::Library;

/// What came of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Runs done again.
    pub checked: Vec<String>,
    /// Runs that gave other numbers, or that the folder does not hold.
    pub different: Vec<String>,
}

/// Runs `sample` runs, spread evenly over the study in `folder`, again and compares every number of the journal.
///
/// # Errors
/// A folder without a study, or runs that cannot be done.
pub fn verify(folder: &Path, data: &Path, sample: usize) -> Result<Verified, RunError> {
    let path = folder.join("study.toml");
    let text = std::fs::read_to_string(&path).map_err(|source| StoreError::Read { path: path.clone(), source })?;
    let study = Study::read(&path.display().to_string(), &text).map_err(|problems| StoreError::Damaged {
        path,
        line: 1,
        what: problems.to_string(),
    })?;
    let journal = store::finished(folder)?;
    let library = Library::new(data).with_results(folder);
    let every = study.runs.len().div_ceil(sample.max(1)).max(1);
    let runs: Vec<StudyRun> = study.runs.iter().step_by(every).cloned().collect();
    let again = Study { runs, ..study };
    let ids = runner::identify(&again, &library)?;
    let mut verified = Verified::default();
    for (run, id) in again.runs.iter().zip(&ids) {
        let name = runner::name(&again, run);
        let finished: Finished = runner::once(&again, run, id, &library, Options::default().route)?;
        let same =
            journal.get(id).is_some_and(|kept| kept.measured == finished.measured && kept.classes == finished.classes);
        if !same {
            verified.different.push(name.clone());
        }
        verified.checked.push(name);
    }
    Ok(verified)
}
