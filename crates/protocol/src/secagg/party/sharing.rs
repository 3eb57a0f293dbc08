//! Shares handed out; who else shared is not known yet.

use super::{Abort, Advertised, Masking, Neighbour, Pair, Randomness, held::Held, roster::Group, secret};
use crate::secagg::{
    agreement::{self, Ends, Meeting, SecretKey},
    bitmap::Bitmap,
    group::Terms,
    identity::{Signature, SigningKey},
    message::{BOX_BYTES, Message, Shares},
    reply::Shared,
    seal::{self, Route},
    session::Session,
    shamir::{self, SHARE_BYTES, Share},
};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// After [`Step::ShareKeys`](crate::secagg::Step).
#[derive(Debug)]
pub struct Sharing {
    pub(super) session: Session,
    pub(super) terms: Terms,
    pub(super) index: u32,
    pub(super) key: SigningKey,
    pub(super) neighbours: Vec<Neighbour>,
    pub(super) mask_secret: SecretKey,
    pub(super) seed: Zeroizing<[u8; 32]>,
    pub(super) aes: bool,
    /// What this client has in common with each neighbour, for the boxes of both directions.
    meetings: BTreeMap<u32, Meeting>,
    own: Option<Pair>,
}

impl Sharing {
    pub(super) fn new(from: Advertised, group: Group, random: Randomness<'_>) -> Result<(Self, Message), Abort> {
        let Advertised { session, key, box_secret, mask_secret, entry, .. } = from;
        let Group { terms, index, neighbours } = group;
        let seed = secret(random);
        let holders: Vec<u32> = terms.holders(index as usize).into_iter().map(|holder| holder as u32).collect();
        let deal = |secret: &[u8; 32], random: Randomness<'_>| {
            shamir::share_at(secret, terms.threshold as u32, &holders, random)
                .map_err(|error| Abort::Roster { detail: error.to_string() })
        };
        let selves = deal(&seed, random)?;
        let keys = deal(&mask_secret.to_bytes(), random)?;
        let mut pairs: BTreeMap<u32, Pair> = holders.into_iter().zip(selves.into_iter().zip(keys)).collect();
        let own = pairs.remove(&index);
        let mut boxes = Vec::with_capacity(pairs.len());
        let mut meetings = BTreeMap::new();
        for neighbour in &neighbours {
            let Some(pair) = pairs.get(&neighbour.index) else { continue };
            let meeting = box_secret.meet(&neighbour.box_key).map_err(roster)?;
            boxes.push((neighbour.index, sealed(&meeting, &terms, index, neighbour, pair)?));
            meetings.insert(neighbour.index, meeting);
        }
        let commitment = agreement::seed_commitment(&seed, &terms.tau, index);
        let mut shares = Shares { commitment, boxes, signature: Signature([0; 64]) };
        shares.signature = key.sign(&shares.statement(&terms.tau, index));
        let aes = entry.aes;
        let this = Self { session, terms, index, key, neighbours, mask_secret, seed, aes, meetings, own };
        Ok((this, Message::Shares(shares)))
    }

    /// The members of the group.
    pub fn members(&self) -> usize {
        self.terms.members
    }

    /// The group's number.
    pub fn group(&self) -> u32 {
        self.terms.group
    }

    /// Fewest survivors the group can be unmasked with.
    pub fn threshold(&self) -> usize {
        self.terms.threshold
    }

    /// Checks who shared and opens the boxes. One that does not open is missed, not fatal: who of the two lied cannot be
    /// told.
    ///
    /// # Errors
    /// [`Abort`]: a wrong signature, a set of another group, without this client or below the threshold, or fewer than
    /// the threshold of valid shares.
    pub fn shared(self, shared: &Shared) -> Result<Masking, Abort> {
        let Shared { members, signature, boxes } = shared;
        let terms = &self.terms;
        if self.session.server.verify(&Shared::statement(&terms.tau, members), signature).is_err() {
            return Err(Abort::Signature { whose: "the server over the members that shared".into() });
        }
        if members.members() != terms.members {
            return Err(Abort::Members { detail: "the members of another group".into() });
        }
        if !members.contains(self.index as usize) {
            return Err(Abort::Members { detail: "this client shared, and is not among those that did".into() });
        }
        let threshold = terms.threshold;
        if !terms.is_enough(members, members) {
            return Err(Abort::Threshold { what: "members that shared", count: members.count(), threshold });
        }
        let mut held: BTreeMap<u32, Held> = self.own.map(|pair| (self.index, Held::new(pair))).into_iter().collect();
        for neighbour in self.neighbours.iter().filter(|neighbour| members.contains(neighbour.index as usize)) {
            let Ok(at) = boxes.binary_search_by_key(&neighbour.index, |(index, _)| *index) else { continue };
            let Some(meeting) = self.meetings.get(&neighbour.index) else { continue };
            let pair = opened(meeting, terms, self.index, neighbour, &boxes[at].1);
            held.extend(pair.map(|pair| (neighbour.index, Held::new(pair))));
        }
        if held.len() < threshold {
            return Err(Abort::Peers { what: "valid shares", count: held.len(), threshold });
        }
        let Self { session, terms, index, key, neighbours, mask_secret, seed, aes, .. } = self;
        let members: Bitmap = members.clone();
        Ok(Masking { session, terms, index, key, neighbours, mask_secret, seed, aes, shared: members, held })
    }
}

/// The box for one neighbour.
fn sealed(
    meeting: &Meeting,
    terms: &Terms,
    index: u32,
    to: &Neighbour,
    (self_share, key_share): &Pair,
) -> Result<[u8; BOX_BYTES], Abort> {
    let ends = Ends::Sending { ours: index, theirs: to.index };
    let key = meeting.key(&terms.tau, agreement::BOX, ends).map_err(roster)?;
    let mut content = Zeroizing::new([0; 2 * SHARE_BYTES]);
    content[..SHARE_BYTES].copy_from_slice(&*self_share.to_bytes());
    content[SHARE_BYTES..].copy_from_slice(&*key_share.to_bytes());
    let route = Route { session: terms.tau, sender: index, receiver: to.index };
    let sealed = seal::seal(key, &route, &*content);
    Ok(sealed.try_into().expect("the content's length and the overhead are fixed"))
}

/// The shares in a box; `None` if it does not open or holds no shares.
fn opened(meeting: &Meeting, terms: &Terms, index: u32, from: &Neighbour, sealed: &[u8]) -> Option<Pair> {
    let ends = Ends::Receiving { ours: index, theirs: from.index };
    let key = meeting.key(&terms.tau, agreement::BOX, ends).ok()?;
    let route = Route { session: terms.tau, sender: from.index, receiver: index };
    let content = seal::open(&key, &route, sealed).ok()?;
    let (first, second) = content.split_at_checked(SHARE_BYTES)?;
    Some((Share::from_bytes(first).ok()?, Share::from_bytes(second).ok()?))
}

fn roster(error: agreement::Refused) -> Abort {
    Abort::Roster { detail: error.to_string() }
}
