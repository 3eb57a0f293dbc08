//! Bytes of rows as numbers.

use crate::RowBytes;
use bytes::Bytes;
use std::cell::Cell;
use zeroize::Zeroize as _;

/// Most values whose memory a thread keeps for its next unit.
const KEPT: usize = 2 << 20;

/// Works on numbers in memory that is the thread's own and used again: fresh memory for every unit would cost more
/// than filling it. `work` finds the vector empty.
pub(crate) fn in_own_memory<T>(work: impl FnOnce(&mut Vec<f32>) -> T) -> T {
    thread_local!(static MEMORY: Cell<Vec<f32>> = const { Cell::new(Vec::new()) });
    let mut values = MEMORY.take();
    values.clear();
    let result = work(&mut values);
    if values.capacity() <= KEPT {
        MEMORY.set(values);
    }
    result
}

/// The same for updates of a private task: nothing of them stays behind.
pub(crate) fn in_erased_memory<T>(work: impl FnOnce(&mut Vec<f32>) -> T) -> T {
    in_own_memory(|values| {
        let result = work(values);
        values.zeroize();
        result
    })
}

/// Adds all rows one after the other as f32.
pub(crate) fn decode(rows: &[RowBytes], coordinates: usize, values: &mut Vec<f32>) -> Result<(), String> {
    values.reserve_exact(rows.len() * coordinates);
    for (index, row) in rows.iter().enumerate() {
        let length: usize = row.iter().map(Bytes::len).sum();
        if length != coordinates * 4 {
            return Err(format!("row {index} has {length} bytes instead of {}", coordinates * 4));
        }
        decode_row(row, values);
    }
    Ok(())
}

fn decode_row(pieces: &[Bytes], values: &mut Vec<f32>) {
    let (mut cut, mut held) = ([0u8; 4], 0);
    for piece in pieces {
        let mut piece = &piece[..];
        // A coordinate may be cut by the end of a piece.
        while held > 0 && !piece.is_empty() {
            cut[held] = piece[0];
            (held, piece) = (held + 1, &piece[1..]);
            if held == 4 {
                values.push(f32::from_le_bytes(cut));
                held = 0;
            }
        }
        let (whole, rest) = piece.as_chunks::<4>();
        values.extend(whole.iter().map(|four| f32::from_le_bytes(*four)));
        cut[held..held + rest.len()].copy_from_slice(rest);
        held += rest.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_decode_alike_however_they_are_cut(values in prop::collection::vec(any::<f32>(), 1..40), cut in 1usize..23) {
            let payload: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let pieces: RowBytes = payload.chunks(cut).map(Bytes::copy_from_slice).collect();
            let decoded = in_own_memory(|out| decode(&[pieces], values.len(), out).map(|()| out.clone())).unwrap();
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&decoded), bits(&values));
        }
    }

    #[test]
    fn a_row_of_the_wrong_length_is_a_failure_not_a_panic() {
        let error = decode(&[vec![Bytes::from_static(&[0; 7])]], 2, &mut Vec::new()).unwrap_err();
        assert!(error.contains("7 bytes instead of 8"), "{error}");
    }
}
