//! The canonical encoding under every digest, signature and key of secure aggregation.
//!
//! A transcript is a label and then fields in the order that the label fixes. Integers and floating-point numbers are
//! little-endian and as wide as their type; byte strings of known length stand as they are; byte strings and texts
//! of varying length, and the label itself, come after their length as four bytes. Nothing is optional, so that two
//! different sequences of fields under one label never share an encoding.

use crate::Digest;
use zeroize::Zeroizing;

/// Why bytes are not the canonical encoding of something: which field, and what was wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Malformed {
    /// The field.
    pub field: &'static str,
    /// What was wrong and what would be right.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The bytes end before the field does.
    #[error("the bytes end inside it ({missing} missing)")]
    Short {
        /// Bytes missing.
        missing: usize,
    },
    /// The field is longer than the reader's limit.
    #[error("{length} bytes, at most {limit} are allowed")]
    Long {
        /// Bytes announced.
        length: usize,
        /// Most bytes.
        limit: usize,
    },
    /// Bytes after the last field.
    #[error("{count} bytes too many at the end")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// The text is not UTF-8.
    #[error("not UTF-8")]
    NotText,
    /// The number is NaN or infinite.
    #[error("not a finite number")]
    NotFinite,
    /// The transcript has another label.
    #[error("expected {expected:?}")]
    Label {
        /// The label expected.
        expected: &'static str,
    },
    /// The value is outside what the field allows.
    #[error("{0}")]
    Value(&'static str),
}

impl Malformed {
    /// A field whose value is outside what it allows.
    pub fn value(field: &'static str, problem: &'static str) -> Self {
        Self { field, problem: Problem::Value(problem) }
    }
}

/// Writes a transcript. Its bytes are zeroised on drop, since some transcripts hold a secret.
#[derive(Clone)]
pub struct Writer {
    bytes: Zeroizing<Vec<u8>>,
}

impl Writer {
    /// Begins the transcript of a label.
    ///
    /// # Panics
    /// With a label of 4 GiB or more.
    pub fn new(label: &str) -> Self {
        // Large enough for every transcript that holds a secret: a vector that grows leaves a copy behind.
        Self { bytes: Zeroizing::new(Vec::with_capacity(512)) }.text(label)
    }

    /// Appends one byte.
    #[must_use]
    pub fn u8(self, value: u8) -> Self {
        self.fixed(&[value])
    }

    /// Appends an integer of four bytes.
    #[must_use]
    pub fn u32(self, value: u32) -> Self {
        self.fixed(&value.to_le_bytes())
    }

    /// Appends an integer of eight bytes.
    #[must_use]
    pub fn u64(self, value: u64) -> Self {
        self.fixed(&value.to_le_bytes())
    }

    /// Appends a binary64 number, bit for bit.
    #[must_use]
    pub fn f64(self, value: f64) -> Self {
        self.fixed(&value.to_bits().to_le_bytes())
    }

    /// Appends bytes whose number the label fixes.
    #[must_use]
    pub fn fixed(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Appends bytes of varying number, after that number.
    ///
    /// # Panics
    /// With 4 GiB or more, which every caller's limits exclude.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let length = u32::try_from(bytes.len()).expect("limits keep every field below 4 GiB");
        self.u32(length).fixed(bytes)
    }

    /// Appends a text, after its length in bytes.
    ///
    /// # Panics
    /// With 4 GiB or more, which every caller's limits exclude.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// SHA-256 of the encoding.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// The encoding.
    pub fn finish(mut self) -> Vec<u8> {
        std::mem::take(&mut *self.bytes)
    }
}

/// Reads a transcript back, refusing whatever [`Writer`] could not have written.
#[derive(Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Begins at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Reads the label, which must be the expected one.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes end or the label differs.
    pub fn label(&mut self, expected: &'static str) -> Result<(), Malformed> {
        let wrong = Malformed { field: "label", problem: Problem::Label { expected } };
        let found = self.bytes("label", expected.len()).map_err(|_| wrong.clone())?;
        if found == expected.as_bytes() { Ok(()) } else { Err(wrong) }
    }

    /// Reads one byte.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes end.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, Malformed> {
        Ok(self.array::<1>(field)?[0])
    }

    /// Reads an integer of four bytes.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes end.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, Malformed> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// Reads an integer of eight bytes.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes end.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, Malformed> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// Reads a finite binary64 number.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes end or the number is NaN or infinite.
    pub fn f64(&mut self, field: &'static str) -> Result<f64, Malformed> {
        let value = self.array(field).map(f64::from_le_bytes)?;
        if value.is_finite() { Ok(value) } else { Err(Malformed { field, problem: Problem::NotFinite }) }
    }

    /// Reads bytes whose number the label fixes.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes end.
    pub fn fixed(&mut self, field: &'static str, length: usize) -> Result<&'a [u8], Malformed> {
        let Some((bytes, rest)) = self.rest.split_at_checked(length) else {
            return Err(Malformed { field, problem: Problem::Short { missing: length - self.rest.len() } });
        };
        self.rest = rest;
        Ok(bytes)
    }

    /// Reads bytes whose number is known when the program is written.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes end.
    pub fn array<const LENGTH: usize>(&mut self, field: &'static str) -> Result<[u8; LENGTH], Malformed> {
        let mut array = [0; LENGTH];
        array.copy_from_slice(self.fixed(field, LENGTH)?);
        Ok(array)
    }

    /// Reads bytes of varying number, at most `limit`.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes end or are more than the limit.
    pub fn bytes(&mut self, field: &'static str, limit: usize) -> Result<&'a [u8], Malformed> {
        let length = self.u32(field)? as usize;
        if length > limit {
            return Err(Malformed { field, problem: Problem::Long { length, limit } });
        }
        self.fixed(field, length)
    }

    /// Reads a text of at most `limit` bytes.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes end, are more than the limit or are not UTF-8.
    pub fn text(&mut self, field: &'static str, limit: usize) -> Result<&'a str, Malformed> {
        let bytes = self.bytes(field, limit)?;
        std::str::from_utf8(bytes).map_err(|_| Malformed { field, problem: Problem::NotText })
    }

    /// Ends the transcript.
    ///
    /// # Errors
    /// [`Malformed`] when bytes are left.
    pub fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(Malformed { field: "end", problem: Problem::Trailing { count: self.rest.len() } })
    }
}

#[cfg(test)]
mod tests;
