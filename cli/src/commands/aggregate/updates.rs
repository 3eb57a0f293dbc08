//! The rows to aggregate, from .npy or safetensors. Sizes are held against the file before anything is allocated.

use super::npy::Header;
use crate::{
    exit::{Exit, Failure},
    file,
    format::clean,
};
use safetensors::{Dtype, tensor::Metadata};
use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    ops::Range,
    path::Path,
};
use testudo_aggregate::Element;
use testudo_protocol::limits;

/// Largest safetensors header, bytes: room for as many rows as a cohort may have.
const SAFETENSORS_HEADER_BYTES: u64 = 32 << 20;
/// Bytes read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// n rows of d coordinates.
#[derive(Debug)]
pub(super) struct Matrix<T> {
    /// n, at least 1.
    pub(super) rows: usize,
    /// d, at least 1.
    pub(super) columns: usize,
    /// What the rows are called, if they have names.
    pub(super) names: Option<Vec<String>>,
    values: Values<T>,
}

/// Where the coordinates are.
#[derive(Debug)]
enum Values<T> {
    /// One row after the other.
    Memory(Vec<T>),
    /// In the file, each row at its place.
    File { file: File, places: Vec<u64>, bytes: Vec<u8> },
}

/// Rows in the number format of their file.
#[derive(Debug)]
pub(super) enum Updates {
    F32(Matrix<f32>),
    F64(Matrix<f64>),
}

/// What is done with some coordinates of some rows.
type UnitWork<'a, T, E> = dyn FnMut(&[&[T]]) -> Result<(), E> + 'a;

impl<T: Element> Matrix<T> {
    /// Hands the coordinates `range` of some rows to `work`: from memory, or read for the purpose.
    ///
    /// # Errors
    /// What cannot be read, and what `work` says.
    pub(super) fn unit<E: From<String>>(
        &mut self,
        rows: &[usize],
        range: Range<usize>,
        work: &mut UnitWork<'_, T, E>,
    ) -> Result<(), E> {
        let columns = self.columns;
        match &mut self.values {
            Values::Memory(values) => {
                let place = |&row: &usize| &values[row * columns + range.start..row * columns + range.end];
                work(&rows.iter().map(place).collect::<Vec<_>>())
            }
            Values::File { file, places, bytes } => {
                let mut values = vec![T::ZERO; rows.len() * range.len()];
                bytes.resize(range.len() * T::BYTES, 0);
                for (&row, values) in rows.iter().zip(values.chunks_exact_mut(range.len())) {
                    read_at(file, places[row] + (range.start * T::BYTES) as u64, bytes)?;
                    T::decode(bytes, values).map_err(|error| error.to_string())?;
                }
                work(&values.chunks_exact(range.len()).collect::<Vec<_>>())
            }
        }
    }
}

fn read_at(file: &mut File, place: u64, bytes: &mut [u8]) -> Result<(), String> {
    file.seek(SeekFrom::Start(place)).and_then(|_| file.read_exact(bytes)).map_err(|error| error.to_string())
}

impl Updates {
    /// n.
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::F32(matrix) => matrix.rows,
            Self::F64(matrix) => matrix.rows,
        }
    }
}

/// Reads updates; the file's first bytes say which format it is. `out_of_core` leaves the coordinates in the file.
///
/// # Errors
/// Names the file, what is wrong and how to save it instead.
pub(super) fn read(path: &Path, out_of_core: bool) -> Result<Updates, Failure> {
    read_rows(path, out_of_core, false)
}

/// The same; with `single` an array of one axis counts as one row, as `--out` writes it.
pub(super) fn read_rows(path: &Path, out_of_core: bool, single: bool) -> Result<Updates, Failure> {
    let (mut file, length) = file::open(path)?;
    let refused = |why: String| {
        Failure::new(Exit::Usage, format!("cannot use {}", path.display()), why).next(
            "save the rows with numpy.save as an n x d array of float32 or float64, or as safetensors of equal tensors",
        )
    };
    let mut magic = [0; 6];
    let begins_as_npy = file.read_exact(&mut magic).is_ok() && magic == *b"\x93NUMPY";
    file.rewind().map_err(|error| refused(error.to_string()))?;
    match begins_as_npy {
        true => read_npy(file, length, out_of_core, single).map_err(refused),
        false => read_safetensors(file, length, out_of_core)
            .map_err(|why| refused(format!("it is no .npy file, and read as safetensors: {why}"))),
    }
}

/// Reads one weight per row.
///
/// # Errors
/// As [`read`], and when there are not `rows` weights.
pub(super) fn read_weights(path: &Path, rows: usize) -> Result<Vec<f64>, Failure> {
    let (file, length) = file::open(path)?;
    weights(file, length, rows).map_err(|why| {
        Failure::new(Exit::Usage, format!("cannot use {}", path.display()), why)
            .next("save the weights with numpy.save as one float64, float32, int64 or int32 per row")
    })
}

fn weights(file: File, length: u64, rows: usize) -> Result<Vec<f64>, String> {
    let mut reader = BufReader::new(file);
    let header = Header::read(&mut reader)?;
    if header.shape != [rows as u64] {
        return Err(format!("its shape is {}, but there are {rows} rows: it must be ({rows},)", shape(&header.shape)));
    }
    let width = match header.descr.as_str() {
        "<f4" | "<i4" => 4,
        "<f8" | "<i8" => 8,
        other => return Err(format!("it holds {}", clean(other))),
    };
    check_length(&header, length, width)?;
    let mut bytes = vec![0; rows * width as usize];
    reader.read_exact(&mut bytes).map_err(|error| error.to_string())?;
    let eight = |piece: &[u8]| piece.try_into().unwrap_or([0; 8]);
    let four = |piece: &[u8]| piece.try_into().unwrap_or([0; 4]);
    #[expect(clippy::cast_precision_loss, reason = "a weight beyond 2^53 is no count")]
    let number = |piece: &[u8]| match header.descr.as_str() {
        "<f4" => f32::from_le_bytes(four(piece)).into(),
        "<i4" => i32::from_le_bytes(four(piece)).into(),
        "<f8" => f64::from_le_bytes(eight(piece)),
        _ => i64::from_le_bytes(eight(piece)) as f64,
    };
    Ok(bytes.chunks_exact(width as usize).map(number).collect())
}

fn read_npy(file: File, length: u64, out_of_core: bool, single: bool) -> Result<Updates, String> {
    let mut reader = BufReader::with_capacity(PIECE_BYTES, file);
    let mut header = Header::read(&mut reader)?;
    if single && header.shape.len() == 1 {
        header.shape.insert(0, 1);
    }
    let [rows, columns] = header.shape[..] else {
        let fix = if header.shape.len() == 1 { "; reshape a single update to (1, -1)" } else { "" };
        return Err(format!("its shape is {}, but n x d needs two axes{fix}", shape(&header.shape)));
    };
    check_rows(rows, columns)?;
    match header.descr.as_str() {
        "<f4" => npy_matrix(reader, &header, length, out_of_core).map(Updates::F32),
        "<f8" => npy_matrix(reader, &header, length, out_of_core).map(Updates::F64),
        ">f4" | ">f8" => Err("its numbers are big-endian; convert them with .astype('<f4') or '<f8'".into()),
        other => Err(format!("it holds {}, neither float32 nor float64; convert it with .astype('<f4')", clean(other))),
    }
}

fn npy_matrix<T: Element>(
    mut reader: BufReader<File>,
    header: &Header,
    length: u64,
    out_of_core: bool,
) -> Result<Matrix<T>, String> {
    check_length(header, length, T::BYTES as u64)?;
    // The file is that long, so the counts fit.
    let (rows, columns) = (header.shape[0] as usize, header.shape[1] as usize);
    let by_column = header.fortran && rows > 1 && columns > 1;
    if out_of_core {
        if by_column {
            return Err(
                "its first axis runs fastest, so its rows are scattered; save it in C order, or read it into memory"
                    .into(),
            );
        }
        let places = (0..rows as u64).map(|row| header.length + row * (columns * T::BYTES) as u64).collect();
        let values = Values::File { file: reader.into_inner(), places, bytes: Vec::new() };
        return Ok(Matrix { rows, columns, names: None, values });
    }
    let mut values = vec![T::ZERO; rows * columns];
    if by_column {
        let mut column = vec![T::ZERO; rows];
        for at in 0..columns {
            decode(&mut reader, &mut column)?;
            for (row, value) in column.iter().enumerate() {
                values[row * columns + at] = *value;
            }
        }
    } else {
        decode(&mut reader, &mut values)?;
    }
    Ok(Matrix { rows, columns, names: None, values: Values::Memory(values) })
}

fn read_safetensors(mut file: File, length: u64, out_of_core: bool) -> Result<Updates, String> {
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(|_| "it is shorter than 8 bytes".to_string())?;
    let size = u64::from_le_bytes(size);
    let most = SAFETENSORS_HEADER_BYTES.min(length.saturating_sub(8));
    if size > most {
        return Err(format!("its header would have {size} bytes, but only {most} are possible"));
    }
    let mut header = vec![0; size as usize];
    file.read_exact(&mut header).map_err(|error| error.to_string())?;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| error.to_string())?;
    let data = 8 + size;
    if metadata.data_len() as u64 != length - data {
        return Err(format!(
            "its header tells of {} bytes of data, but there are {}",
            metadata.data_len(),
            length - data
        ));
    }
    let mut tensors: Vec<_> = metadata.tensors().into_iter().collect();
    tensors.sort_by(|left, right| left.0.cmp(&right.0));
    let Some((first_name, first)) = tensors.first() else { return Err("it has no tensors".into()) };
    let (dtype, columns) = (first.dtype, first.shape.iter().product::<usize>());
    check_rows(tensors.len() as u64, columns as u64)?;
    for (name, info) in &tensors {
        if info.dtype != dtype || info.shape != first.shape {
            return Err(format!(
                "tensor {:?} is {:?} {:?}, but {:?} is {dtype:?} {:?}: rows must be alike",
                clean(name),
                info.dtype,
                info.shape,
                clean(first_name),
                first.shape
            ));
        }
    }
    let places: Vec<u64> = tensors.iter().map(|(_, info)| data + info.data_offsets.0 as u64).collect();
    let names: Vec<String> = tensors.into_iter().map(|(name, _)| name).collect();
    match dtype {
        Dtype::F32 => safetensors_matrix(file, places, columns, names, out_of_core).map(Updates::F32),
        Dtype::F64 => safetensors_matrix(file, places, columns, names, out_of_core).map(Updates::F64),
        other => Err(format!("its tensors hold {other:?}, neither F32 nor F64")),
    }
}

fn safetensors_matrix<T: Element>(
    mut file: File,
    places: Vec<u64>,
    columns: usize,
    names: Vec<String>,
    out_of_core: bool,
) -> Result<Matrix<T>, String> {
    let rows = places.len();
    if out_of_core {
        let values = Values::File { file, places, bytes: Vec::new() };
        return Ok(Matrix { rows, columns, names: Some(names), values });
    }
    let mut values = vec![T::ZERO; rows * columns];
    for (place, row) in places.iter().zip(values.chunks_exact_mut(columns)) {
        file.seek(SeekFrom::Start(*place)).map_err(|error| error.to_string())?;
        decode(&mut file, row)?;
    }
    Ok(Matrix { rows, columns, names: Some(names), values: Values::Memory(values) })
}

/// Fills `out` from little-endian bytes, a piece at a time.
fn decode<T: Element>(reader: &mut impl Read, out: &mut [T]) -> Result<(), String> {
    let mut bytes = vec![0; PIECE_BYTES.min(out.len() * T::BYTES)];
    for piece in out.chunks_mut((PIECE_BYTES / T::BYTES).max(1)) {
        let bytes = &mut bytes[..piece.len() * T::BYTES];
        reader.read_exact(bytes).map_err(|error| error.to_string())?;
        T::decode(bytes, piece).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn check_rows(rows: u64, columns: u64) -> Result<(), String> {
    if rows == 0 || columns == 0 {
        return Err(format!("it is empty: {rows} rows of {columns} coordinates"));
    }
    if rows > limits::COHORT as u64 {
        return Err(format!("it has {rows} rows, more than the limit of {}", limits::COHORT));
    }
    Ok(())
}

/// Whether the data the header tells of are what follows it.
fn check_length(header: &Header, length: u64, width: u64) -> Result<(), String> {
    let data = header.shape.iter().try_fold(width, |product, &axis| product.checked_mul(axis));
    let expected = data.and_then(|data| data.checked_add(header.length));
    match expected {
        Some(expected) if expected == length => Ok(()),
        Some(expected) => Err(format!(
            "a shape of {} needs {expected} bytes, but the file has {length}: it is {}",
            shape(&header.shape),
            if length < expected { "truncated" } else { "longer than its array" }
        )),
        None => Err(format!("a shape of {} is impossible", shape(&header.shape))),
    }
}

/// A shape as NumPy writes it.
fn shape(axes: &[u64]) -> String {
    match axes {
        [one] => format!("({one},)"),
        axes => format!("({})", axes.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")),
    }
}
