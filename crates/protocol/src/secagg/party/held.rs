//! Both shares of one neighbour, of which only one can ever leave.

use super::Pair;
use crate::secagg::shamir::Share;
use std::fmt;

/// What this client holds of one member. The value is consumed when one share leaves, and the other is zeroised with it:
/// "both shares of one member" has no representation after that.
pub(super) struct Held {
    self_share: Share,
    key_share: Share,
}

impl Held {
    pub(super) fn new((self_share, key_share): Pair) -> Self {
        Self { self_share, key_share }
    }

    /// The share of the self-mask for a survivor, of the masking key for a dropout.
    pub(super) fn reveal(self, survived: bool) -> Share {
        if survived { self.self_share } else { self.key_share }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held(…)")
    }
}
