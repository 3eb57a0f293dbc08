//! Keys advertised; the group is not known yet.

use super::{Abort, Answers, Demands, Randomness, Sharing, roster, secret};
use crate::secagg::identity::Signature;
use crate::{
    ClientId, Digest,
    secagg::{
        agreement::SecretKey,
        identity::{Certificate, SigningKey},
        message::{Advertise, Message},
        reply::Roster,
        session::{Announcement, Session},
    },
};

/// Who a client is: its long-lived key, and who vouches for it.
#[derive(Debug)]
pub struct Credentials {
    /// Its name and public key, signed by the enrolment authority. Without an authority the signature is zero.
    pub certificate: Certificate,
    /// Signs everything the client says in a round.
    pub key: SigningKey,
}

/// After [`Step::AdvertiseKeys`](crate::secagg::Step).
#[derive(Debug)]
pub struct Advertised {
    pub(super) session: Session,
    pub(super) digest: Digest,
    pub(super) key: SigningKey,
    pub(super) box_secret: SecretKey,
    pub(super) mask_secret: SecretKey,
    pub(super) entry: Advertise,
}

impl Credentials {
    /// Credentials that nobody but the server vouches for.
    pub fn unvouched(client: ClientId, key: SigningKey) -> Self {
        Self { certificate: Certificate { client, key: key.verifying_key(), signature: Signature([0; 64]) }, key }
    }
}

impl Advertised {
    /// Fresh keys for a session, unless the device has answered in this attempt at the round: an input that is in two
    /// sums is known to the difference of the others. `aes` says whether AES-256 is fast here.
    ///
    /// # Errors
    /// [`Abort::Answered`], or [`Abort::Record`] if the device's memory cannot be read.
    pub fn new(
        announcement: &Announcement,
        credentials: &Credentials,
        answers: &dyn Answers,
        aes: bool,
        random: Randomness<'_>,
    ) -> Result<(Self, Message), Abort> {
        let session = announcement.session.clone();
        if let Some(answered) = answers.earlier(&session).map_err(|detail| Abort::Record { detail })? {
            return Err(Abort::Answered { answered: Box::new(answered) });
        }
        let digest = session.digest();
        let box_secret = SecretKey::from_bytes(&secret(random));
        let mask_secret = SecretKey::from_bytes(&secret(random));
        let mut nonce = [0; 32];
        random(&mut nonce);
        let entry = Advertise {
            certificate: credentials.certificate.clone(),
            box_key: box_secret.public().0,
            mask_key: mask_secret.public().0,
            nonce,
            aes,
            signature: Signature([0; 64]),
        };
        let entry = entry.sign(&digest, &credentials.key);
        let message = Message::Advertise(entry.clone());
        Ok((Self { session, digest, key: credentials.key.clone(), box_secret, mask_secret, entry }, message))
    }

    /// Checks the roster (own entry and place, signatures, certificates, distinct identities, sizes), draws this
    /// client's secrets and seals their shares.
    ///
    /// # Errors
    /// [`Abort`] if anything is not as an honest server would have it, or the group is not what the device demands.
    pub fn group(
        self,
        roster: &Roster,
        demands: &Demands,
        random: Randomness<'_>,
    ) -> Result<(Sharing, Message), Abort> {
        let group = roster::check(&self, roster, demands)?;
        Sharing::new(self, group, random)
    }
}
