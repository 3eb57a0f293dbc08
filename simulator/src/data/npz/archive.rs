//! The part of the ZIP format that NumPy writes: members stored or deflated, listed in the directory at the end.

use std::io::Read;

use flate2::read::DeflateDecoder;

/// Why a member cannot be read.
pub(super) enum Fault {
    /// Not a sound archive.
    Damaged(&'static str),
    /// More bytes than allowed.
    Large,
}

/// The content of member `name`, at most `limit` bytes; `None` if there is none of that name.
pub(super) fn find(bytes: &[u8], name: &str, limit: u64) -> Result<Option<Vec<u8>>, Fault> {
    for entry in entries(bytes)? {
        let entry = entry?;
        if entry.name == name.as_bytes() {
            return entry.content(bytes, limit).map(Some);
        }
    }
    Ok(None)
}

/// The members' names, as far as the directory is sound.
pub(super) fn names(bytes: &[u8]) -> Vec<String> {
    let Ok(entries) = entries(bytes) else { return Vec::new() };
    entries.map_while(Result::ok).map(|entry| String::from_utf8_lossy(entry.name).into_owned()).collect()
}

struct Entry<'a> {
    name: &'a [u8],
    method: u16,
    checksum: u32,
    packed: u64,
    size: u64,
    offset: u64,
}

const END: &[u8] = b"PK\x05\x06";
const LISTED: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";
const TRUNCATED: Fault = Fault::Damaged("the archive ends inside its directory");

fn entries(bytes: &[u8]) -> Result<impl Iterator<Item = Result<Entry<'_>, Fault>>, Fault> {
    // The end record has 22 bytes and at most 65,535 of comment behind them.
    let from = bytes.len().saturating_sub(22 + 65_535);
    let end = bytes[from..].windows(4).rposition(|window| window == END).map(|at| from + at);
    let end = end.ok_or(Fault::Damaged("no directory of a ZIP archive at the end"))?;
    let count = usize::from(u16_at(bytes, end + 10)?);
    let mut at = u32_at(bytes, end + 16)? as usize;
    Ok((0..count).map(move |_| {
        let (entry, next) = listed(bytes, at)?;
        at = next;
        Ok(entry)
    }))
}

/// The directory's entry at `at`, and where the next begins.
fn listed(bytes: &[u8], at: usize) -> Result<(Entry<'_>, usize), Fault> {
    if bytes.get(at..at.saturating_add(4)) != Some(LISTED) {
        return Err(Fault::Damaged("the directory of the archive is damaged"));
    }
    let (name, extra) = (usize::from(u16_at(bytes, at + 28)?), usize::from(u16_at(bytes, at + 30)?));
    let comment = usize::from(u16_at(bytes, at + 32)?);
    let names = at + 46;
    let mut entry = Entry {
        name: bytes.get(names..names + name).ok_or(TRUNCATED)?,
        method: u16_at(bytes, at + 10)?,
        checksum: u32_at(bytes, at + 16)?,
        packed: u64::from(u32_at(bytes, at + 20)?),
        size: u64::from(u32_at(bytes, at + 24)?),
        offset: u64::from(u32_at(bytes, at + 42)?),
    };
    entry.widen(bytes.get(names + name..names + name + extra).ok_or(TRUNCATED)?)?;
    Ok((entry, names + name + extra + comment))
}

impl Entry<'_> {
    /// 64-bit values replace those that do not fit into 32 bits, in this order.
    fn widen(&mut self, mut extra: &[u8]) -> Result<(), Fault> {
        while extra.len() >= 4 {
            let (kind, length) = (u16_at(extra, 0)?, usize::from(u16_at(extra, 2)?));
            let mut body = extra.get(4..4 + length).ok_or(TRUNCATED)?;
            extra = &extra[4 + length..];
            if kind != 1 {
                continue;
            }
            for field in [&mut self.size, &mut self.packed, &mut self.offset] {
                if *field == u64::from(u32::MAX) {
                    let (eight, rest) = body.split_first_chunk::<8>().ok_or(TRUNCATED)?;
                    *field = u64::from_le_bytes(*eight);
                    body = rest;
                }
            }
        }
        Ok(())
    }

    fn content(&self, bytes: &[u8], limit: u64) -> Result<Vec<u8>, Fault> {
        if self.size > limit {
            return Err(Fault::Large);
        }
        let outside = Fault::Damaged("a member lies outside the archive");
        let Ok(at) = usize::try_from(self.offset) else { return Err(outside) };
        if bytes.get(at..at.saturating_add(4)) != Some(LOCAL) {
            return Err(Fault::Damaged("a member does not begin where the directory says"));
        }
        let from = at + 30 + usize::from(u16_at(bytes, at + 26)?) + usize::from(u16_at(bytes, at + 28)?);
        let packed = usize::try_from(self.packed).ok().and_then(|length| bytes.get(from..from.checked_add(length)?));
        let Some(packed) = packed else { return Err(outside) };
        let mut content = Vec::new();
        match self.method {
            0 => content.extend_from_slice(packed),
            8 => {
                // One byte more than announced shows a false size; memory grows with what really comes.
                DeflateDecoder::new(packed)
                    .take(self.size.saturating_add(1))
                    .read_to_end(&mut content)
                    .map_err(|_| Fault::Damaged("a member's compression is damaged"))?;
            }
            _ => return Err(Fault::Damaged("a member is packed by another method than deflate")),
        }
        if content.len() as u64 != self.size {
            return Err(Fault::Damaged("a member is longer or shorter than announced"));
        }
        let mut checksum = flate2::Crc::new();
        checksum.update(&content);
        if checksum.sum() != self.checksum {
            return Err(Fault::Damaged("a member's checksum differs"));
        }
        Ok(content)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Fault> {
    let two = bytes.get(at..).and_then(<[u8]>::first_chunk::<2>).ok_or(TRUNCATED)?;
    Ok(u16::from_le_bytes(*two))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Fault> {
    let four = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>).ok_or(TRUNCATED)?;
    Ok(u32::from_le_bytes(*four))
}
