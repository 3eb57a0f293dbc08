//! Named tensors in safetensors, and the flat vector behind them.

use crate::{Digest, limits};
use serde::{Deserialize, Serialize};
use std::fmt;

mod reader;

pub use reader::ModelReader;

/// One named tensor of 32-bit floats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tensor {
    /// Unique within its model.
    pub name: String,
    /// Number of entries along each axis; empty for a scalar.
    pub shape: Vec<u64>,
}

impl Tensor {
    /// Coordinates in this tensor; `None` on overflow.
    pub fn coordinates(&self) -> Option<u64> {
        self.shape.iter().try_fold(1u64, |product, &length| product.checked_mul(length))
    }
}

/// The tensors of a model in the order of the flat vector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    tensors: Vec<Tensor>,
    dimension: usize,
}

/// Why bytes are not a model we can train.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file or its header is not safetensors.
    #[error("not a safetensors file: {0}")]
    Format(String),
    /// A limit of [`limits`] is exceeded.
    #[error("{what} is {value}, more than the limit of {limit}")]
    Limit {
        /// Which quantity.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The most allowed.
        limit: u64,
    },
    /// A number format other than 32-bit float.
    #[error(
        "tensor {name:?} holds {dtype}; models hold F32 tensors only, so convert it first; an integer buffer becomes a \
         whole number in F32, exact up to 16,777,216, under the policy \"counter\" or \"ignore\" of [tensors]"
    )]
    Dtype {
        /// The tensor.
        name: String,
        /// Its format.
        dtype: String,
    },
    /// No coordinates at all.
    #[error("the model has no coordinates")]
    Empty,
    /// Tensors that leave gaps, overlap or repeat a name.
    #[error("tensor {name:?} does not follow the one before it; write the file with a standard safetensors library")]
    Gap {
        /// The tensor.
        name: String,
    },
    /// NaN or infinity in a parameter.
    #[error("tensor {name:?} holds a non-finite value at position {index}")]
    NonFinite {
        /// The tensor.
        name: String,
        /// Position within the tensor, row-major.
        index: usize,
    },
}

impl Layout {
    /// Checks a tensor table against the limits.
    ///
    /// # Errors
    /// [`ModelError`] for empty, oversize or repeated tensors.
    pub fn new(tensors: Vec<Tensor>) -> Result<Self, ModelError> {
        limit("number of tensors", tensors.len() as u64, limits::TENSORS as u64)?;
        let mut coordinates = 0u64;
        let mut names = std::collections::BTreeSet::new();
        for tensor in &tensors {
            limit("length of a tensor's name", tensor.name.len() as u64, limits::TENSOR_NAME_BYTES as u64)?;
            limit("rank of a tensor", tensor.shape.len() as u64, limits::TENSOR_RANK as u64)?;
            if !names.insert(tensor.name.as_str()) {
                return Err(ModelError::Gap { name: tensor.name.clone() });
            }
            let more = tensor.coordinates().unwrap_or(u64::MAX);
            coordinates = coordinates.saturating_add(more);
            limit("model size in bytes", coordinates.saturating_mul(4), limits::MODEL_BYTES)?;
        }
        if coordinates == 0 {
            return Err(ModelError::Empty);
        }
        Ok(Self { tensors, dimension: coordinates as usize })
    }

    /// The tensors, in the order of the flat vector.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Coordinates of the flat vector.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Bytes of one update: 4 per coordinate.
    pub fn bytes(&self) -> u64 {
        self.dimension as u64 * 4
    }

    /// The tensor that holds a coordinate of the flat vector, and the position within it.
    pub fn locate(&self, coordinate: usize) -> Option<(&Tensor, usize)> {
        let mut start = 0;
        for tensor in &self.tensors {
            let length = tensor.coordinates().unwrap_or(0) as usize;
            if coordinate < start + length {
                return Some((tensor, coordinate - start));
            }
            start += length;
        }
        None
    }
}

/// A model: its layout and its parameters as one flat vector.
#[derive(Clone, PartialEq)]
pub struct Model {
    /// What precedes the tensor data in the file; kept so that equal parameters give equal files.
    prefix: Vec<u8>,
    layout: Layout,
    parameters: Vec<f32>,
}

impl Model {
    /// Reads a safetensors file of F32 tensors.
    ///
    /// # Errors
    /// [`ModelError`] says which limit, tensor or format is wrong. Nothing is allocated beyond the input's size.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, ModelError> {
        let mut reader = ModelReader::new(bytes.len() as u64, Vec::new())?;
        reader.feed(bytes)?;
        reader.finish()
    }

    /// A model with the given tensors.
    ///
    /// # Errors
    /// [`ModelError`] if the layout is impossible, the parameters do not fill it, or one is not finite.
    pub fn new(tensors: Vec<Tensor>, parameters: Vec<f32>) -> Result<Self, ModelError> {
        let layout = Layout::new(tensors)?;
        if parameters.len() != layout.dimension() {
            return Err(ModelError::Format(format!(
                "{} parameters for {} coordinates",
                parameters.len(),
                layout.dimension()
            )));
        }
        let prefix = write_prefix(&layout);
        limit("safetensors header in bytes", prefix.len() as u64 - 8, limits::MODEL_HEADER_BYTES as u64)?;
        let model = Self { prefix, layout, parameters };
        model.check_finite()?;
        Ok(model)
    }

    /// The file again: the same parameters give the same bytes.
    pub fn to_safetensors(&self) -> Vec<u8> {
        self.to_safetensors_with(&self.parameters)
    }

    /// The file this model would be with other parameters.
    ///
    /// # Panics
    /// If `parameters` has another length than the layout's dimension.
    pub fn to_safetensors_with(&self, parameters: &[f32]) -> Vec<u8> {
        assert_eq!(parameters.len(), self.layout.dimension(), "parameters must fill the layout");
        let mut bytes = vec![0; self.prefix.len() + parameters.len() * 4];
        let (prefix, data) = bytes.split_at_mut(self.prefix.len());
        prefix.copy_from_slice(&self.prefix);
        for (four, value) in data.chunks_exact_mut(4).zip(parameters) {
            four.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    /// The same tensors with other parameters.
    ///
    /// # Errors
    /// [`ModelError`] if the number of parameters differs or one is not finite.
    pub fn with_parameters(&self, parameters: Vec<f32>) -> Result<Self, ModelError> {
        if parameters.len() != self.layout.dimension() {
            return Err(ModelError::Format(format!(
                "{} parameters for {} coordinates",
                parameters.len(),
                self.layout.dimension()
            )));
        }
        let model = Self { prefix: self.prefix.clone(), layout: self.layout.clone(), parameters };
        model.check_finite()?;
        Ok(model)
    }

    /// SHA-256 of the file.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_safetensors())
    }

    /// The tensors' names and shapes.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// All parameters, flat, in layout order.
    pub fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// The parameters alone, for example as memory for the next model's.
    pub fn into_parameters(self) -> Vec<f32> {
        self.parameters
    }

    /// One tensor's parameters, row-major.
    pub fn tensor(&self, name: &str) -> Option<&[f32]> {
        let mut start = 0;
        for tensor in self.layout.tensors() {
            let end = start + tensor.coordinates()? as usize;
            if tensor.name == name {
                return self.parameters.get(start..end);
            }
            start = end;
        }
        None
    }

    fn check_finite(&self) -> Result<(), ModelError> {
        match testudo_aggregate::first_non_finite(&self.parameters) {
            Some(at) => Err(self.non_finite(at)),
            None => Ok(()),
        }
    }

    fn non_finite(&self, at: usize) -> ModelError {
        let Some((tensor, index)) = self.layout.locate(at) else { return ModelError::Empty };
        ModelError::NonFinite { name: tensor.name.clone(), index }
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Model({} tensors, {} coordinates)", self.layout.tensors.len(), self.layout.dimension)
    }
}

fn limit(what: &'static str, value: u64, limit: u64) -> Result<(), ModelError> {
    if value > limit { Err(ModelError::Limit { what, value, limit }) } else { Ok(()) }
}

/// Header in layout order, padded with spaces to a multiple of eight, as the format asks.
fn write_prefix(layout: &Layout) -> Vec<u8> {
    let mut entries = serde_json::Map::new();
    let mut start = 0;
    for tensor in &layout.tensors {
        let end = start + tensor.coordinates().unwrap_or(0) * 4;
        let entry = serde_json::json!({ "dtype": "F32", "shape": tensor.shape, "data_offsets": [start, end] });
        entries.insert(tensor.name.clone(), entry);
        start = end;
    }
    let mut header = serde_json::Value::Object(entries).to_string().into_bytes();
    while !header.len().is_multiple_of(8) {
        header.push(b' ');
    }
    let mut prefix = (header.len() as u64).to_le_bytes().to_vec();
    prefix.extend(header);
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::Dtype;

    fn model() -> Model {
        let tensors = vec![
            Tensor { name: "b.weight".into(), shape: vec![2, 3] },
            Tensor { name: "a.bias".into(), shape: vec![2] },
        ];
        Model::new(tensors, (0..8).map(|i| i as f32).collect()).unwrap()
    }

    /// A file with a hand-made header.
    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(vec![0; data]);
        bytes
    }

    #[test]
    fn a_model_reads_what_it_writes_in_the_order_it_was_given() {
        let bytes = model().to_safetensors();
        let back = Model::from_safetensors(&bytes).unwrap();
        assert_eq!(back.layout().tensors()[0].name, "b.weight");
        assert_eq!(back.parameters(), model().parameters());
        assert_eq!(back.tensor("a.bias"), Some(&[6.0, 7.0][..]));
        assert_eq!(back.to_safetensors(), bytes);
        assert_eq!(back.layout().locate(7).map(|(tensor, index)| (tensor.name.as_str(), index)), Some(("a.bias", 1)));
        assert_eq!(back.layout().locate(8), None);
    }

    #[test]
    fn files_of_the_reference_library_are_read() {
        let data: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![2], &data).unwrap();
        let bytes = safetensors::serialize([("w", view)], None).unwrap();
        let model = Model::from_safetensors(&bytes).unwrap();
        assert_eq!(model.parameters(), [1.5, -2.0]);
        assert_eq!(model.to_safetensors(), bytes);
    }

    #[test]
    fn hostile_files_are_refused_before_anything_large_is_allocated() {
        let cases = [
            (vec![], "shorter"),
            (u64::MAX.to_le_bytes().to_vec(), "header"),
            (file("{", 0), "safetensors"),
            (file(r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 4), "safetensors"),
            (file(r#"{"w":{"dtype":"F32","shape":[9223372036854775807,4],"data_offsets":[0,8]}}"#, 8), "safetensors"),
            (file(r#"{"w":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}"#, 8), "F32"),
            (
                file(
                    r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
                    4,
                ),
                "",
            ),
            (file("{}", 0), ""),
        ];
        for (bytes, part) in cases {
            let error = Model::from_safetensors(&bytes).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let mut nan = model().to_safetensors();
        let end = nan.len();
        nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        assert_eq!(Model::from_safetensors(&nan), Err(ModelError::NonFinite { name: "a.bias".into(), index: 1 }));
    }

    #[test]
    fn layouts_over_a_limit_are_refused() {
        let tensor = |name: &str, shape: &[u64]| Tensor { name: name.into(), shape: shape.to_vec() };
        assert!(Layout::new(vec![tensor("w", &[u64::MAX, 2])]).is_err());
        assert!(Layout::new(vec![tensor("w", &[1 << 31])]).is_err());
        assert!(Layout::new(vec![tensor("w", &[1; 9])]).is_err());
        assert!(Layout::new(vec![tensor(&"n".repeat(257), &[1])]).is_err());
        assert!(Layout::new(vec![tensor("w", &[1]), tensor("w", &[1])]).is_err());
        assert!(Layout::new((0..5000).map(|i| tensor(&i.to_string(), &[1])).collect()).is_err());
        assert_eq!(Layout::new(vec![tensor("w", &[0])]), Err(ModelError::Empty));
    }
}
