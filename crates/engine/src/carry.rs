//! What a task carries from one release to the next besides its model.

use bytes::Bytes;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::{collections::BTreeMap, sync::Arc};
use testudo_protocol::ClientId;

/// State of the server optimiser and of the rule. Nothing is carried before the first release.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Carry {
    /// The server optimiser's state vectors, one value per coordinate of the model.
    pub optimizer: Vec<Vec<f32>>,
    /// The aggregate of the last release, for rules that start from it.
    pub last_aggregate: Option<Arc<Vec<f32>>>,
    /// Per client the sum of its updates, for rules that compare histories.
    pub history: BTreeMap<ClientId, History>,
    /// What the rule's last plan asked to remember, per part of the model.
    pub memory: Vec<Option<f64>>,
    /// The L2 norm that the next round's updates are clipped to, where the clip follows the updates' norms.
    pub clip: Option<f64>,
}

/// One client's updates so far.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// Their sum, one value per coordinate of the model.
    pub sum: Arc<Vec<f32>>,
    /// How many releases ago the last of them was.
    pub age: u64,
}

/// Bytes that cannot be a task's carried state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the task's carried state is damaged: {0}")]
pub struct CarryError(String);

const LAST_AGGREGATE: &str = "last_aggregate";
const MEMORY: &str = "memory";
const CLIP: &str = "clip";

impl Carry {
    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        *self == Self::default() || (self.optimizer.is_empty() && self.history.is_empty() && self.is_forgetful())
    }

    fn is_forgetful(&self) -> bool {
        self.last_aggregate.is_none() && self.clip.is_none() && self.memory.iter().all(Option::is_none)
    }

    /// A safetensors file.
    pub fn to_bytes(&self) -> Bytes {
        let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
        let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        for (index, vector) in self.optimizer.iter().enumerate() {
            tensors.push((format!("optimizer.{index}"), Dtype::F32, vec![vector.len()], floats(vector)));
        }
        if let Some(last) = &self.last_aggregate {
            tensors.push((LAST_AGGREGATE.into(), Dtype::F32, vec![last.len()], floats(last)));
        }
        for (client, history) in &self.history {
            let name = format!("history.{}.{client}", history.age);
            tensors.push((name, Dtype::F32, vec![history.sum.len()], floats(&history.sum)));
        }
        if self.memory.iter().any(Option::is_some) {
            // NaN stands for nothing: a memory is finite.
            let bytes = self.memory.iter().flat_map(|value| value.unwrap_or(f64::NAN).to_le_bytes()).collect();
            tensors.push((MEMORY.into(), Dtype::F64, vec![self.memory.len()], bytes));
        }
        if let Some(clip) = self.clip {
            tensors.push((CLIP.into(), Dtype::F64, vec![1], clip.to_le_bytes().into()));
        }
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            let view = TensorView::new(*dtype, shape.clone(), bytes).expect("the bytes were made for this shape");
            (name.as_str(), view)
        });
        let file = safetensors::serialize(views, None).expect("tensors in memory can be written to memory");
        Bytes::from(file)
    }

    /// Reads what [`Carry::to_bytes`] wrote for a model of `dimension` coordinates.
    ///
    /// # Errors
    /// [`CarryError`] for anything else.
    pub fn from_bytes(bytes: &[u8], dimension: usize) -> Result<Self, CarryError> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| CarryError(error.to_string()))?;
        let mut carry = Self::default();
        let mut optimizer = BTreeMap::new();
        for (name, view) in file.iter() {
            if name == MEMORY {
                let (values, _) = view.data().as_chunks::<8>();
                let value = |eight: &[u8; 8]| Some(f64::from_le_bytes(*eight)).filter(|value| value.is_finite());
                carry.memory = values.iter().map(value).collect();
                continue;
            }
            if name == CLIP {
                let clip = <[u8; 8]>::try_from(view.data()).map(f64::from_le_bytes).ok();
                let clip = clip.filter(|clip| (1e-30..=1e30).contains(clip));
                carry.clip = Some(clip.ok_or_else(|| CarryError(format!("{name} is not the norm of an update")))?);
                continue;
            }
            let (values, rest) = view.data().as_chunks::<4>();
            if view.dtype() != Dtype::F32 || values.len() != dimension || !rest.is_empty() {
                return Err(CarryError(format!("{name} does not hold {dimension} numbers")));
            }
            let vector: Vec<f32> = values.iter().map(|four| f32::from_le_bytes(*four)).collect();
            let unknown = || CarryError(format!("unknown entry {name}"));
            if name == LAST_AGGREGATE {
                carry.last_aggregate = Some(Arc::new(vector));
            } else if let Some(index) = name.strip_prefix("optimizer.") {
                optimizer.insert(index.parse::<usize>().map_err(|_| unknown())?, vector);
            } else {
                let (age, client) =
                    name.strip_prefix("history.").and_then(|rest| rest.split_once('.')).ok_or_else(unknown)?;
                let age = age.parse().map_err(|_| unknown())?;
                let client = ClientId::new(client).map_err(|_| unknown())?;
                carry.history.insert(client, History { sum: Arc::new(vector), age });
            }
        }
        carry.optimizer = optimizer.into_values().collect();
        Ok(carry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Carry {
        let client = |name: &str| ClientId::new(name).unwrap();
        let history = |start: f32, age| History { sum: Arc::new(vec![start, -0.5, 1e30]), age };
        Carry {
            optimizer: (0..11).map(|k| vec![k as f32, f32::MIN_POSITIVE, -2.5]).collect(),
            last_aggregate: Some(Arc::new(vec![0.25, 0.0, 9.0])),
            history: [(client("a.b-1"), history(1.0, 0)), (client("z"), history(2.0, 17))].into(),
            memory: vec![None, Some(0.125)],
            clip: Some(0.75),
        }
    }

    #[test]
    fn it_reads_what_it_writes() {
        assert_eq!(Carry::from_bytes(&full().to_bytes(), 3).unwrap(), full());
        let empty = Carry::default();
        assert!(empty.is_empty() && !full().is_empty());
        assert_eq!(Carry::from_bytes(&empty.to_bytes(), 3).unwrap(), empty);
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let bytes = full().to_bytes();
        assert!(Carry::from_bytes(&bytes, 4).is_err());
        assert!(Carry::from_bytes(&bytes[..bytes.len() - 1], 3).is_err());
        assert!(Carry::from_bytes(b"", 3).is_err());
        for clip in [0.0, f64::NAN, -1.0, 1e31] {
            assert!(Carry::from_bytes(&Carry { clip: Some(clip), ..full() }.to_bytes(), 3).is_err(), "{clip}");
        }
    }
}
