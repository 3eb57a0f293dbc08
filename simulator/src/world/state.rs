//! Everything the rest of a run follows from, and its bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use testudo_engine::Carry;
use testudo_protocol::Model;

use super::{Counts, Measured};
use crate::detection::Detector;

/// The state of a run between two rounds.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Rounds that are over.
    pub round: u64,
    /// The model.
    pub model: Arc<Model>,
    /// What the task carries between rounds: optimiser, rule memory, histories.
    pub carry: Arc<Carry>,
    /// Each client's momentum; empty before its first batch.
    pub momenta: Vec<Vec<f32>>,
    /// The change of the model in the last round; empty before, and without attackers.
    pub previous: Vec<f32>,
    /// What each attacker asked to remember.
    pub memories: BTreeMap<usize, Vec<f32>>,
    /// What is known of the clients, if they are watched.
    pub detector: Option<Detector>,
    /// The sum of each client's recorded updates, if they are watched; empty before the first.
    pub histories: Vec<Vec<f32>>,
    /// Payload bytes sent.
    pub bytes: u64,
    /// Rounds abandoned.
    pub abandoned: u64,
    /// Verdicts on honest clients since the last measurement.
    pub honest: Counts,
    /// Verdicts on attackers since the last measurement.
    pub colluders: Counts,
    /// Measurements so far.
    pub measured: Vec<Measured>,
}

/// Bytes that are no state of this run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the checkpoint is damaged or of another run: {0}")]
pub struct StateError(String);

const MAGIC: &[u8] = b"testudo checkpoint 2\n";

#[derive(Serialize, Deserialize)]
struct Header {
    run: String,
    round: u64,
    bytes: u64,
    abandoned: u64,
    honest: Counts,
    colluders: Counts,
    measured: Vec<Measured>,
    dimension: usize,
    /// Clients that have a momentum.
    momenta: Vec<usize>,
    /// Length of the last change of the model.
    previous: usize,
    /// Attackers that remember something, and its length.
    memories: Vec<(usize, usize)>,
    #[serde(default)]
    detector: Option<Detector>,
    /// Clients that have a history.
    histories: Vec<usize>,
    carry: usize,
}

impl State {
    /// The state of run `id` as bytes, with a checksum at the end.
    pub fn to_bytes(&self, id: &str) -> Vec<u8> {
        let carry = self.carry.to_bytes();
        let header = Header {
            run: id.to_owned(),
            round: self.round,
            bytes: self.bytes,
            abandoned: self.abandoned,
            honest: self.honest,
            colluders: self.colluders,
            measured: self.measured.clone(),
            dimension: self.model.parameters().len(),
            momenta: (0..self.momenta.len()).filter(|&client| !self.momenta[client].is_empty()).collect(),
            previous: self.previous.len(),
            memories: self.memories.iter().map(|(&client, memory)| (client, memory.len())).collect(),
            detector: self.detector.clone(),
            histories: (0..self.histories.len()).filter(|&client| !self.histories[client].is_empty()).collect(),
            carry: carry.len(),
        };
        let text = serde_json::to_vec(&header).expect("numbers, lists and text are JSON");
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&text);
        let vectors = header.momenta.iter().map(|&client| self.momenta[client].as_slice());
        let histories = header.histories.iter().map(|&client| self.histories[client].as_slice());
        for vector in std::iter::once(self.model.parameters())
            .chain(vectors)
            .chain(std::iter::once(self.previous.as_slice()))
            .chain(self.memories.values().map(Vec::as_slice))
            .chain(histories)
        {
            vector.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        }
        bytes.extend_from_slice(&carry);
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        bytes
    }

    /// Reads what [`State::to_bytes`] wrote for run `id`; `start` is the run's state before its first round.
    ///
    /// # Errors
    /// [`StateError`] for anything else.
    pub fn from_bytes(bytes: &[u8], id: &str, start: &Self) -> Result<Self, StateError> {
        let wrong = |what: &str| StateError(what.to_owned());
        let (bytes, digest) = bytes.split_last_chunk::<32>().ok_or_else(|| wrong("too short"))?;
        if Sha256::digest(bytes)[..] != digest[..] {
            return Err(wrong("the checksum differs"));
        }
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| wrong("no checkpoint of this version"))?;
        let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(|| wrong("too short"))?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| wrong("too long"))?;
        let (text, mut rest) = rest.split_at_checked(length).ok_or_else(|| wrong("too short"))?;
        let header: Header = serde_json::from_slice(text).map_err(|error| StateError(error.to_string()))?;
        let dimension = start.model.parameters().len();
        if header.run != id || header.dimension != dimension {
            return Err(wrong("of another run"));
        }
        let mut vector = |length: usize| -> Result<Vec<f32>, StateError> {
            let bytes = length.checked_mul(4).ok_or_else(|| wrong("too long"))?;
            let (own, later) = rest.split_at_checked(bytes).ok_or_else(|| wrong("too short"))?;
            rest = later;
            Ok(own.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect())
        };
        let model = start.model.with_parameters(vector(dimension)?).map_err(|error| StateError(error.to_string()))?;
        let mut momenta = vec![Vec::new(); start.momenta.len()];
        for client in header.momenta {
            *momenta.get_mut(client).ok_or_else(|| wrong("an unknown client"))? = vector(dimension)?;
        }
        let previous = vector(header.previous)?;
        let mut memories = BTreeMap::new();
        for (client, length) in header.memories {
            memories.insert(client, vector(length)?);
        }
        let mut histories = vec![Vec::new(); start.histories.len()];
        for client in header.histories {
            *histories.get_mut(client).ok_or_else(|| wrong("an unknown client"))? = vector(dimension)?;
        }
        let carry = Carry::from_bytes(rest, dimension).map_err(|error| StateError(error.to_string()))?;
        Ok(Self {
            round: header.round,
            model: Arc::new(model),
            carry: Arc::new(carry),
            momenta,
            previous,
            memories,
            detector: header.detector,
            histories,
            bytes: header.bytes,
            abandoned: header.abandoned,
            honest: header.honest,
            colluders: header.colluders,
            measured: header.measured,
        })
    }
}
