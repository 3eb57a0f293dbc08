//! Bounded reading of possibly compressed input.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::DataError;

/// Opens `path` for reading.
pub(crate) fn open(path: &Path) -> Result<std::fs::File, DataError> {
    std::fs::File::open(path).map_err(|source| DataError::Read { path: path.to_owned(), source })
}

/// The whole input, decompressed if it starts with the gzip magic number, refused beyond `limit` decompressed bytes.
///
/// Memory grows with what really arrives, so neither a false length nor a compression bomb can claim more than `limit`.
pub(crate) fn read_bounded(input: impl Read, file: &str, limit: u64) -> Result<Vec<u8>, DataError> {
    let mut input = BufReader::new(input);
    let failed = |source| DataError::Read { path: file.into(), source };
    let compressed = input.fill_buf().map_err(failed)?.starts_with(&[0x1F, 0x8B]);
    let mut bytes = Vec::new();
    let allowed = limit.saturating_add(1);
    if compressed {
        MultiGzDecoder::new(input).take(allowed).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        input.take(allowed).read_to_end(&mut bytes).map_err(failed)?;
    }
    if bytes.len() as u64 > limit {
        return Err(DataError::Limit {
            file: file.to_owned(),
            what: "bytes",
            found: format!("more than {limit}"),
            limit,
        });
    }
    Ok(bytes)
}

/// Refuses `found` above `limit`.
pub(crate) fn check_limit(file: &str, what: &'static str, found: usize, limit: usize) -> Result<(), DataError> {
    if found <= limit {
        return Ok(());
    }
    Err(DataError::Limit { file: file.to_owned(), what, found: found.to_string(), limit: limit as u64 })
}

#[cfg(test)]
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_compressed_input_give_the_same_bytes() {
        assert_eq!(read_bounded(&b"1,2,3"[..], "f", 5).unwrap(), b"1,2,3");
        assert_eq!(read_bounded(&gzip(b"1,2,3")[..], "f", 5).unwrap(), b"1,2,3");
    }

    #[test]
    fn a_compression_bomb_is_refused_at_the_limit() {
        let bomb = gzip(&vec![b'0'; 5_000_000]);
        assert!(bomb.len() < 10_000);
        let error = read_bounded(&bomb[..], "bomb.csv", 100_000).unwrap_err().to_string();
        assert!(error.contains("bomb.csv") && error.contains("100000"), "{error}");
    }

    #[test]
    fn a_truncated_or_damaged_compressed_file_is_an_error() {
        let whole = gzip(&(0..=255).cycle().take(10_000).collect::<Vec<u8>>());
        assert!(read_bounded(&whole[..whole.len() / 2], "f", 1 << 20).is_err());
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0xFF;
        assert!(read_bounded(&damaged[..], "f", 1 << 20).is_err());
    }
}
