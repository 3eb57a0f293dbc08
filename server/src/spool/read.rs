//! Which bytes of which part make up a range.

use super::SpoolError;
use crate::store::Body;
use bytes::Bytes;
use std::ops::Range;

/// Consecutive bytes that lie in one place.
pub(super) enum Source<'a> {
    Inline(Bytes),
    Part {
        key: &'a str,
        /// The part's first byte in the payload.
        offset: u64,
        /// Bytes of the part.
        range: Range<u64>,
    },
}

/// Visits the sources of a range in order; together they are exactly as long as the range.
pub(super) fn visit<'a>(
    body: &'a Body,
    range: Range<u64>,
    mut visit: impl FnMut(Source<'a>) -> Result<(), SpoolError>,
) -> Result<(), SpoolError> {
    let length = length(body)?;
    if range.start > range.end || range.end > length {
        return Err(SpoolError::Range { range, length });
    }
    if range.is_empty() {
        return Ok(());
    }
    match body {
        Body::Inline(bytes) => visit(Source::Inline(bytes.slice(range.start as usize..range.end as usize))),
        Body::Parts { key, parts } => {
            let first = parts.partition_point(|(offset, length)| offset + length <= range.start);
            for &(offset, length) in &parts[first..] {
                if offset >= range.end {
                    break;
                }
                let start = range.start.max(offset) - offset;
                let end = range.end.min(offset + length) - offset;
                visit(Source::Part { key, offset, range: start..end })?;
            }
            Ok(())
        }
    }
}

/// Length of a payload, bytes; refuses parts that do not follow one another.
fn length(body: &Body) -> Result<u64, SpoolError> {
    let (key, parts) = match body {
        Body::Inline(bytes) => return Ok(bytes.len() as u64),
        Body::Parts { key, parts } => (key, parts),
    };
    let mut end: u64 = 0;
    for &(offset, length) in parts {
        let what = "not where the one before it ends";
        let wrong = || SpoolError::Part { key: key.clone(), offset, what };
        if offset != end || length == 0 {
            return Err(wrong());
        }
        end = end.checked_add(length).ok_or_else(wrong)?;
    }
    Ok(end)
}
