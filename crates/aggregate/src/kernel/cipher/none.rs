//! Stands in for the wide key streams where there is no such machine.

use super::{Line, Use};

/// Cannot be made.
pub(super) enum AesKeys {}

/// Cannot be made.
pub(super) enum ChaChaKey {}

impl AesKeys {
    pub(super) fn new(_key: &[u8; 32]) -> Option<Self> {
        None
    }

    pub(super) fn apply(&self, _first_line: u64, _lines: &mut [Line], _how: Use) {
        match *self {}
    }
}

impl ChaChaKey {
    pub(super) fn new(_key: &[u8; 32]) -> Option<Self> {
        None
    }

    pub(super) fn apply(&self, _first_line: u64, _lines: &mut [Line], _how: Use) {
        match *self {}
    }
}

/// Has no caller that could be reached.
pub(super) fn lines(_words: &mut [u32]) -> &mut [Line] {
    &mut []
}
