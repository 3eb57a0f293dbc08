//! The header of a .npy file (NumPy enhancement proposal 1), read within limits.

use std::io::Read;

/// Longest header, bytes; those of plain arrays have 128.
const HEADER_BYTES: usize = 16 << 10;
/// Most axes.
const AXES: usize = 32;

/// Shape, order and number format of the data that follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes before the data.
    pub(super) length: u64,
    /// NumPy's name of the number format, for example `<f4`.
    pub(super) descr: String,
    /// Whether the first axis runs fastest.
    pub(super) fortran: bool,
    /// Entries along each axis.
    pub(super) shape: Vec<u64>,
}

impl Header {
    /// Reads a header, and nothing beyond it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(reader: &mut impl Read) -> Result<Self, String> {
        let mut start = [0; 8];
        let cut = |_| "it ends within its header".to_string();
        reader.read_exact(&mut start).map_err(cut)?;
        if start[..6] != *b"\x93NUMPY" {
            return Err("it does not begin as a .npy file".into());
        }
        let mut size = [0; 4];
        let (width, length) = match start[6] {
            1 => {
                reader.read_exact(&mut size[..2]).map_err(cut)?;
                (2, u32::from_le_bytes(size))
            }
            2 | 3 => {
                reader.read_exact(&mut size).map_err(cut)?;
                (4, u32::from_le_bytes(size))
            }
            version => return Err(format!("it is of .npy version {version}; versions 1 to 3 are known")),
        };
        if length as usize > HEADER_BYTES {
            return Err(format!("its header has {length} bytes, more than the limit of {HEADER_BYTES}"));
        }
        let mut text = vec![0; length as usize];
        reader.read_exact(&mut text).map_err(cut)?;
        let text = std::str::from_utf8(&text).map_err(|_| "its header is not text".to_string())?;
        let mut header = Cursor { rest: text }.header()?;
        header.length = 8 + width + u64::from(length);
        Ok(header)
    }
}

/// A Python dictionary literal, read from the left. Never recursive: nesting cannot exhaust the stack.
struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn header(mut self) -> Result<Header, String> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        self.expect('{')?;
        while !self.take('}') {
            let key = self.string()?;
            self.expect(':')?;
            match key {
                "descr" if self.next_is('[') => return Err("it holds records, not plain numbers".into()),
                "descr" => descr = Some(self.string()?.to_string()),
                "fortran_order" => fortran = Some(self.boolean()?),
                "shape" => shape = Some(self.tuple()?),
                _ => return Err("its header has an unknown key".into()),
            }
            if !self.take(',') {
                self.expect('}')?;
                break;
            }
        }
        match (descr, fortran, shape) {
            (Some(descr), Some(fortran), Some(shape)) => Ok(Header { length: 0, descr, fortran, shape }),
            _ => Err("its header lacks descr, fortran_order or shape".into()),
        }
    }

    fn next_is(&mut self, letter: char) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.starts_with(letter)
    }

    fn take(&mut self, letter: char) -> bool {
        let found = self.next_is(letter);
        if found {
            self.rest = &self.rest[letter.len_utf8()..];
        }
        found
    }

    fn expect(&mut self, letter: char) -> Result<(), String> {
        if self.take(letter) { Ok(()) } else { Err(format!("its header is malformed: {letter:?} is missing")) }
    }

    fn string(&mut self) -> Result<&'a str, String> {
        let quote = if self.next_is('"') { '"' } else { '\'' };
        self.expect(quote)?;
        let (text, rest) = self.rest.split_once(quote).ok_or("its header is malformed: a string does not end")?;
        self.rest = rest;
        Ok(text)
    }

    fn boolean(&mut self) -> Result<bool, String> {
        self.rest = self.rest.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err("its header is malformed: fortran_order is neither True nor False".into())
    }

    fn tuple(&mut self) -> Result<Vec<u64>, String> {
        let mut numbers = Vec::new();
        self.expect('(')?;
        while !self.take(')') {
            self.rest = self.rest.trim_start();
            let end = self.rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(self.rest.len());
            let number =
                self.rest[..end].parse().map_err(|_| "its header is malformed: the shape is not whole numbers")?;
            numbers.push(number);
            if numbers.len() > AXES {
                return Err(format!("it has more than {AXES} axes"));
            }
            self.rest = self.rest[end..].strip_prefix('L').unwrap_or(&self.rest[end..]);
            if !self.take(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(version: u8, text: &str) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY".to_vec();
        bytes.extend([version, 0]);
        match version {
            1 => bytes.extend((text.len() as u16).to_le_bytes()),
            _ => bytes.extend((text.len() as u32).to_le_bytes()),
        }
        bytes.extend(text.as_bytes());
        bytes
    }

    #[test]
    fn headers_of_every_version_are_read() {
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }      \n";
        for version in 1..=3 {
            let bytes = file(version, text);
            let header = Header::read(&mut bytes.as_slice()).unwrap();
            assert_eq!(header.length, bytes.len() as u64);
            assert_eq!((header.descr.as_str(), header.fortran, header.shape), ("<f4", false, vec![3, 4]));
        }
        let one = Header::read(&mut file(1, "{\"descr\":\"<f8\",\"fortran_order\":True,\"shape\":(7,)}").as_slice());
        assert_eq!(one.unwrap().shape, [7]);
        let none = Header::read(&mut file(1, "{'descr': '<f8', 'fortran_order': True, 'shape': ()}").as_slice());
        assert_eq!(none.unwrap().shape, [0u64; 0]);
    }

    #[test]
    fn malformed_headers_are_refused_in_words() {
        let deep = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {}", "(".repeat(10_000));
        let many = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({})}}", "1,".repeat(100));
        for (bytes, part) in [
            (b"PK\x03\x04abcdefgh".to_vec(), "does not begin"),
            (b"\x93NUM".to_vec(), "ends within"),
            (file(9, ""), "version 9"),
            (file(2, "")[..9].to_vec(), "ends within"),
            ([b"\x93NUMPY\x02\0".as_slice(), &u32::MAX.to_le_bytes()].concat(), "limit"),
            (file(1, "{'descr': '<f4'"), "missing"),
            (file(1, "{}"), "lacks"),
            (file(1, "{'descr': [('a', '<f4')], }"), "records"),
            (file(1, "{'descr': '<f4', 'fortran_order': 1, }"), "neither"),
            (file(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (-1,)}"), "whole numbers"),
            (file(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (99999999999999999999,)}"), "whole numbers"),
            (file(1, &deep), "whole numbers"),
            (file(1, &many), "axes"),
        ] {
            let error = Header::read(&mut bytes.as_slice()).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_headers_never_panic(text in ".{0,200}", version in 0u8..5) {
            let _ = Header::read(&mut file(version, &text).as_slice());
        }
    }
}
