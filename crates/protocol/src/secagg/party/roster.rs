//! What a client checks of the roster before it trusts the group.

use super::{Abort, Advertised, Neighbour};
use crate::secagg::{
    agreement::PublicKey,
    assignment,
    group::{Draw, Terms},
    identity::VerifyingKey,
    merkle,
    reply::{Member, Roster},
};
use std::collections::BTreeSet;

/// What the device insists on that only the group shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demands {
    /// Fewest members of the group.
    pub group: usize,
    /// Least share of colluders that a sparse graph must be drawn for, in [0, 1): with fewer declared than there are, a
    /// client's few neighbours may all be the server's. Complete graphs have a threshold of their own.
    pub colluders: f64,
}

/// A group this client is in.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) terms: Terms,
    /// This client's index.
    pub(super) index: u32,
    pub(super) neighbours: Vec<Neighbour>,
}

pub(super) fn check(own: &Advertised, roster: &Roster, demands: &Demands) -> Result<Group, Abort> {
    let session = &own.session;
    if assignment::commitment(&roster.randomness) != session.commitment {
        return Err(Abort::Commitment);
    }
    if roster.advertised < session.smallest_cohort {
        let count = roster.advertised as usize;
        let threshold = session.smallest_cohort as usize;
        return Err(Abort::Threshold { what: "clients in the round", count, threshold });
    }
    let draw = Draw { advertised: roster.advertised, root: roster.root, randomness: roster.randomness };
    let groups = assignment::assign(&draw.seed(&own.digest), roster.advertised, session.group_size)
        .map_err(|error| Abort::Assignment { detail: error.to_string() })?;
    let wrong = |detail: &str| Abort::Assignment { detail: detail.into() };
    let Some(drawn) = groups.get(roster.group as usize) else { return Err(wrong("no such group")) };
    let members = drawn.len();
    if members < demands.group {
        return Err(Abort::Demand { detail: format!("a group of {members} clients, fewer than {}", demands.group) });
    }
    let terms = Terms::new(session, &own.digest, &draw, roster.group, members, &roster.group_root)
        .map_err(|error| Abort::Roster { detail: error.to_string() })?;
    if !terms.complete && session.colluders < demands.colluders {
        let (declared, least) = (session.colluders, demands.colluders);
        return Err(Abort::Demand { detail: format!("a graph for {declared} of colluders, less than {least}") });
    }
    let Some(mine) = roster.members.iter().find(|member| member.entry == own.entry) else {
        return Err(wrong("this client's own entry is not in it"));
    };
    let mut expected: Vec<u32> = terms.neighbours(mine.index as usize).iter().map(|&index| index as u32).collect();
    expected.push(mine.index);
    expected.sort_unstable();
    if roster.members.iter().map(|member| member.index).ne(expected.iter().copied()) {
        return Err(wrong("the members shown are not this client and its neighbours"));
    }
    for member in &roster.members {
        check_member(own, roster, member, drawn)?;
    }
    check_root(roster, &terms)?;
    check_distinct(roster)?;
    check_sorted(roster)?;
    let neighbours = roster.members.iter().filter(|member| member.index != mine.index).map(neighbour).collect();
    Ok(Group { terms, index: mine.index, neighbours })
}

/// One member: its place, its proofs, its signature, who vouches for it.
fn check_member(own: &Advertised, roster: &Roster, member: &Member, drawn: &[u32]) -> Result<(), Abort> {
    let client = member.entry.client();
    if drawn.get(member.index as usize) != Some(&member.position) {
        return Err(Abort::Assignment { detail: format!("{client} is not where the draw puts it") });
    }
    let leaf = member.entry.leaf();
    let in_root = merkle::verify(&roster.root, member.position, roster.advertised, &leaf, &member.path);
    let in_group = member.group_path.is_empty()
        || merkle::verify(&roster.group_root, member.index, drawn.len() as u32, &leaf, &member.group_path).is_ok();
    if in_root.is_err() || !in_group {
        return Err(Abort::Roster { detail: format!("the entry of {client} is not in the tree") });
    }
    if ![member.entry.box_key, member.entry.mask_key].map(PublicKey).iter().all(PublicKey::is_usable) {
        return Err(Abort::Roster { detail: format!("a key of {client} leads to no secret") });
    }
    if !member.entry.is_signed(&own.digest) {
        return Err(Abort::Signature { whose: client.to_string() });
    }
    let authority = own.session.has_authority().then_some(VerifyingKey(own.session.authority));
    if authority.is_some_and(|authority| member.entry.certificate.verify(&authority).is_err()) {
        return Err(Abort::Signature { whose: format!("the enrolment authority over {client}") });
    }
    Ok(())
}

/// In a complete graph the whole group is shown, so its root is computed; in a sparse one every member has a path.
fn check_root(roster: &Roster, terms: &Terms) -> Result<(), Abort> {
    let wrong = |detail: &str| Abort::Roster { detail: detail.into() };
    if !terms.complete {
        let proved = roster.members.iter().all(|member| !member.group_path.is_empty());
        return if proved { Ok(()) } else { Err(wrong("an entry without a path in the group's tree")) };
    }
    let root = merkle::root(roster.members.iter().map(|member| member.entry.leaf()));
    if root == roster.group_root { Ok(()) } else { Err(wrong("the group's root is another group's")) }
}

/// No two members with one name, one identity or one key.
fn check_distinct(roster: &Roster) -> Result<(), Abort> {
    let mut seen = BTreeSet::new();
    for Member { entry, .. } in &roster.members {
        let identity = (0u8, entry.certificate.key.0.to_vec());
        let name = (1, entry.client().as_str().as_bytes().to_vec());
        let keys = [(2, entry.box_key.to_vec()), (2, entry.mask_key.to_vec())];
        for key in [identity, name].into_iter().chain(keys) {
            if !seen.insert(key) {
                return Err(Abort::Roster { detail: format!("a name or key of {} is there twice", entry.client()) });
            }
        }
    }
    Ok(())
}

/// The clients that advertised stand in the order of their names: their order is not the server's to choose, since the
/// draw follows from it.
fn check_sorted(roster: &Roster) -> Result<(), Abort> {
    let mut members: Vec<&Member> = roster.members.iter().collect();
    members.sort_unstable_by_key(|member| member.position);
    match members.windows(2).find(|pair| pair[0].entry.client() >= pair[1].entry.client()) {
        None => Ok(()),
        Some(pair) => {
            let client = pair[1].entry.client();
            Err(Abort::Assignment { detail: format!("{client} does not stand where its name belongs") })
        }
    }
}

fn neighbour(member: &Member) -> Neighbour {
    let entry = &member.entry;
    Neighbour {
        index: member.index,
        box_key: PublicKey(entry.box_key),
        mask_key: PublicKey(entry.mask_key),
        identity: entry.certificate.key,
        aes: entry.aes,
    }
}
