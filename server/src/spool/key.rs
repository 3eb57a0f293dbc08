//! Keys of payloads and names of parts.

use super::SpoolError;
use object_store::path::Path;

/// Largest offset that twelve digits hold.
pub(super) const LARGEST: u64 = 999_999_999_999;

const SEGMENTS: usize = 8;
const SEGMENT_BYTES: usize = 128;

/// Refuses every text that could name something outside the spool, or two things at once.
pub(super) fn check(key: &str) -> Result<Path, SpoolError> {
    let refused = || SpoolError::Key { key: key.chars().take(80).collect() };
    if key.split('/').count() > SEGMENTS || !key.split('/').all(is_segment) {
        return Err(refused());
    }
    Path::parse(key).map_err(|_| refused())
}

/// The object of a part.
pub(super) fn part(key: &str, offset: u64) -> Result<Path, SpoolError> {
    if offset > LARGEST {
        return Err(SpoolError::TooLong);
    }
    Ok(check(key)?.join(format!("{offset:012}").as_str()))
}

/// The offset in the name of a part of a key, `None` if it is no such name.
pub(super) fn offset(key: &str, location: &str) -> Option<u64> {
    let name = location.strip_prefix(key)?.strip_prefix('/')?;
    let digits = name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| name.parse().ok()).flatten()
}

fn is_segment(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=SEGMENT_BYTES).contains(&bytes.len())
        && letter(bytes[0])
        && bytes.iter().all(|&byte| letter(byte) || matches!(byte, b'.' | b'_' | b'-'))
}
