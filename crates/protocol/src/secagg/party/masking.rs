//! Ready to mask: who shared is known, the survivors are not.

use super::{Abort, Confirming, Neighbour, held::Held};
use crate::{
    Digest,
    secagg::{
        agreement::{Ends, SecretKey},
        bitmap::Bitmap,
        group::Terms,
        identity::SigningKey,
        masks::{pair_mask, self_mask},
        message::{Consistency, Input, Message},
        reply::Survivors,
        session::Session,
    },
};
use std::collections::BTreeMap;
use testudo_aggregate::{Mask, Sign};
use zeroize::Zeroizing;

/// After the members that shared are known: masks exist, and no input is decided.
#[derive(Debug)]
pub struct Masking {
    pub(super) session: Session,
    pub(super) terms: Terms,
    pub(super) index: u32,
    pub(super) key: SigningKey,
    pub(super) neighbours: Vec<Neighbour>,
    pub(super) mask_secret: SecretKey,
    pub(super) seed: Zeroizing<[u8; 32]>,
    pub(super) aes: bool,
    pub(super) shared: Bitmap,
    pub(super) held: BTreeMap<u32, Held>,
}

/// After [`Step::MaskedInput`](crate::secagg::Step): one input is decided.
#[derive(Debug)]
pub struct Sent {
    pub(super) session: Session,
    pub(super) terms: Terms,
    pub(super) index: u32,
    pub(super) key: SigningKey,
    pub(super) neighbours: Vec<Neighbour>,
    pub(super) shared: Bitmap,
    pub(super) held: BTreeMap<u32, Held>,
}

impl Masking {
    /// The masks of this client's input: its own, and one for every neighbour that shared.
    ///
    /// # Errors
    /// [`Abort::Roster`] if a neighbour's key leads to no secret.
    pub fn masks(&self) -> Result<Vec<Mask>, Abort> {
        let tau = &self.terms.tau;
        let mut masks = vec![self_mask(&self.seed, tau, self.index, self.aes, Sign::Add)];
        for neighbour in self.neighbours.iter().filter(|neighbour| self.shared.contains(neighbour.index as usize)) {
            let ends = Ends::Pair { ours: self.index, theirs: neighbour.index };
            let sign = if neighbour.index > self.index { Sign::Add } else { Sign::Subtract };
            let aes = self.aes && neighbour.aes;
            let mask = pair_mask(&self.mask_secret, &neighbour.mask_key, tau, ends, aes, sign);
            masks.push(mask.map_err(|error| Abort::Roster { detail: error.to_string() })?);
        }
        Ok(masks)
    }

    /// The members that shared, and with whom this client's input is summed if they all survive.
    pub fn shared(&self) -> &Bitmap {
        &self.shared
    }

    /// Decides on the input with this digest, which the server already holds. The masks cannot be made again.
    pub fn input(self, upload: Digest) -> (Sent, Message) {
        let Self { session, terms, index, key, neighbours, shared, held, .. } = self;
        let signature = key.sign(&Input::statement(&terms.tau, index, &shared, &upload));
        let sent = Sent { session, terms, index, key, neighbours, shared, held };
        (sent, Message::Input(Input { upload, signature }))
    }
}

impl Sent {
    /// Checks the survivors and signs them.
    ///
    /// # Errors
    /// [`Abort`]: a wrong signature, a set without this client, with a member that did not share, or below the threshold.
    pub fn survivors(self, survivors: &Survivors) -> Result<(Confirming, Message), Abort> {
        let Survivors { members, signature } = survivors;
        let Self { session, terms, index, key, neighbours, shared, held } = self;
        if session.server.verify(&Survivors::statement(&terms.tau, &shared, members), signature).is_err() {
            return Err(Abort::Signature { whose: "the server over the survivors".into() });
        }
        if !members.contains(index as usize) {
            return Err(Abort::Members { detail: "this client's input is in, and it is no survivor".into() });
        }
        if !members.is_within(&shared) {
            return Err(Abort::Members { detail: "a survivor that did not share".into() });
        }
        if !terms.is_enough(&shared, members) {
            let threshold = terms.threshold;
            return Err(Abort::Threshold { what: "survivors", count: members.count(), threshold });
        }
        let signature = key.sign(&Consistency::statement(&terms.tau, index, &shared, members));
        let survivors = members.clone();
        let confirming = Confirming { session, terms, index, key, neighbours, shared, survivors, held };
        Ok((confirming, Message::Consistency(Consistency { signature })))
    }
}
