//! One array in NumPy's NPY format: a short text that describes it, then the numbers.

/// What is wrong, and what to do.
pub(super) type Wrong = (String, &'static str);

/// Type of the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Unsigned(usize),
    Signed(usize),
    Float(usize),
}

/// Type, shape and place of the numbers.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) shape: Vec<usize>,
    start: usize,
}

const SAVE_AGAIN: &str = "save the array again with numpy.savez";
const ONLY: &str = "only little-endian integers and floats of 1 to 8 bytes are read; convert with .astype(\"float32\")";

impl Kind {
    fn parse(text: &str) -> Option<Self> {
        let mut letters = text.chars();
        let order = letters.next()?;
        let kind = letters.next()?;
        let size: usize = letters.as_str().parse().ok()?;
        if !(order == '<' || (order == '|' && size == 1)) {
            return None;
        }
        match (kind, size) {
            ('u', 1 | 2 | 4 | 8) => Some(Self::Unsigned(size)),
            ('i', 1 | 2 | 4 | 8) => Some(Self::Signed(size)),
            ('f', 4 | 8) => Some(Self::Float(size)),
            _ => None,
        }
    }

    pub(super) fn is_integer(self) -> bool {
        !matches!(self, Self::Float(_))
    }

    pub(super) fn name(self) -> String {
        match self {
            Self::Unsigned(size) => format!("uint{}", 8 * size),
            Self::Signed(size) => format!("int{}", 8 * size),
            Self::Float(size) => format!("float{}", 8 * size),
        }
    }

    /// Bytes are intensities of 0 to 255.
    pub(super) fn scale(self) -> f64 {
        if self == Self::Unsigned(1) { 1.0 / 255.0 } else { 1.0 }
    }

    fn size(self) -> usize {
        match self {
            Self::Unsigned(size) | Self::Signed(size) | Self::Float(size) => size,
        }
    }

    /// A number of `size` bytes; integers beyond 2^53 are rounded.
    fn number(self, bytes: &[u8]) -> f64 {
        let mut eight = [0; 8];
        eight[..bytes.len()].copy_from_slice(bytes);
        let unsigned = u64::from_le_bytes(eight);
        match self {
            Self::Unsigned(_) => unsigned as f64,
            Self::Signed(size) => {
                let unused = 64 - 8 * size as u32;
                (((unsigned << unused) as i64) >> unused) as f64
            }
            Self::Float(4) => f64::from(f32::from_bits(unsigned as u32)),
            Self::Float(_) => f64::from_bits(unsigned),
        }
    }
}

impl Header {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Wrong> {
        let wrong = |problem: &str| (problem.to_owned(), SAVE_AGAIN);
        let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or_else(|| wrong("does not begin as an array"))?;
        let (&[version, _], rest) = rest.split_first_chunk::<2>().ok_or_else(|| wrong("ends in its header"))?;
        let (length, lead) = match (version, rest) {
            (1, &[a, b, ..]) => (usize::from(u16::from_le_bytes([a, b])), 10),
            (2 | 3, &[a, b, c, d, ..]) => (u32::from_le_bytes([a, b, c, d]) as usize, 12),
            _ => return Err(wrong("has a header of an unknown version")),
        };
        let start = lead + length;
        let text = bytes.get(lead..start).and_then(|text| std::str::from_utf8(text).ok());
        let text = text.ok_or_else(|| wrong("ends in its header"))?;
        let value = |key: &str| {
            let (_, rest) = text.split_once(&format!("'{key}':"))?;
            Some(rest.trim_start())
        };
        let named = value("descr").and_then(|rest| rest.strip_prefix('\'')?.split_once('\'')).map(|(name, _)| name);
        let named = named.ok_or_else(|| ("is no plain array of numbers".to_owned(), ONLY))?;
        let shown: String = named.chars().take(20).collect();
        let kind = Kind::parse(named).ok_or_else(|| (format!("has the type {shown:?}"), ONLY))?;
        if !value("fortran_order").is_some_and(|rest| rest.starts_with("False")) {
            return Err(("lies column by column".to_owned(), "save numpy.ascontiguousarray(…)"));
        }
        let shape = value("shape").and_then(|rest| rest.strip_prefix('(')?.split_once(')')).map(|(sides, _)| sides);
        let shape = shape.ok_or_else(|| wrong("has no shape"))?;
        let sides = shape.split(',').map(str::trim).filter(|side| !side.is_empty());
        let shape: Vec<usize> =
            sides.map(|side| side.parse().map_err(|_| wrong("has no shape"))).collect::<Result<_, _>>()?;
        Ok(Self { kind, shape, start })
    }

    /// The numbers, which must be exactly as many as the shape says.
    pub(super) fn values<'a>(&self, bytes: &'a [u8]) -> Result<impl Iterator<Item = f64> + use<'a>, Wrong> {
        let count = self.shape.iter().try_fold(1_usize, |count, side| count.checked_mul(*side));
        let expected = count.and_then(|count| count.checked_mul(self.kind.size()));
        let numbers = &bytes[self.start..];
        if expected != Some(numbers.len()) {
            let problem = format!("{} bytes of numbers for the shape {:?}", numbers.len(), self.shape);
            return Err((problem, SAVE_AGAIN));
        }
        let kind = self.kind;
        Ok(numbers.chunks_exact(kind.size()).map(move |bytes| kind.number(bytes)))
    }
}
