//! `budget.head`: what was charged, kept outside the database, so that an older database is recognised.
//!
//! A database that is put back to an earlier state has forgotten charges whose releases are out in the world, and would
//! spend the same budget twice. The file holds number and hash of every population's newest charge. It is written after
//! each commit that charged, so it may be behind the database by what a crash cut off, and never ahead of it.

use super::{
    super::{Heads, StoreError},
    budget, seal,
};
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// The file's name, in the ledger's directory.
pub(super) const FILE: &str = "budget.head";
/// Longest such file, bytes.
const MOST_BYTES: u64 = 16 << 20;

/// The file and what is known to be in it.
#[derive(Debug)]
pub(super) struct HeadFile {
    path: PathBuf,
    written: Mutex<Heads>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    heads: BTreeMap<String, Written>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    index: u64,
    hash: String,
}

impl HeadFile {
    /// The file of a ledger, after comparing the two.
    ///
    /// # Errors
    /// A ledger that lacks charges that the file knows, or that has charges and no file.
    pub(super) async fn open(directory: &Path, connection: &mut SqliteConnection) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        let heads = budget::heads(&mut *connection).await?;
        let Some(written) = read(&path)? else {
            if !heads.is_empty() {
                return Err(StoreError::Backend(format!(
                    "{} is missing, although privacy budgets were charged: whether the ledger is the newest one cannot be told. \
                     Put back the newest copy of the whole directory; see \"Privacy budgets\" in docs/operations.md",
                    path.display()
                )));
            }
            let file = Self { path, written: Mutex::default() };
            file.write(&Heads::new())?;
            return Ok(file);
        };
        for (population, head) in &written {
            if budget::hash_at(&mut *connection, population, head.0).await? != Some(head.1) {
                let newest = match heads.get(population) {
                    Some((index, _)) => format!("its newest one is number {index}"),
                    None => "it has none".into(),
                };
                return Err(StoreError::Backend(format!(
                    "the ledger is older than {}: charge number {} of population {population:?} is not in it, {newest}. What \
                     was charged is published and cannot be taken back. Put back the newest ledger; see \"Privacy budgets\" in docs/operations.md",
                    path.display(),
                    head.0,
                )));
            }
        }
        let file = Self { path, written: Mutex::new(written) };
        file.publish(heads)?;
        Ok(file)
    }

    /// Writes what is newer than what the file holds; durable before this returns. Blocks.
    pub(super) fn publish(&self, heads: Heads) -> Result<(), StoreError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = written.clone();
        for (population, head) in heads {
            let newest = next.entry(population).or_insert(head);
            // Writers may come in another order than their commits.
            if head.0 > newest.0 {
                *newest = head;
            }
        }
        if *written != next {
            self.write(&next)?;
            *written = next;
        }
        Ok(())
    }

    fn write(&self, heads: &Heads) -> Result<(), StoreError> {
        let failed = |error: &dyn std::fmt::Display| {
            StoreError::Backend(format!(
                "cannot write {}: {error}; nothing more is charged until it can",
                self.path.display()
            ))
        };
        let heads = heads
            .iter()
            .map(|(population, (index, hash))| (population.clone(), Written { index: *index, hash: hex::encode(hash) }))
            .collect();
        let mut bytes = serde_json::to_vec_pretty(&Content { version: 1, heads }).map_err(|error| failed(&error))?;
        bytes.push(b'\n');
        seal::replace(&self.path, &bytes).map_err(|error| failed(&error))
    }
}

/// What a file holds; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Heads>, StoreError> {
    let failed = |error: &dyn std::fmt::Display| {
        StoreError::Backend(format!("cannot read {}: {error}; put back the newest copy of it", path.display()))
    };
    match fs::metadata(path) {
        Ok(found) if found.len() > MOST_BYTES => return Err(failed(&"it is too long")),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&error)),
    }
    let bytes = fs::read(path).map_err(|error| failed(&error))?;
    let content: Content = serde_json::from_slice(&bytes).map_err(|error| failed(&error))?;
    if content.version != 1 {
        return Err(failed(&format!("it has version {}, not 1", content.version)));
    }
    let mut heads = Heads::new();
    for (population, Written { index, hash }) in content.heads {
        let mut bytes = [0; 32];
        hex::decode_to_slice(hash, &mut bytes).map_err(|error| failed(&error))?;
        heads.insert(population, (index, bytes));
    }
    Ok(Some(heads))
}
