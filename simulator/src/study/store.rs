//! The folder of a study: a journal of finished runs, checkpoints of running ones, results.
//!
//! Everything is either appended as one whole line or written beside and renamed, so that a stop at any moment, a full
//! disk included, leaves what was finished.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::results::Finished;

/// Why a study's folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file could not be written; what was finished before is kept.
    #[error("cannot write {}: {source}; finished runs are kept: make room and go on with --resume", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder without the results of a finished study.
    #[error("{} holds no finished study: its runs.csv cannot be read: {source}", folder.display())]
    NoResults {
        /// The folder, as it was named.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Results that no study wrote.
    #[error("{}: its runs.csv is damaged: {what}", folder.display())]
    Results {
        /// The folder, as it was named.
        folder: PathBuf,
        /// What is wrong, and where.
        what: String,
    },
    /// There are results already.
    #[error("{} holds a study; go on with --resume or choose another folder", .0.display())]
    Occupied(PathBuf),
    /// Another process works there.
    #[error("another process works in {}; wait for it or choose another folder", .0.display())]
    Locked(PathBuf),
    /// A line that no run wrote.
    #[error("{}, line {line}: {what}; remove the line: its run is done again", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// Results could not be put into their format.
    #[error("cannot write {file}: {what}")]
    Format {
        /// Which.
        file: &'static str,
        /// Why.
        what: String,
    },
}

/// An open folder; other processes are kept out of it.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    journal: Mutex<File>,
    timing: Mutex<File>,
    _lock: File,
}

const JOURNAL: &str = "journal.jsonl";
const CHECKPOINTS: &str = "checkpoints";

impl Store {
    /// Opens or makes the folder; answers the runs that are finished, by id. A last line that a stop cut short is
    /// removed: its run is done again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(folder: &Path, resume: bool) -> Result<(Self, HashMap<String, Finished>), StoreError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Write { path, source }
        };
        let checkpoints = folder.join(CHECKPOINTS);
        fs::create_dir_all(&checkpoints).map_err(failed(&checkpoints))?;
        let lock_path = folder.join(".lock");
        let lock = File::create(&lock_path).map_err(failed(&lock_path))?;
        lock.try_lock().map_err(|_| StoreError::Locked(folder.to_owned()))?;
        let path = folder.join(JOURNAL);
        if !resume && path.metadata().is_ok_and(|metadata| metadata.len() > 0) {
            return Err(StoreError::Occupied(folder.to_owned()));
        }
        let open = |path: &Path| {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed(path))
        };
        let mut journal = open(&path)?;
        let (finished, length) = read(&path, &journal)?;
        journal.set_len(length).map_err(failed(&path))?;
        journal.seek(SeekFrom::End(0)).map_err(failed(&path))?;
        let path = folder.join("timing.csv");
        let mut timing = open(&path)?;
        if timing.seek(SeekFrom::End(0)).map_err(failed(&path))? == 0 {
            timing.write_all(b"run,rounds,seconds\n").map_err(failed(&path))?;
        }
        let store =
            Self { folder: folder.to_owned(), journal: Mutex::new(journal), timing: Mutex::new(timing), _lock: lock };
        Ok((store, finished))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Adds a finished run and removes its checkpoint.
    ///
    /// # Errors
    /// [`StoreError::Write`]; the journal is then as before.
    pub fn finish(&self, finished: &Finished, rounds: u64, seconds: f64) -> Result<(), StoreError> {
        let mut line = serde_json::to_vec(finished)
            .map_err(|error| StoreError::Format { file: JOURNAL, what: error.to_string() })?;
        line.push(b'\n');
        append(&self.journal, &line).map_err(|source| StoreError::Write { path: self.folder.join(JOURNAL), source })?;
        let line = format!("{},{rounds},{seconds:.3}\n", finished.id);
        append(&self.timing, line.as_bytes())
            .map_err(|source| StoreError::Write { path: self.folder.join("timing.csv"), source })?;
        // A checkpoint that stays is only never read again.
        let _ = fs::remove_file(self.checkpoint_path(&finished.id));
        Ok(())
    }

    /// The checkpoint of a run, if there is one.
    pub fn checkpoint(&self, id: &str) -> Option<Vec<u8>> {
        fs::read(self.checkpoint_path(id)).ok()
    }

    /// Replaces the checkpoint of a run.
    ///
    /// # Errors
    /// [`StoreError::Write`]; the old checkpoint is then still there.
    pub fn save_checkpoint(&self, id: &str, bytes: &[u8]) -> Result<(), StoreError> {
        replace(&self.checkpoint_path(id), bytes)
    }

    /// Writes a result, whole or not at all.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|source| StoreError::Write { path: parent.to_owned(), source })?;
        }
        replace(&path, bytes)
    }

    /// Makes sure that the journal survives a power cut, and removes the folder of checkpoints if it is empty.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn close(self) -> Result<(), StoreError> {
        let path = self.folder.join(JOURNAL);
        let journal = self.journal.into_inner().unwrap_or_else(PoisonError::into_inner);
        journal.sync_all().map_err(|source| StoreError::Write { path, source })?;
        let _ = fs::remove_dir(self.folder.join(CHECKPOINTS));
        Ok(())
    }

    fn checkpoint_path(&self, id: &str) -> PathBuf {
        self.folder.join(CHECKPOINTS).join(format!("{id}.bin"))
    }
}

/// The finished runs of a folder, by id.
///
/// # Errors
/// [`StoreError`] if there is no readable journal.
pub fn finished(folder: &Path) -> Result<HashMap<String, Finished>, StoreError> {
    let path = folder.join(JOURNAL);
    let file = File::open(&path).map_err(|source| StoreError::Read { path: path.clone(), source })?;
    Ok(read(&path, &file)?.0)
}

/// The whole lines of the journal and where they end.
fn read(path: &Path, journal: &File) -> Result<(HashMap<String, Finished>, u64), StoreError> {
    let mut finished = HashMap::new();
    let mut length = 0;
    let mut reader = BufReader::new(journal);
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        let read =
            reader.read_until(b'\n', &mut text).map_err(|source| StoreError::Read { path: path.to_owned(), source })?;
        if text.last() != Some(&b'\n') {
            break;
        }
        let one: Finished = serde_json::from_slice(&text).map_err(|error| StoreError::Damaged {
            path: path.to_owned(),
            line,
            what: error.to_string(),
        })?;
        length += read as u64;
        finished.insert(one.id.clone(), one);
    }
    Ok((finished, length))
}

/// Adds a line, or nothing.
fn append(file: &Mutex<File>, line: &[u8]) -> io::Result<()> {
    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
    let before = file.stream_position()?;
    if let Err(error) = file.write_all(line) {
        // Half a line would be cut away by the next start, too.
        let _ = file.set_len(before);
        let _ = file.seek(SeekFrom::Start(before));
        return Err(error);
    }
    Ok(())
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    // Two threads may write the same file, with the same bytes.
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let draft = path.with_extension(format!("draft-{}", DRAFTS.fetch_add(1, Ordering::Relaxed)));
    let write = || -> io::Result<()> {
        let mut file = File::create(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&draft);
        StoreError::Write { path: path.to_owned(), source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Measured;

    fn finished(id: &str) -> Finished {
        let measured = vec![Measured { round: 3, accuracy: 0.1 + 0.2, ..Measured::default() }];
        Finished { id: id.to_owned(), measured, classes: vec![None, Some(0.5)], partition: "p".to_owned() }
    }

    #[test]
    fn finished_runs_come_back_and_a_line_cut_short_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let (store, none) = Store::open(folder.path(), false).unwrap();
        assert!(none.is_empty());
        for id in ["a", "b"] {
            store.save_checkpoint(id, b"x").unwrap();
            store.finish(&finished(id), 3, 0.5).unwrap();
            assert!(store.checkpoint(id).is_none());
        }
        drop(store);
        let path = folder.path().join(JOURNAL);
        let whole = fs::read(&path).unwrap();
        for cut in 1..whole.len() / 2 {
            fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let (store, found) = Store::open(folder.path(), true).unwrap();
            assert_eq!(found.keys().collect::<Vec<_>>(), ["a"], "{cut}");
            assert_eq!(found["a"], finished("a"));
            store.finish(&finished("b"), 3, 0.5).unwrap();
            drop(store);
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn a_folder_with_results_is_not_overwritten_and_not_shared() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path(), false).unwrap();
        store.finish(&finished("a"), 3, 0.5).unwrap();
        let message = |resume| Store::open(folder.path(), resume).unwrap_err().to_string();
        assert!(message(true).contains("another process"), "{}", message(true));
        drop(store);
        assert!(message(false).contains("--resume"), "{}", message(false));
        fs::write(folder.path().join(JOURNAL), "nonsense\n{}").unwrap();
        assert!(message(true).contains("line 1"), "{}", message(true));
    }
}
