//! One group on the server's side.

use super::GroupRecord;
use crate::{
    Digest, Phase, Reason, Reject,
    secagg::{
        Advertise, Bitmap, Confirmed, Consistency, Draw, Input, Member, Message, Opening, OpeningMember, PublicKey,
        Reply, Roster, Shared, Shares, Signature, SigningKey, Step, Survivors, Terms, Unmask, merkle,
    },
};
use std::collections::BTreeMap;

/// One group's members and what they sent.
pub(super) struct Group {
    terms: Terms,
    /// Over the entries, in the group's order.
    tree: merkle::Tree,
    /// Each member's position among all clients that advertised.
    positions: Vec<u32>,
    members: Vec<Advertise>,
    shares: BTreeMap<usize, Shares>,
    inputs: BTreeMap<usize, Input>,
    consistency: BTreeMap<usize, Consistency>,
    answers: BTreeMap<usize, Unmask>,
    shared: Option<(Bitmap, Signature)>,
    survivors: Option<Survivors>,
    lost: Option<String>,
}

impl Group {
    pub(super) fn new(terms: Terms, tree: merkle::Tree, positions: Vec<u32>, members: Vec<Advertise>) -> Self {
        Self {
            terms,
            tree,
            positions,
            members,
            shares: BTreeMap::new(),
            inputs: BTreeMap::new(),
            consistency: BTreeMap::new(),
            answers: BTreeMap::new(),
            shared: None,
            survivors: None,
            lost: None,
        }
    }

    /// Takes a message of the current step from a member that sent none in it yet.
    pub(super) fn take(&mut self, index: usize, message: Message, upload: Option<Digest>) -> Result<(), Reject> {
        self.alive()?;
        let place = index as u32;
        let signer = &self.members[index].certificate.key;
        let signed = |good: bool, over: &str| if good { Ok(()) } else { Err(Reject::new(Reason::Signature, over)) };
        let tau = &self.terms.tau;
        match message {
            Message::Shares(shares) => {
                let statement = shares.statement(tau, place);
                signed(signer.verify(&statement, &shares.signature).is_ok(), "over the shares")?;
                let neighbours = self.terms.neighbours(index);
                if shares.boxes.iter().map(|(to, _)| *to as usize).ne(neighbours) {
                    return Err(Reject::new(Reason::Malformed, "the boxes are not one for each neighbour"));
                }
                self.shares.insert(index, shares);
            }
            Message::Input(input) => {
                let shared = self.in_set(index, self.shared.as_ref().map(|(shared, _)| shared))?;
                let statement = Input::statement(tau, place, shared, &input.upload);
                signed(signer.verify(&statement, &input.signature).is_ok(), "over the masked input")?;
                if upload != Some(input.upload) {
                    let detail = "the server holds no upload of this client with that digest";
                    return Err(Reject::new(Reason::DigestMismatch, detail));
                }
                self.inputs.insert(index, input);
            }
            Message::Consistency(consistency) => {
                let (shared, survivors) = self.sets(index)?;
                let statement = Consistency::statement(tau, place, shared, survivors);
                signed(signer.verify(&statement, &consistency.signature).is_ok(), "over the survivors")?;
                self.consistency.insert(index, consistency);
            }
            Message::Unmask(unmask) => {
                let (shared, survivors) = self.sets(index)?;
                let statement = unmask.statement(tau, place, survivors);
                signed(signer.verify(&statement, &unmask.signature).is_ok(), "over the answer")?;
                let held = |member: u32| {
                    let member = member as usize;
                    shared.contains(member) && self.terms.holders(member).binary_search(&index).is_ok()
                };
                if !unmask.shares.iter().all(|(member, _)| held(*member)) {
                    return Err(Reject::new(Reason::Malformed, "a share of a member that never shared with this one"));
                }
                self.answers.insert(index, unmask);
            }
            Message::Advertise(_) => return Err(Reject::new(Reason::Late, "the groups are drawn")),
        }
        Ok(())
    }

    pub(super) fn known(&self, step: Step, index: usize) -> Option<Message> {
        match step {
            Step::AdvertiseKeys => None,
            Step::ShareKeys => self.shares.get(&index).cloned().map(Message::Shares),
            Step::MaskedInput => self.inputs.get(&index).cloned().map(Message::Input),
            Step::Consistency => self.consistency.get(&index).cloned().map(Message::Consistency),
            Step::Unmask => self.answers.get(&index).cloned().map(Message::Unmask),
        }
    }

    pub(super) fn has_said(&self, step: Step, index: usize) -> bool {
        match step {
            Step::AdvertiseKeys => true,
            Step::ShareKeys => self.shares.contains_key(&index),
            Step::MaskedInput => self.inputs.contains_key(&index),
            Step::Consistency => self.consistency.contains_key(&index),
            Step::Unmask => self.answers.contains_key(&index),
        }
    }

    /// The answer to a step that has ended.
    pub(super) fn reply(&self, step: Step, index: usize) -> Result<Reply, Reject> {
        if step == Step::Unmask {
            return Ok(Reply::Done);
        }
        self.alive()?;
        match step {
            Step::ShareKeys => {
                let Some((members, signature)) = &self.shared else { return Err(early()) };
                let boxes = self.boxes_for(index, members);
                Ok(Reply::Shared(Shared { members: members.clone(), signature: *signature, boxes }))
            }
            Step::MaskedInput => self.survivors.clone().map(Reply::Survivors).ok_or_else(early),
            Step::Consistency => {
                let signature = |(member, message): (&usize, &Consistency)| (*member as u32, message.signature);
                let neighbours = self.terms.neighbours(index);
                let known = self.consistency.iter().filter(|(member, _)| neighbours.binary_search(member).is_ok());
                Ok(Reply::Confirmed(Confirmed { signatures: known.map(signature).collect() }))
            }
            Step::AdvertiseKeys | Step::Unmask => Err(early()),
        }
    }

    pub(super) fn roster(&self, draw: &Draw, tree: &merkle::Tree, index: usize) -> Roster {
        let mut shown = self.terms.neighbours(index);
        shown.push(index);
        shown.sort_unstable();
        let member = |index: usize| Member {
            index: index as u32,
            position: self.positions[index],
            entry: self.members[index].clone(),
            path: tree.path(self.positions[index]).unwrap_or_default(),
            group_path: match self.terms.complete {
                true => Vec::new(),
                false => self.tree.path(index as u32).unwrap_or_default(),
            },
        };
        Roster {
            randomness: draw.randomness,
            advertised: draw.advertised,
            root: draw.root,
            group: self.terms.group,
            group_root: self.tree.root(),
            members: shown.into_iter().map(member).collect(),
        }
    }

    /// Whether a member that is still there is waited for.
    pub(super) fn awaits(&self, phase: Phase, index: usize) -> bool {
        if self.lost.is_some() {
            return false;
        }
        let shared = || self.shared.as_ref().is_some_and(|(shared, _)| shared.contains(index));
        let survived = || self.survivors.as_ref().is_some_and(|set| set.members.contains(index));
        match phase {
            Phase::ShareKeys => !self.shares.contains_key(&index),
            Phase::Input => shared() && !self.inputs.contains_key(&index),
            Phase::Consistency => survived() && !self.consistency.contains_key(&index),
            Phase::Unmask => survived() && !self.answers.contains_key(&index),
            _ => false,
        }
    }

    pub(super) fn may_upload(&self, index: usize) -> Result<(), Reject> {
        self.alive()?;
        self.in_set(index, self.shared.as_ref().map(|(shared, _)| shared)).map(|_| ())
    }

    /// Fixes what a phase decides.
    pub(super) fn end(&mut self, phase: Phase, key: &SigningKey) {
        if self.lost.is_some() {
            return;
        }
        let count = self.members.len();
        let threshold = self.terms.threshold;
        match phase {
            Phase::ShareKeys => {
                let shared = Bitmap::of(count, |index| self.shares.contains_key(&index));
                if !self.terms.is_enough(&shared, &shared) {
                    self.lose(format!("{} of {count} members shared, fewer than {threshold}", shared.count()));
                    return;
                }
                let signature = key.sign(&Shared::statement(&self.terms.tau, &shared));
                self.shared = Some((shared, signature));
            }
            Phase::Input => {
                let Some((shared, _)) = &self.shared else { return };
                let survivors = Bitmap::of(count, |index| self.inputs.contains_key(&index));
                if !self.terms.is_enough(shared, &survivors) {
                    self.lose(format!("{} of {count} members survived, fewer than {threshold}", survivors.count()));
                    return;
                }
                self.survivors = Some(Survivors::sign(&self.terms.tau, shared, survivors, key));
            }
            Phase::Consistency => {
                let signed = Bitmap::of(count, |index| self.consistency.contains_key(&index));
                // Who sees too few signatures of neighbours leaves; a secret that then has too few holders is lost.
                let convinced = |index: usize| signed.contains(index) && self.terms.is_recoverable(index, &signed);
                let answering = Bitmap::of(count, convinced);
                let Some((shared, _)) = &self.shared else { return };
                if !self.terms.is_enough(shared, &answering) {
                    self.lose(format!("{} survivors signed the set, fewer than {threshold}", signed.count()));
                }
            }
            Phase::Unmask => {
                let Some((shared, _)) = &self.shared else { return };
                let mut held = vec![0; count];
                for (member, _) in self.answers.values().flat_map(|answer| &answer.shares) {
                    held[*member as usize] += 1;
                }
                let missing = shared.iter().find(|&member| held[member] < threshold);
                if let Some(member) = missing {
                    let (answers, client) = (self.answers.len(), self.members[member].client());
                    let shares = held[member];
                    self.lose(format!(
                        "{answers} survivors answered with {shares} shares of {client}, fewer than {threshold}"
                    ));
                }
            }
            _ => {}
        }
    }

    pub(super) fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// Why nothing of a member counts, if so.
    pub(super) fn missed(&self, index: usize) -> Option<String> {
        if let Some(lost) = &self.lost {
            return Some(format!("group {}: {lost}", self.terms.group));
        }
        let survived = self.survivors.as_ref().is_none_or(|set| set.members.contains(index));
        (!survived).then(|| format!("group {}: its masked input came too late", self.terms.group))
    }

    pub(super) fn opening(&self) -> Opening {
        let none = || Bitmap::empty(self.members.len());
        let member = |(index, entry): (usize, &Advertise)| OpeningMember {
            client: entry.client().clone(),
            mask_key: PublicKey(entry.mask_key),
            aes: entry.aes,
            commitment: self.shares.get(&index).map_or(Digest([0; 32]), |shares| shares.commitment),
        };
        Opening {
            terms: self.terms.clone(),
            members: self.members.iter().enumerate().map(member).collect(),
            shared: self.shared.as_ref().map_or_else(none, |(shared, _)| shared.clone()),
            survivors: self.survivors.as_ref().map_or_else(none, |set| set.members.clone()),
            answers: self.answers.iter().map(|(index, unmask)| (*index as u32, unmask.shares.clone())).collect(),
        }
    }

    pub(super) fn record(&self) -> GroupRecord {
        let name = |index: usize| self.members[index].client().clone();
        GroupRecord {
            members: (0..self.members.len()).map(name).collect(),
            threshold: self.terms.threshold,
            survivors: self.survivors.iter().flat_map(|set| set.members.iter()).map(name).collect(),
            lost: self.lost.clone(),
        }
    }

    fn alive(&self) -> Result<(), Reject> {
        match &self.lost {
            None => Ok(()),
            Some(why) => Err(Reject::new(Reason::GroupLost, why.clone())),
        }
    }

    fn lose(&mut self, why: String) {
        self.lost = Some(why);
    }

    fn sets(&self, index: usize) -> Result<(&Bitmap, &Bitmap), Reject> {
        let shared = self.in_set(index, self.shared.as_ref().map(|(shared, _)| shared))?;
        let survivors = self.in_set(index, self.survivors.as_ref().map(|set| &set.members))?;
        Ok((shared, survivors))
    }

    fn in_set<'a>(&self, index: usize, set: Option<&'a Bitmap>) -> Result<&'a Bitmap, Reject> {
        let set = set.ok_or_else(early)?;
        if set.contains(index) {
            return Ok(set);
        }
        Err(Reject::new(Reason::Late, "this client missed an earlier step, so the others go on without it"))
    }

    /// The boxes that the members of a set sealed for one of them.
    fn boxes_for(&self, index: usize, set: &Bitmap) -> Vec<(u32, [u8; crate::secagg::BOX_BYTES])> {
        let to = index as u32;
        let sealed = |(from, shares): (&usize, &Shares)| {
            let at = shares.boxes.binary_search_by_key(&to, |(receiver, _)| *receiver).ok()?;
            Some((*from as u32, shares.boxes[at].1))
        };
        self.shares.iter().filter(|(from, _)| set.contains(**from)).filter_map(sealed).collect()
    }
}

fn early() -> Reject {
    Reject::new(Reason::WrongState, "the round has not come to this step")
}
