//! A server that makes its own rosters out of any entries.

use crate::{harness, statements};
use testudo_protocol::{
    ClientId, Digest,
    secagg::{
        Advertise, Advertised, Bitmap, Draw, Member, Message, Roster, Session, Shared, Shares, Sharing, Terms,
        assignment, merkle,
    },
};

/// The terms that a roster leads to, and the positions of the group's members.
pub(crate) fn terms(session: &Session, roster: &Roster) -> (Terms, Vec<u32>) {
    let draw = Draw { advertised: roster.advertised, root: roster.root, randomness: roster.randomness };
    let digest = session.digest();
    let groups = assignment::assign(&draw.seed(&digest), roster.advertised, session.group_size).unwrap();
    let positions = groups[roster.group as usize].clone();
    let terms = Terms::new(session, &digest, &draw, roster.group, positions.len(), &roster.group_root).unwrap();
    (terms, positions)
}

/// The roster for one client over these entries in this order. Complete graphs only.
pub(crate) fn roster(session: &Session, randomness: [u8; 32], entries: &[Advertise], client: &ClientId) -> Roster {
    let tree = merkle::Tree::new(entries.iter().map(statements::leaf));
    let draw = Draw { advertised: entries.len() as u32, root: tree.root(), randomness };
    let groups = assignment::assign(&draw.seed(&session.digest()), draw.advertised, session.group_size).unwrap();
    let holds = |positions: &&Vec<u32>| positions.iter().any(|&at| entries[at as usize].client() == client);
    let group = groups.iter().position(|positions| holds(&positions)).unwrap_or(0);
    of_group(&tree, draw, entries, group as u32, &groups[group])
}

/// The roster of one group, whoever asks.
pub(crate) fn of_group(
    tree: &merkle::Tree,
    draw: Draw,
    entries: &[Advertise],
    group: u32,
    positions: &[u32],
) -> Roster {
    let member = |(index, &position): (usize, &u32)| Member {
        index: index as u32,
        position,
        entry: entries[position as usize].clone(),
        path: tree.path(position).unwrap(),
        group_path: Vec::new(),
    };
    let members: Vec<Member> = positions.iter().enumerate().map(member).collect();
    let group_root = merkle::root(members.iter().map(|member| statements::leaf(&member.entry)));
    let Draw { advertised, root, randomness } = draw;
    Roster { randomness, advertised, root, group, group_root, members }
}

/// Parties that have advertised, and their entries in order.
pub(crate) fn advertised(session: &Session, clients: usize, seed: u64) -> (Vec<Advertised>, Vec<Advertise>) {
    let announcement = session.clone().announce(&harness::server_key());
    let (mut states, mut entries) = (Vec::new(), Vec::new());
    for number in 0..clients {
        let credentials =
            testudo_protocol::secagg::Credentials::unvouched(harness::client(number), harness::key(number));
        let answers = harness::Memory::default();
        let mut random = harness::generator(seed, number);
        let (state, message) = Advertised::new(&announcement, &credentials, &answers, true, &mut random).unwrap();
        let Message::Advertise(entry) = message else { panic!() };
        states.push(state);
        entries.push(entry);
    }
    (states, entries)
}

/// Parties that have shared, each shown a roster by the server.
pub(crate) fn shared(states: Vec<Advertised>, shown: impl Fn(usize) -> Roster, seed: u64) -> Vec<(Sharing, Shares)> {
    let mut sharing = Vec::new();
    for (number, state) in states.into_iter().enumerate() {
        let mut random = harness::generator(seed ^ 0x5eed, number);
        let (state, message) = state.group(&shown(number), &harness::DEMANDS, &mut random).unwrap();
        let Message::Shares(shares) = message else { panic!() };
        sharing.push((state, shares));
    }
    sharing
}

/// The signed answer to shares: the boxes for one member out of what everybody sent.
pub(crate) fn boxes_for(tau: &Digest, to: u32, members: Bitmap, all: &[(u32, Shares)]) -> Shared {
    let mut boxes: Vec<(u32, [u8; testudo_protocol::secagg::BOX_BYTES])> = all
        .iter()
        .filter(|(from, _)| members.contains(*from as usize))
        .filter_map(|(from, shares)| {
            let at = shares.boxes.iter().find(|(receiver, _)| *receiver == to)?;
            Some((*from, at.1))
        })
        .collect();
    boxes.sort_unstable_by_key(|(from, _)| *from);
    let signature = harness::server_key().sign(&statements::shared(tau, &members));
    Shared { members, signature, boxes }
}
