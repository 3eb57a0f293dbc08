//! Who holds which examples, as a file: every study writes it, and a study may read one.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::data::{DataError, input};
use crate::scenario::Plan;
use crate::words::counted;

/// The examples of each client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionFile {
    /// Digest of the whole data set.
    pub data: String,
    /// Digest of the numbers of the training examples: another split into training and test part has another.
    pub train: String,
    /// Per client the numbers of its examples in the training part; none for attackers without data.
    pub clients: Vec<Vec<usize>>,
}

/// Largest file that is read, bytes.
const LARGEST: u64 = 1 << 28;

impl PartitionFile {
    /// Reads a file, compressed or not.
    ///
    /// # Errors
    /// A file that cannot be read, is too large or is no such file.
    pub(super) fn read(path: &Path) -> Result<Self, DataError> {
        let bytes = input::read_bounded(input::open(path)?, &path.display().to_string(), LARGEST)?;
        serde_json::from_slice(&bytes).map_err(|error| DataError::Invalid {
            problem: format!("{} is no partition file: {error}", path.display()),
            fix: "name a file of a study's folder partitions".to_owned(),
        })
    }

    /// SHA-256 of data set and division: what a run with this file is known by.
    pub(super) fn identity(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(b"testudo partition\0");
        for part in [&self.data, &self.train] {
            hash.update(part.as_bytes());
            hash.update(b"\0");
        }
        for rows in &self.clients {
            hash.update((rows.len() as u64).to_le_bytes());
            rows.iter().for_each(|row| hash.update((*row as u64).to_le_bytes()));
        }
        hex::encode(hash.finalize())
    }

    /// The clients' examples, if the file fits a plan, its data and its `examples` training examples.
    ///
    /// # Errors
    /// What does not fit, with the fix.
    pub(super) fn fitting(&self, plan: &Plan, made_for: &MadeFor<'_>) -> Result<&[Vec<usize>], DataError> {
        let wrong = |problem: String, fix: &str| Err(DataError::Invalid { problem, fix: fix.to_owned() });
        if self.data != made_for.data {
            return wrong("the file divides another data set".to_owned(), "use the data it was written for");
        }
        if self.train != made_for.train {
            let fix = "write the data.test and data.split_seed of the study that wrote it; without split_seed it split by each run's seed, which runs.csv names";
            return wrong("the file was made for another split into training and test part".to_owned(), fix);
        }
        let clients = plan.population.clients;
        if self.clients.len() != clients {
            let problem = format!("{} in the file, {clients} in the study", counted(self.clients.len(), "client"));
            return wrong(problem, "write population.clients as in the file");
        }
        let mut seen = vec![false; made_for.examples];
        for (client, row) in
            self.clients.iter().enumerate().flat_map(|(client, rows)| rows.iter().map(move |row| (client, *row)))
        {
            match seen.get_mut(row) {
                Some(seen) if !*seen => *seen = true,
                Some(_) => {
                    return wrong(format!("example {row} is given out twice"), "give every example to one client");
                }
                None => {
                    let problem = format!("client {client} has example {row} of {}", made_for.examples);
                    return wrong(problem, "count training examples from 0");
                }
            }
        }
        Ok(&self.clients)
    }
}

/// What a division must have been made for.
#[derive(Debug)]
pub(super) struct MadeFor<'a> {
    pub(super) data: &'a str,
    pub(super) train: &'a str,
    pub(super) examples: usize,
}

/// SHA-256 of numbers of examples.
pub(super) fn digest_of(rows: &[usize]) -> String {
    let mut hash = Sha256::new();
    rows.iter().for_each(|row| hash.update((*row as u64).to_le_bytes()));
    hex::encode(hash.finalize())
}
