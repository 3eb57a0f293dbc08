//! One client's place in one round.

use crate::v1;
use bytes::Bytes;
use testudo_protocol::{ClientId, Nonce, Reason, Reject, TaskName};

/// Names one client's place in one round; every call of the round carries it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// Which task.
    pub task: TaskName,
    /// Which round of it.
    pub round: u64,
    /// Who.
    pub client: ClientId,
    /// What the assignment gave this client for this round.
    pub nonce: Nonce,
}

impl Place {
    /// For the wire.
    pub fn to_wire(&self) -> v1::Place {
        v1::Place {
            task: self.task.to_string(),
            round: self.round,
            client: self.client.to_string(),
            nonce: Bytes::copy_from_slice(self.nonce.as_bytes()),
        }
    }

    /// Reads a place.
    ///
    /// # Errors
    /// [`Reject`] with [`Reason::Malformed`] if it is missing or one of its parts is not what it should be.
    pub fn from_wire(place: Option<v1::Place>) -> Result<Self, Reject> {
        let Some(place) = place else {
            return Err(Reject::new(Reason::Malformed, "field place is missing"));
        };
        Ok(Self {
            task: TaskName::new(place.task).map_err(|error| malformed(&error))?,
            round: place.round,
            client: ClientId::new(place.client).map_err(|error| malformed(&error))?,
            nonce: Nonce::try_from(place.nonce.as_ref()).map_err(|error| malformed(&error))?,
        })
    }
}

fn malformed(error: &dyn std::error::Error) -> Reject {
    Reject::new(Reason::Malformed, format!("field place: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_come_back_as_they_went(
            task in "[a-z0-9][a-z0-9._-]{0,62}", client in "[a-z0-9][a-z0-9._-]{0,62}",
            round in any::<u64>(), nonce in any::<[u8; 16]>(),
        ) {
            let place = Place {
                task: TaskName::new(task).unwrap(),
                round,
                client: ClientId::new(client).unwrap(),
                nonce: Nonce(nonce),
            };
            prop_assert_eq!(Place::from_wire(Some(place.to_wire())), Ok(place));
        }

        #[test]
        fn any_place_on_the_wire_is_read_or_refused(
            task in ".{0,70}", client in ".{0,70}", nonce in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let read = Place::from_wire(Some(v1::Place { task, round: 1, client, nonce: nonce.into() }));
            prop_assert!(read.is_ok() || read.is_err_and(|reject| reject.reason == Reason::Malformed));
        }
    }

    #[test]
    fn a_missing_place_and_a_short_nonce_are_malformed() {
        assert_eq!(Place::from_wire(None).unwrap_err().reason, Reason::Malformed);
        let wire = v1::Place { task: "t".into(), round: 1, client: "c".into(), nonce: vec![0; 15].into() };
        assert!(Place::from_wire(Some(wire)).unwrap_err().detail.contains("16 bytes"));
    }
}
