//! A set of a group's members.

use super::transcript::{Malformed, Reader, Writer};
use crate::Digest;
use std::fmt;

/// Members of one group, by their index in its roster.
#[derive(Clone, PartialEq, Eq)]
pub struct Bitmap {
    members: usize,
    bits: Vec<u8>,
}

impl Bitmap {
    /// Nobody of a group with this many members.
    pub fn empty(members: usize) -> Self {
        Self { members, bits: vec![0; members.div_ceil(8)] }
    }

    /// The members for whom `holds` is true.
    pub fn of(members: usize, holds: impl Fn(usize) -> bool) -> Self {
        let mut map = Self::empty(members);
        (0..members).filter(|&index| holds(index)).for_each(|index| map.insert(index));
        map
    }

    /// Takes a member in. An index outside the group changes nothing.
    pub fn insert(&mut self, index: usize) {
        if index < self.members {
            self.bits[index / 8] |= 1 << (index % 8);
        }
    }

    /// Whether a member is in the set.
    pub fn contains(&self, index: usize) -> bool {
        index < self.members && self.bits[index / 8] >> (index % 8) & 1 == 1
    }

    /// How many are in the set.
    pub fn count(&self) -> usize {
        self.bits.iter().map(|byte| byte.count_ones() as usize).sum()
    }

    /// Members of the whole group.
    pub fn members(&self) -> usize {
        self.members
    }

    /// The indices in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.members).filter(|&index| self.contains(index))
    }

    /// Whether everybody here is also in the other set of the same group.
    pub fn is_within(&self, other: &Self) -> bool {
        self.members == other.members && self.iter().all(|index| other.contains(index))
    }

    /// SHA-256 over the set.
    pub fn digest(&self) -> Digest {
        self.write(Writer::new("testudo/members/v1")).digest()
    }

    pub(super) fn write(&self, mut writer: Writer) -> Writer {
        writer = writer.u32(self.members as u32).fixed(&self.bits);
        writer
    }

    /// Refuses another group's size and bits beyond it: one set has one encoding.
    pub(super) fn read(reader: &mut Reader<'_>, field: &'static str, members: usize) -> Result<Self, Malformed> {
        if reader.u32(field)? as usize != members {
            return Err(Malformed::value(field, "is out of range"));
        }
        let mut bits = vec![0; members.div_ceil(8)];
        for byte in &mut bits {
            *byte = reader.u8(field)?;
        }
        let spare = members % 8;
        if spare > 0 && bits.last().is_some_and(|last| last >> spare != 0) {
            return Err(Malformed::value(field, "is out of range"));
        }
        Ok(Self { members, bits })
    }
}

impl fmt::Debug for Bitmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.count(), self.members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_one_encoding() {
        let map = Bitmap::of(11, |index| index % 3 == 0);
        assert_eq!((map.count(), map.iter().collect::<Vec<_>>()), (4, vec![0, 3, 6, 9]));
        let bytes = map.write(Writer::new("test")).finish();
        let read = |bytes: &[u8], members| {
            let mut reader = Reader::new(bytes);
            reader.label("test")?;
            Bitmap::read(&mut reader, "u2", members)
        };
        let start = bytes.len() - 2;
        for (at, bit) in [(start + 1, 7), (start + 1, 3)] {
            let mut bad = bytes.clone();
            bad[at] |= 1 << bit;
            assert!(read(&bad, 11).is_err());
        }
        assert_eq!(read(&bytes, 11), Ok(map));
        assert!(read(&bytes, 12).is_err());
    }

    #[test]
    fn a_subset_is_of_the_same_group() {
        let all = Bitmap::of(5, |_| true);
        let some = Bitmap::of(5, |index| index > 2);
        assert!(some.is_within(&all) && !all.is_within(&some));
        assert!(!Bitmap::empty(4).is_within(&all));
    }
}
