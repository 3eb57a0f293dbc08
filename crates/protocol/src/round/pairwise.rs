//! The masked phases of a round: what the server knows of keys, groups, shares and survivors.
//!
//! Everything here is a function of the inputs it was given: replaying them after a restart gives the same groups, the
//! same signed sets and the same answers.

mod group;

use super::Phase;
use crate::{
    ClientId, Digest, Reason, Reject,
    secagg::{
        Advertise, Announcement, Draw, Message, Opening, PublicKey, Reply, SigningKey, Step, Terms, VerifyingKey,
        assignment, merkle,
    },
};
use group::Group;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// What a masked round is opened with besides its cohort and deadline.
#[derive(Clone)]
pub struct PairwiseParams {
    /// What was announced to every client.
    pub announcement: Announcement,
    /// The server's key, whose public half the announcement names.
    pub key: SigningKey,
    /// The server's part of the randomness that assigns groups.
    pub randomness: [u8; 32],
    /// Fewest groups for a release.
    pub least_groups: usize,
}

/// The masked side of a round.
pub(super) struct Pairwise {
    params: PairwiseParams,
    session: Digest,
    entries: BTreeMap<ClientId, Advertise>,
    taken: BTreeSet<[u8; 32]>,
    drawn: Option<Drawn>,
}

/// The groups, once keys are in.
struct Drawn {
    draw: Draw,
    /// Over all entries, sorted by client.
    tree: merkle::Tree,
    groups: Vec<Group>,
    /// Each client's group and index in it.
    places: BTreeMap<ClientId, (usize, usize)>,
}

/// Where a client's group stands, for the round's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRecord {
    /// Its members, in the group's order.
    pub members: Vec<ClientId>,
    /// Fewest survivors.
    pub threshold: usize,
    /// Members whose masked input is in the sum.
    pub survivors: Vec<ClientId>,
    /// Why it gives no row, if so.
    pub lost: Option<String>,
}

impl Pairwise {
    pub(super) fn new(params: PairwiseParams) -> Self {
        let session = params.announcement.session.digest();
        Self { params, session, entries: BTreeMap::new(), taken: BTreeSet::new(), drawn: None }
    }

    pub(super) fn announcement(&self) -> &Announcement {
        &self.params.announcement
    }

    pub(super) fn step_ms(&self) -> u64 {
        self.params.announcement.session.step_ms
    }

    /// Fewest clients that make a group.
    pub(super) fn group_size(&self) -> usize {
        self.params.announcement.session.group_size as usize
    }

    pub(super) fn advertised(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn has_advertised(&self, client: &ClientId) -> bool {
        self.entries.contains_key(client)
    }

    /// A client left before the groups are drawn.
    pub(super) fn forget(&mut self, client: &ClientId) {
        self.entries.remove(client);
    }

    /// Takes a client's message in the phase it belongs to. `upload` is the digest of what the client has uploaded.
    pub(super) fn take(
        &mut self,
        phase: Phase,
        client: &ClientId,
        message: Message,
        upload: Option<Digest>,
    ) -> Result<(), Reject> {
        let step = message.step();
        if let Some(known) = self.known(client, step) {
            if known == message {
                return Ok(());
            }
            let detail = "another message of this client was taken in this step; one counts";
            return Err(Reject::new(Reason::Duplicate, detail));
        }
        let order = phase_of(step).cmp(&phase);
        if order.is_gt() {
            return Err(Reject::new(Reason::WrongState, "the round has not come to this step"));
        }
        if order.is_lt() {
            return Err(Reject::new(Reason::Late, "the round has left this step"));
        }
        match message {
            Message::Advertise(entry) => self.advertise(client, entry),
            message => {
                let (group, index) = self.place(client)?;
                group.take(index, message, upload)
            }
        }
    }

    /// The answer to a client's message of a step; `None` while the step lasts.
    pub(super) fn reply(&self, phase: Phase, client: &ClientId, step: Step) -> Result<Option<Reply>, Reject> {
        if !self.has_said(client, step) {
            return Err(Reject::new(Reason::WrongState, "no message of this client in this step"));
        }
        if phase == Phase::Abandoned {
            return Err(Reject::new(Reason::Late, "the round was given up"));
        }
        if step != Step::Unmask && phase <= phase_of(step) {
            return Ok(None);
        }
        let Some(drawn) = &self.drawn else { return Ok(None) };
        let Some(&(number, index)) = drawn.places.get(client) else {
            return Err(Reject::new(Reason::Late, "the groups were drawn without this client"));
        };
        let group = &drawn.groups[number];
        if step == Step::AdvertiseKeys {
            return Ok(Some(Reply::Roster(Box::new(group.roster(&drawn.draw, &drawn.tree, index)))));
        }
        group.reply(step, index).map(Some)
    }

    /// Draws the groups from everybody's randomness.
    pub(super) fn draw(&mut self) -> Result<(), String> {
        let session = &self.params.announcement.session;
        let entries: Vec<&Advertise> = self.entries.values().collect();
        let tree = merkle::Tree::new(entries.iter().map(|entry| entry.leaf()));
        let draw = Draw { advertised: entries.len() as u32, root: tree.root(), randomness: self.params.randomness };
        let drawn = assignment::assign(&draw.seed(&self.session), draw.advertised, session.group_size)
            .map_err(|error| error.to_string())?;
        let (mut groups, mut places) = (Vec::with_capacity(drawn.len()), BTreeMap::new());
        for (number, positions) in drawn.into_iter().enumerate() {
            let members: Vec<Advertise> =
                positions.iter().map(|&position| entries[position as usize].clone()).collect();
            let roster = merkle::Tree::new(members.iter().map(Advertise::leaf));
            let terms = Terms::new(session, &self.session, &draw, number as u32, members.len(), &roster.root())
                .map_err(|error| error.to_string())?;
            for (index, member) in members.iter().enumerate() {
                places.insert(member.client().clone(), (number, index));
            }
            groups.push(Group::new(terms, roster, positions, members));
        }
        self.drawn = Some(Drawn { draw, tree, groups, places });
        Ok(())
    }

    /// Groups of which nothing is lost yet.
    pub(super) fn living(&self) -> usize {
        self.groups().iter().filter(|group| group.lost().is_none()).count()
    }

    pub(super) fn least_groups(&self) -> usize {
        self.params.least_groups
    }

    /// Whether a client that is still there is waited for in this phase.
    pub(super) fn awaits(&self, phase: Phase, client: &ClientId) -> bool {
        if phase == Phase::AdvertiseKeys {
            return !self.entries.contains_key(client);
        }
        let Some((number, index)) = self.drawn.as_ref().and_then(|drawn| drawn.places.get(client)).copied() else {
            return false;
        };
        self.groups()[number].awaits(phase, index)
    }

    /// Whether a client may upload: it shared, and its group lives.
    pub(super) fn may_upload(&self, client: &ClientId) -> Result<(), Reject> {
        let Some((number, index)) = self.drawn.as_ref().and_then(|drawn| drawn.places.get(client)).copied() else {
            return Err(Reject::new(Reason::Late, "the groups were drawn without this client"));
        };
        self.groups()[number].may_upload(index)
    }

    /// Ends a phase: fixes and signs the sets of members; groups below their threshold are lost.
    pub(super) fn end(&mut self, phase: Phase) {
        let key = self.params.key.clone();
        if let Some(drawn) = &mut self.drawn {
            drawn.groups.iter_mut().for_each(|group| group.end(phase, &key));
        }
    }

    /// What unmasks each group that can be, by the group's number.
    pub(super) fn openings(&self) -> Vec<Opening> {
        self.groups().iter().filter(|group| group.lost().is_none()).map(Group::opening).collect()
    }

    /// Every group, for the round's record.
    pub(super) fn records(&self) -> Vec<GroupRecord> {
        self.groups().iter().map(Group::record).collect()
    }

    pub(super) fn group_of(&self, client: &ClientId) -> Option<u32> {
        let drawn = self.drawn.as_ref()?;
        drawn.places.get(client).map(|&(number, _)| number as u32)
    }

    /// Why nothing of this client counts, if so.
    pub(super) fn lost(&self, client: &ClientId) -> Option<String> {
        let drawn = self.drawn.as_ref()?;
        let Some(&(number, index)) = drawn.places.get(client) else { return Some("it is in no group".into()) };
        drawn.groups[number].missed(index)
    }

    fn advertise(&mut self, client: &ClientId, entry: Advertise) -> Result<(), Reject> {
        let session = &self.params.announcement.session;
        if entry.client() != client {
            return Err(Reject::new(Reason::Identity, "the keys are another client's"));
        }
        if session.has_authority() && entry.certificate.verify(&VerifyingKey(session.authority)).is_err() {
            let detail = "the certificate is not the enrolment authority's";
            return Err(Reject::new(Reason::Identity, detail));
        }
        // One client with such a key would make all its neighbours leave, as if the server had done something.
        if ![entry.box_key, entry.mask_key].map(PublicKey).iter().all(PublicKey::is_usable) {
            return Err(Reject::new(Reason::Malformed, "an X25519 key is not canonical or of small order"));
        }
        if !entry.is_signed(&self.session) {
            return Err(Reject::new(Reason::Signature, "over the advertised keys"));
        }
        let keys = [entry.certificate.key.0, entry.box_key, entry.mask_key];
        if keys.iter().any(|key| self.taken.contains(key)) || keys[1] == keys[2] {
            return Err(Reject::new(Reason::Duplicate, "one of the keys is another's in this round"));
        }
        self.taken.extend(keys);
        self.entries.insert(client.clone(), entry);
        Ok(())
    }

    fn place(&mut self, client: &ClientId) -> Result<(&mut Group, usize), Reject> {
        let late = || Reject::new(Reason::Late, "the groups were drawn without this client");
        let drawn = self.drawn.as_mut().ok_or_else(late)?;
        let (number, index) = *drawn.places.get(client).ok_or_else(late)?;
        Ok((&mut drawn.groups[number], index))
    }

    pub(super) fn known(&self, client: &ClientId, step: Step) -> Option<Message> {
        if step == Step::AdvertiseKeys {
            return self.entries.get(client).cloned().map(Message::Advertise);
        }
        let drawn = self.drawn.as_ref()?;
        let &(number, index) = drawn.places.get(client)?;
        drawn.groups[number].known(step, index)
    }

    fn has_said(&self, client: &ClientId, step: Step) -> bool {
        if step == Step::AdvertiseKeys {
            return self.entries.contains_key(client);
        }
        let place = self.drawn.as_ref().and_then(|drawn| Some((drawn, drawn.places.get(client)?)));
        place.is_some_and(|(drawn, &(number, index))| drawn.groups[number].has_said(step, index))
    }

    fn groups(&self) -> &[Group] {
        self.drawn.as_ref().map_or(&[], |drawn| &drawn.groups)
    }
}

/// The phase in which a step's messages are taken.
fn phase_of(step: Step) -> Phase {
    match step {
        Step::AdvertiseKeys => Phase::AdvertiseKeys,
        Step::ShareKeys => Phase::ShareKeys,
        Step::MaskedInput => Phase::Input,
        Step::Consistency => Phase::Consistency,
        Step::Unmask => Phase::Unmask,
    }
}

impl fmt::Debug for PairwiseParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PairwiseParams").field("announcement", &self.announcement).finish_non_exhaustive()
    }
}

impl fmt::Debug for Pairwise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pairwise({} advertised, {} groups)", self.entries.len(), self.groups().len())
    }
}
