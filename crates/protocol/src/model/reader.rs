//! A model's file, read while it arrives.

use super::{Layout, Model, ModelError, Tensor, limit};
use crate::limits;
use safetensors::{Dtype, tensor::Metadata};
use std::fmt;

/// Most coordinates reserved on the header's word alone; the rest as it comes.
const RESERVED: usize = 4 << 20;

/// Reads a safetensors file of F32 tensors that comes in pieces, cut anywhere. A piece is decoded at once, while it is
/// in the cache, and need not be kept.
#[derive(Debug)]
pub struct ModelReader {
    /// Of the whole file, bytes.
    length: usize,
    prefix: Vec<u8>,
    /// Once the prefix is complete.
    layout: Option<Layout>,
    parameters: Vec<f32>,
    /// A coordinate cut by a piece's end, and how much of it is there.
    cut: [u8; 4],
    held: usize,
    non_finite: Option<usize>,
}

impl ModelReader {
    /// For a file of so many bytes. The parameters go to `memory`, whose content is dropped: that of a model that is
    /// no longer needed, or an empty vector.
    ///
    /// # Errors
    /// [`ModelError::Limit`] for a file that is too long.
    pub fn new(length: u64, mut memory: Vec<f32>) -> Result<Self, ModelError> {
        limit("model size in bytes", length, limits::MODEL_BYTES)?;
        memory.clear();
        let (prefix, length) = (Vec::new(), length as usize);
        Ok(Self { length, prefix, layout: None, parameters: memory, cut: [0; 4], held: 0, non_finite: None })
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// [`ModelError`] as soon as the header is wrong, or for more bytes than it describes. Nothing more may be fed
    /// then.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), ModelError> {
        let mut rest = piece;
        while self.layout.is_none() {
            let wanted = self.prefix_bytes()?;
            let (more, after) = rest.split_at(rest.len().min(wanted - self.prefix.len()));
            self.prefix.extend_from_slice(more);
            rest = after;
            if self.prefix.len() < wanted {
                return Ok(());
            }
            if wanted == self.prefix_bytes()? {
                let layout = read_layout(&self.prefix, self.length - self.prefix.len())?;
                self.parameters.reserve_exact(layout.dimension().min(RESERVED));
                self.layout = Some(layout);
            }
        }
        let missing = (self.length - self.prefix.len()) - (self.parameters.len() * 4 + self.held);
        if rest.len() > missing {
            return Err(ModelError::Format("the file is longer than announced".into()));
        }
        self.decode(rest);
        Ok(())
    }

    /// The model.
    ///
    /// # Errors
    /// [`ModelError`] for a file that is not complete, or a parameter that is not finite.
    pub fn finish(self) -> Result<Model, ModelError> {
        let Self { prefix, layout, parameters, non_finite, .. } = self;
        let Some(layout) = layout else { return Err(ModelError::Format("it ends within the header".into())) };
        if parameters.len() != layout.dimension() {
            return Err(ModelError::Format("it ends within the data".into()));
        }
        let model = Model { prefix, layout, parameters };
        match non_finite {
            Some(at) => Err(model.non_finite(at)),
            None => Ok(model),
        }
    }

    /// Length of what precedes the data as far as it is known: first that of the header's length, then with it.
    fn prefix_bytes(&self) -> Result<usize, ModelError> {
        let header = match self.prefix.first_chunk::<8>() {
            Some(size) => u64::from_le_bytes(*size),
            None => 0,
        };
        limit("safetensors header in bytes", header, limits::MODEL_HEADER_BYTES as u64)?;
        let bytes = 8 + header as usize;
        match bytes <= self.length {
            true => Ok(bytes),
            false if self.length < 8 => Err(ModelError::Format("shorter than 8 bytes".into())),
            false => Err(ModelError::Format("the header is longer than the file".into())),
        }
    }

    fn decode(&mut self, mut bytes: &[u8]) {
        let before = self.parameters.len();
        while let (1.., Some((&byte, rest))) = (self.held, bytes.split_first()) {
            self.cut[self.held] = byte;
            (self.held, bytes) = ((self.held + 1) % 4, rest);
            if self.held == 0 {
                self.parameters.push(f32::from_le_bytes(self.cut));
            }
        }
        let (whole, rest) = bytes.as_chunks::<4>();
        self.parameters.extend(whole.iter().map(|four| f32::from_le_bytes(*four)));
        if !rest.is_empty() {
            self.cut[..rest.len()].copy_from_slice(rest);
            self.held = rest.len();
        }
        if self.non_finite.is_none() {
            let found = testudo_aggregate::first_non_finite(&self.parameters[before..]);
            self.non_finite = found.map(|at| before + at);
        }
    }
}

/// The layout by a file's header, held against the number of data bytes.
fn read_layout(prefix: &[u8], data: usize) -> Result<Layout, ModelError> {
    let format = |error: &dyn fmt::Display| ModelError::Format(error.to_string());
    let header: Metadata = serde_json::from_slice(&prefix[8..]).map_err(|error| format(&error))?;
    let tensors = header.tensors();
    let mut infos: Vec<_> = tensors.iter().collect();
    infos.sort_by_key(|(name, info)| (info.data_offsets.0, name.as_str()));
    let mut layout = Vec::with_capacity(infos.len());
    let mut position = 0;
    for (name, info) in infos {
        if info.dtype != Dtype::F32 {
            return Err(ModelError::Dtype { name: name.clone(), dtype: format!("{:?}", info.dtype) });
        }
        if info.data_offsets.0 != position {
            return Err(ModelError::Gap { name: name.clone() });
        }
        let tensor = Tensor { name: name.clone(), shape: info.shape.iter().map(|&length| length as u64).collect() };
        let end = tensor.coordinates().and_then(|count| count.checked_mul(4)?.checked_add(position as u64));
        if end != Some(info.data_offsets.1 as u64) {
            return Err(ModelError::Format(format!("tensor {name:?} does not fill its place")));
        }
        position = info.data_offsets.1;
        layout.push(tensor);
    }
    if position != data {
        let detail = format!("the header describes {position} bytes of data, the file has {data}");
        return Err(ModelError::Format(detail));
    }
    Layout::new(layout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(file: &[u8], cut: usize) -> Result<Model, ModelError> {
        let mut reader = ModelReader::new(file.len() as u64, vec![7.0; 3])?;
        file.chunks(cut).try_for_each(|piece| reader.feed(piece))?;
        reader.finish()
    }

    proptest! {
        #[test]
        fn a_file_is_the_same_model_however_it_is_cut(
            values in prop::collection::vec(-1e3f32..1e3, 1..40), cut in 1usize..90
        ) {
            let tensors = vec![Tensor { name: "w".into(), shape: vec![values.len() as u64] }];
            let model = Model::new(tensors, values).unwrap();
            prop_assert_eq!(read(&model.to_safetensors(), cut).unwrap(), model);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), cut in 1usize..9) {
            let _ = read(&bytes, cut);
        }
    }

    #[test]
    fn a_file_of_another_length_than_announced_is_refused() {
        let tensors = vec![Tensor { name: "w".into(), shape: vec![3] }];
        let file = Model::new(tensors, vec![1.0, f32::MAX, 3.0]).unwrap().to_safetensors();
        for length in 0..file.len() {
            let mut reader = ModelReader::new(file.len() as u64, Vec::new()).unwrap();
            reader.feed(&file[..length]).unwrap();
            assert!(reader.finish().is_err(), "{length}");
        }
        let mut reader = ModelReader::new(file.len() as u64, Vec::new()).unwrap();
        reader.feed(&file).unwrap();
        assert!(reader.feed(&[0]).is_err());
    }
}
