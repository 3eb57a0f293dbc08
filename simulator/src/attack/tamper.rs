//! Changes to a client's messages: what a protocol attack does.

use serde::{Deserialize, Serialize};

/// A change to the client's messages, applied after its update is complete. [`Tamper::apply`] carries out what concerns
/// the update itself; the driver carries out the rest, in process as far as its messages go, over the network in full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum Tamper {
    /// Messages as an honest client sends them.
    #[default]
    None,
    /// The update has this many coordinates more (or, negative, fewer) than the model.
    WrongShape {
        /// Difference in coordinates.
        coordinates: i32,
    },
    /// Sends nothing from this step on.
    Dropout {
        /// The first message that is not sent.
        step: Step,
    },
    /// Sends an upload that was sent before.
    Replay {
        /// Which.
        of: Replayed,
    },
    /// Hands out a share of its secrets, or gives one back, that is not the one it was dealt (masked rounds).
    WrongShare,
    /// Sends its update this much after the round's deadline.
    Late {
        /// Milliseconds.
        by_ms: u64,
    },
    /// Announces and sends this many times the bytes of the update.
    Oversize {
        /// Factor, at least 2.
        factor: u32,
    },
    /// Claims to have trained on this many examples.
    Examples {
        /// The claim.
        claimed: u64,
    },
}

/// The client's messages of a round, in order; a round in clear knows `Input` alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Offers its keys.
    AdvertiseKeys,
    /// Hands out shares of its secrets.
    ShareKeys,
    /// Uploads its update.
    #[default]
    Input,
    /// Signs the set of survivors.
    Consistency,
    /// Gives back its shares.
    Unmask,
}

/// Which upload is sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replayed {
    /// The client's own upload of the round before.
    #[default]
    Own,
    /// Another client's upload of this round.
    Other,
    /// Its own of this round, a second time with another content.
    Twice,
}

impl Tamper {
    /// Most coordinates a wrong shape may add.
    pub const MOST_COORDINATES: i32 = 1 << 20;

    /// Applies what concerns the update itself; drivers handle the rest.
    pub fn apply(self, update: &mut Vec<f32>) {
        let Self::WrongShape { coordinates } = self else { return };
        let difference = coordinates.unsigned_abs().min(Self::MOST_COORDINATES.unsigned_abs()) as usize;
        let length = if coordinates < 0 { update.len().saturating_sub(difference) } else { update.len() + difference };
        update.resize(length, 0.0);
    }

    /// Whether a round of this kind knows the act at all: shares exist in masked rounds only.
    pub fn concerns_masked_rounds_only(self) -> bool {
        match self {
            Self::WrongShare => true,
            Self::Dropout { step } => step != Step::Input,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_shape_adds_or_removes_coordinates_within_a_bound() {
        let shaped = |coordinates| {
            let mut update = vec![1.0; 5];
            Tamper::WrongShape { coordinates }.apply(&mut update);
            update.len()
        };
        assert_eq!((shaped(-1), shaped(3), shaped(-9), shaped(i32::MIN)), (4, 8, 0, 0));
        assert_eq!(shaped(i32::MAX), 5 + (1 << 20));
    }

    #[test]
    fn acts_on_messages_leave_the_update_alone() {
        for tamper in [Tamper::None, Tamper::WrongShare, Tamper::Late { by_ms: 1 }, Tamper::Oversize { factor: 2 }] {
            let mut update = vec![1.0; 5];
            tamper.apply(&mut update);
            assert_eq!(update, [1.0; 5]);
        }
    }

    #[test]
    fn only_acts_on_keys_and_shares_need_a_masked_round() {
        assert!(Tamper::WrongShare.concerns_masked_rounds_only());
        assert!(Tamper::Dropout { step: Step::Unmask }.concerns_masked_rounds_only());
        assert!(!Tamper::Dropout { step: Step::Input }.concerns_masked_rounds_only());
        assert!(!Tamper::Replay { of: Replayed::Own }.concerns_masked_rounds_only());
    }
}
