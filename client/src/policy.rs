//! What the device insists on before it uploads.

use crate::Error;
use testudo_proto::{Assignment, Masking};
use testudo_protocol::limits;

/// What the device insists on, whatever the server asks for. A round that is against it is left and
/// [`Error::Policy`] returned: the device's owner decides, not the server.
///
/// The default takes any clear-mode round with a model of at most 4 GiB, for ever. This version sends updates in the
/// clear only; a round that asks for masks is refused rather than served without them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    masking: bool,
    group: u32,
    model_bytes: u64,
    rounds: Option<u64>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { masking: false, group: 1, model_bytes: limits::MODEL_BYTES, rounds: None }
    }
}

impl Policy {
    /// Never send an update that the server could see on its own.
    #[must_use]
    pub fn require_masking(mut self) -> Self {
        self.masking = true;
        self
    }

    /// Never send an update that is summed with fewer than `clients - 1` others before anything sees it. Above 1
    /// this needs masking as well: an unmasked update is seen whatever its group.
    #[must_use]
    pub fn min_group(mut self, clients: u32) -> Self {
        self.group = clients;
        self
    }

    /// Never download a model file of more than this many bytes.
    #[must_use]
    pub fn max_model_bytes(mut self, bytes: u64) -> Self {
        self.model_bytes = bytes;
        self
    }

    /// Take part in at most this many rounds of a session (those with a receipt); then
    /// [`Session::next_round`](crate::Session::next_round) gives `None`.
    #[must_use]
    pub fn max_rounds(mut self, rounds: u64) -> Self {
        self.rounds = Some(rounds);
        self
    }

    /// Whether a session with this many receipts has done its part.
    pub(crate) fn is_done(&self, rounds: u64) -> bool {
        self.rounds.is_some_and(|most| rounds >= most)
    }

    /// Whether an assignment is acceptable.
    pub(crate) fn check(&self, assignment: &Assignment) -> Result<(), Error> {
        let round = assignment.round;
        let masked = match assignment.masking {
            Masking::None => false,
            Masking::Pairwise => true,
            _ => return Err(Error::Policy(format!("round {round} asks for a masking this version does not know"))),
        };
        if !masked && (self.masking || self.group > 1) {
            return Err(Error::Policy(format!(
                "round {round} would show this client's update to the server, but the policy asks for masking{}",
                if self.group > 1 { format!(" in groups of at least {}", self.group) } else { String::new() }
            )));
        }
        if assignment.group_size < self.group {
            return Err(Error::Policy(format!(
                "round {round} sums groups of {}, but the policy asks for at least {}",
                assignment.group_size, self.group
            )));
        }
        if assignment.model_bytes > self.model_bytes {
            return Err(Error::Policy(format!(
                "the model of round {round} is {} bytes, but the policy allows {}; raise max_model_bytes if the device \
                 can hold it",
                assignment.model_bytes, self.model_bytes
            )));
        }
        if masked {
            return Err(Error::Policy(format!(
                "round {round} asks for pairwise masks, which this version cannot make; it will not send in the clear \
                 instead"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use testudo_protocol::{Digest, Layout, Nonce, TaskName, Tensor};

    fn assignment(masking: Masking, group_size: u32) -> Assignment {
        Assignment {
            task: TaskName::new("task").unwrap(),
            round: 3,
            nonce: Nonce([0; 16]),
            model_digest: Digest([0; 32]),
            model_bytes: 100,
            layout: Layout::new(vec![Tensor { name: "w".into(), shape: vec![1] }]).unwrap(),
            time_left: Duration::from_secs(1),
            chunk_bytes: 64,
            max_examples: 10,
            rule: "mean".into(),
            masking,
            group_size,
            encodings: vec![testudo_protocol::Encoding::F32],
        }
    }

    #[test]
    fn each_demand_is_held_against_the_assignment() {
        let clear = assignment(Masking::None, 1);
        let masked = assignment(Masking::Pairwise, 8);
        assert!(Policy::default().check(&clear).is_ok());
        for (policy, assignment, part) in [
            (Policy::default().require_masking(), &clear, "asks for masking"),
            (Policy::default().min_group(2), &clear, "groups of at least 2"),
            (Policy::default().min_group(16), &masked, "groups of 8"),
            (Policy::default().max_model_bytes(99), &clear, "max_model_bytes"),
            (Policy::default(), &masked, "not send in the clear"),
            (Policy::default(), &assignment(Masking::Unknown, 1), "does not know"),
        ] {
            let error = policy.check(assignment).unwrap_err();
            assert!(matches!(error, Error::Policy(_)) && error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn a_session_is_done_after_its_rounds() {
        assert!(!Policy::default().is_done(u64::MAX));
        assert!(!Policy::default().max_rounds(2).is_done(1));
        assert!(Policy::default().max_rounds(2).is_done(2));
    }
}
