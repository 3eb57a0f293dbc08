//! Servers that show other sessions, groups and members than an honest one: which client notices.

use crate::{
    forger,
    harness::{DEMANDS, NO_SIGNATURE, Outcome, Play, Table, client, generator, key, server_key, session},
    statements,
};
use testudo_protocol::{
    Digest, Input, PairwiseParams, Reason, Round, RoundParams,
    secagg::{
        Abort, Advertise, Bitmap, Certificate, Credentials, Message, Reply, Roster, Session, SigningKey, Step,
        agreement::SecretKey, assignment, merkle,
    },
};

const CLIENTS: usize = 16;
const RANDOMNESS: [u8; 32] = [7; 32];

/// One client is shown another roster; what it makes of it.
fn shown(session: Session, victim: usize, change: impl Fn(&Table, Roster) -> Roster) -> Outcome {
    let hears = |table: &Table, number: usize, reply: Reply| match reply {
        Reply::Roster(roster) if number == victim => Reply::Roster(Box::new(change(table, *roster))),
        reply => reply,
    };
    Play::of(CLIENTS, session).hearing(hears).run()
}

#[track_caller]
fn aborts(change: impl Fn(&Table, Roster) -> Roster, expected: impl Fn(&Abort) -> bool) {
    let outcome = shown(session(CLIENTS, CLIENTS, 37), 5, change);
    let abort = outcome.abort_of(5).expect("the victim leaves");
    assert!(expected(abort) && abort.is_misbehaviour(), "{abort:?}");
    // It said nothing after its keys, so the others go on without it.
    assert!(
        outcome.taken.iter().filter(|(number, _)| *number == 5).all(|(_, said)| said.step() == Step::AdvertiseKeys)
    );
    outcome.assert_exact();
    assert_eq!(outcome.sums[0].survivors.len(), CLIENTS - 1);
}

/// The entries in a roster of one complete group, in the order of their positions.
fn entries(roster: &Roster) -> Vec<Advertise> {
    let mut members = roster.members.clone();
    members.sort_unstable_by_key(|member| member.position);
    members.into_iter().map(|member| member.entry).collect()
}

#[test]
fn another_model_leads_to_another_session() {
    let (honest, mut other) = (session(CLIENTS, CLIENTS, 37), session(CLIENTS, CLIENTS, 37));
    other.model = Digest([66; 32]);
    let (states, mut entries) = forger::advertised(&honest, CLIENTS, 1);
    let (_, targeted) = forger::advertised(&other, CLIENTS, 1);
    entries[5] = targeted[5].clone();
    // The honest machine refuses keys that were signed for another model.
    let announcement = honest.clone().announce(&server_key());
    let params = PairwiseParams { announcement, key: server_key(), randomness: RANDOMNESS, least_groups: 1 };
    let cohort = (0..CLIENTS).map(client).collect();
    let mut round = Round::open_masked(RoundParams::new(cohort, CLIENTS, 2, 1000).unwrap(), params);
    let said = Input::Message { client: client(5), message: Box::new(Message::Advertise(entries[5].clone())) };
    assert_eq!(round.handle(1, said).unwrap_err().reason, Reason::Signature);
    // A server that takes them cannot show them to anybody else.
    for (number, state) in states.into_iter().enumerate().filter(|(number, _)| *number != 5) {
        let roster = forger::roster(&honest, RANDOMNESS, &entries, &client(number));
        let abort = state.group(&roster, &DEMANDS, &mut generator(1, number)).unwrap_err();
        assert_eq!(abort, Abort::Signature { whose: "client-0005".into() });
    }
}

#[test]
fn a_key_of_the_servers_in_place_of_a_members_is_noticed() {
    // Unsigned keys would let the server agree on every mask itself.
    let of_the_server = SecretKey::from_bytes(&[77; 32]).public().0;
    let swap = |table: &Table, roster: Roster, change: &dyn Fn(&mut Advertise)| {
        let mut entries = entries(&roster);
        change(&mut entries[3]);
        forger::roster(&table.announcement.session, RANDOMNESS, &entries, &client(5))
    };
    let signature = |abort: &Abort| matches!(abort, Abort::Signature { .. });
    aborts(|table, roster| swap(table, roster, &|entry| entry.box_key = of_the_server), signature);
    aborts(|table, roster| swap(table, roster, &|entry| entry.mask_key = of_the_server), signature);
    aborts(|table, roster| swap(table, roster, &|entry| entry.aes = !entry.aes), signature);
    aborts(|table, roster| swap(table, roster, &|entry| entry.nonce[0] ^= 1), signature);
    aborts(|table, roster| swap(table, roster, &|entry| entry.signature = NO_SIGNATURE), signature);
    // Its own entry changed is an entry that is not there.
    aborts(
        |table, roster| {
            let mut entries = entries(&roster);
            entries[5].mask_key = of_the_server;
            statements::sign_entry(
                &mut entries[5],
                &table.announcement.session.digest(),
                &SigningKey::from_bytes(&[1; 32]),
            );
            forger::roster(&table.announcement.session, RANDOMNESS, &entries, &client(5))
        },
        |abort| matches!(abort, Abort::Assignment { .. }),
    );
}

#[test]
fn every_corrupt_node_of_a_path_is_noticed() {
    for at in 0..4 {
        aborts(
            |_, mut roster| {
                roster.members[9].path[at].0[31] ^= 1;
                roster
            },
            |abort| matches!(abort, Abort::Roster { .. }),
        );
    }
    for change in [
        |roster: &mut Roster| roster.root.0[0] ^= 1,
        |roster: &mut Roster| roster.group_root.0[0] ^= 1,
        |roster: &mut Roster| roster.members[2].path.truncate(3),
        |roster: &mut Roster| roster.members[2].path.push(Digest([0; 32])),
        |roster: &mut Roster| roster.members[2].group_path.push(Digest([0; 32])),
    ] {
        aborts(
            |_, mut roster| {
                change(&mut roster);
                roster
            },
            |abort| matches!(abort, Abort::Roster { .. } | Abort::Assignment { .. }),
        );
    }
}

#[test]
fn a_place_that_was_not_drawn_is_noticed() {
    let assignment = |abort: &Abort| matches!(abort, Abort::Assignment { .. });
    let changes: [fn(&mut Roster); 6] = [
        |roster| roster.group = 1,
        |roster| roster.members.truncate(15),
        |roster| roster.members.rotate_left(1),
        |roster| {
            let (one, other) = (roster.members[3].position, roster.members[4].position);
            (roster.members[3].position, roster.members[4].position) = (other, one);
        },
        |roster| {
            let (one, other) = (roster.members[3].entry.clone(), roster.members[4].entry.clone());
            (roster.members[3].entry, roster.members[4].entry) = (other, one);
        },
        |roster| roster.members.retain(|member| *member.entry.client() != client(5)),
    ];
    for change in changes {
        aborts(
            |_, mut roster| {
                change(&mut roster);
                roster
            },
            |abort| assignment(abort) || matches!(abort, Abort::Roster { .. }),
        );
    }
    aborts(
        |_, mut roster| {
            roster.randomness[0] ^= 1;
            roster
        },
        |abort| *abort == Abort::Commitment,
    );
}

#[test]
fn the_roster_of_another_group_is_noticed() {
    let session = session(32, 16, 37);
    let (states, entries) = forger::advertised(&session, 32, 1);
    let first = forger::roster(&session, RANDOMNESS, &entries, &client(0));
    let stranger = (0..32).find(|&number| first.members.iter().all(|member| *member.entry.client() != client(number)));
    let stranger = stranger.unwrap();
    let state = states.into_iter().nth(stranger).unwrap();
    let abort = state.group(&first, &DEMANDS, &mut generator(1, stranger)).unwrap_err();
    assert_eq!(abort, Abort::Assignment { detail: "this client's own entry is not in it".into() });
}

#[test]
fn an_order_of_the_servers_choosing_is_noticed() {
    // With the order of the entries its own, the server could draw as often as it has patience.
    aborts(
        |table, roster| {
            let mut entries = entries(&roster);
            entries.swap(3, 4);
            forger::roster(&table.announcement.session, RANDOMNESS, &entries, &client(5))
        },
        |abort| matches!(abort, Abort::Assignment { detail } if detail.contains("name belongs")),
    );
}

#[test]
fn sybils_and_duplicates_are_noticed() {
    // The server knows a client's identity key: it may give it any number of names, or any number of keys.
    let sybil = |table: &Table, roster: Roster, name: &str, identity: &SigningKey, keys: [u8; 2]| {
        let mut entries = entries(&roster);
        let public = |byte| SecretKey::from_bytes(&[byte; 32]).public().0;
        let mut entry = entries[3].clone();
        entry.certificate.client = testudo_protocol::ClientId::new(name).unwrap();
        entry.certificate.key = identity.verifying_key();
        (entry.box_key, entry.mask_key) = (public(keys[0]), public(keys[1]));
        statements::sign_entry(&mut entry, &table.announcement.session.digest(), identity);
        entries[3] = entry;
        forger::roster(&table.announcement.session, RANDOMNESS, &entries, &client(5))
    };
    let twice = |abort: &Abort| matches!(abort, Abort::Roster { detail } if detail.contains("twice"));
    aborts(|table, roster| sybil(table, roster, "client-0003", &key(2), [90, 91]), twice);
    aborts(|table, roster| sybil(table, roster, "client-0002", &key(90), [90, 91]), twice);
    aborts(|table, roster| sybil(table, roster, "client-0003", &key(90), [90, 90]), twice);
}

#[test]
fn a_sybil_without_the_authoritys_word_is_noticed() {
    let authority = SigningKey::from_bytes(&[201; 32]);
    let mut session = session(CLIENTS, CLIENTS, 37);
    session.authority = authority.verifying_key().0;
    let certified = |number: usize, authority: &SigningKey| Credentials {
        certificate: Certificate::issue(authority, client(number), key(number).verifying_key()).unwrap(),
        key: key(number),
    };
    let mut play = Play::of(CLIENTS, session.clone());
    play.credentials = Box::new(|number| certified(number, &SigningKey::from_bytes(&[201; 32])));
    let outcome = play.run();
    outcome.assert_exact();
    assert_eq!(outcome.sums[0].survivors.len(), CLIENTS);

    let forged = SigningKey::from_bytes(&[202; 32]);
    let mut play = Play::of(CLIENTS, session);
    play.credentials = Box::new(|number| certified(number, &SigningKey::from_bytes(&[201; 32])));
    let outcome = play
        .hearing(|table, number, reply| match reply {
            Reply::Roster(roster) if number == 5 => {
                let mut entries = entries(&roster);
                entries[3].certificate = Certificate::issue(&forged, client(3), key(90).verifying_key()).unwrap();
                statements::sign_entry(&mut entries[3], &table.announcement.session.digest(), &key(90));
                let session = &table.announcement.session;
                Reply::Roster(Box::new(forger::roster(session, RANDOMNESS, &entries, &client(5))))
            }
            reply => reply,
        })
        .run();
    let abort = outcome.abort_of(5).unwrap();
    assert_eq!(*abort, Abort::Signature { whose: "the enrolment authority over client-0003".into() });
}

#[test]
fn groups_cohorts_and_graphs_below_the_sessions_are_left() {
    let small = session(16, 16, 37);
    let (states, entries) = forger::advertised(&small, 16, 1);
    for (number, state) in states.into_iter().enumerate().take(3) {
        // One group of twelve, as a server would have it that drops four.
        let few = &entries[..12];
        let tree = merkle::Tree::new(few.iter().map(statements::leaf));
        let draw = testudo_protocol::secagg::Draw { advertised: 12, root: tree.root(), randomness: RANDOMNESS };
        let groups = assignment::assign(&draw.seed(&small.digest()), 12, 16).unwrap();
        let roster = forger::of_group(&tree, draw, few, 0, &groups[0]);
        let abort = state.group(&roster, &DEMANDS, &mut generator(1, number)).unwrap_err();
        assert!(matches!(abort, Abort::Threshold { count: 12, threshold: 16, .. }), "{abort:?}");
    }
    // The same where the session asks for no cohort.
    let mut small = session(16, 16, 37);
    small.smallest_cohort = 1;
    let (states, entries) = forger::advertised(&small, 16, 1);
    let few = &entries[..12];
    let tree = merkle::Tree::new(few.iter().map(statements::leaf));
    let draw = testudo_protocol::secagg::Draw { advertised: 12, root: tree.root(), randomness: RANDOMNESS };
    let groups = assignment::assign(&draw.seed(&small.digest()), 12, 16).unwrap();
    let roster = forger::of_group(&tree, draw, few, 0, &groups[0]);
    let state = states.into_iter().next().unwrap();
    let abort = state.group(&roster, &DEMANDS, &mut generator(1, 0)).unwrap_err();
    assert!(matches!(&abort, Abort::Roster { detail } if detail.contains("at least 16")), "{abort:?}");
}

#[test]
fn a_sparse_graph_for_too_few_colluders_is_left() {
    // With no colluders declared a client would have few neighbours, all of whom may be the server's.
    let mut weak = session(128, 128, 8);
    weak.colluders = 0.0;
    let outcome = Play::of(128, weak).run();
    assert_eq!(outcome.aborts.len(), 128);
    assert!(outcome.aborts.values().all(|(_, abort)| matches!(abort, Abort::Demand { .. })));
    outcome.assert_nothing_given();
}

#[test]
fn a_threshold_below_two_thirds_is_the_servers_to_write_and_nobodys_to_use() {
    let mut low = session(CLIENTS, CLIENTS, 37);
    low.threshold = 1;
    let outcome = Play::of(CLIENTS, low).run();
    outcome.assert_exact();
    assert_eq!(outcome.records[0].threshold, 2 * CLIENTS / 3 + 1);
}

#[test]
fn split_views_of_the_roster_share_nothing() {
    // One client has two entries; half of the others see one of them, half the other.
    let session = session(CLIENTS, CLIENTS, 37);
    let (states, entries) = forger::advertised(&session, CLIENTS, 1);
    let mut second = entries.clone();
    second[3].nonce = [1; 32];
    statements::sign_entry(&mut second[3], &session.digest(), &key(3));
    let view = |number: usize| if number.is_multiple_of(2) { &entries } else { &second };
    let roster = |number: usize| forger::roster(&session, RANDOMNESS, view(number), &client(number));
    let mut taus = Vec::new();
    let mut sharing = Vec::new();
    for (number, state) in states.into_iter().enumerate().filter(|(number, _)| *number != 3) {
        let (terms, _) = forger::terms(&session, &roster(number));
        let own = roster(number).members.iter().find(|member| *member.entry.client() == client(number)).unwrap().index;
        let (state, message) = state.group(&roster(number), &DEMANDS, &mut generator(9, number)).unwrap();
        let Message::Shares(shares) = message else { panic!() };
        taus.push(terms.tau);
        sharing.push((own, terms, state, shares));
    }
    assert_ne!(taus[0], taus[1]);
    let all: Vec<(u32, _)> = sharing.iter().map(|(own, _, _, shares)| (*own, shares.clone())).collect();
    for (own, terms, state, _) in sharing {
        // The server signs each view's own set, with everybody in it.
        let everybody = Bitmap::of(CLIENTS, |_| true);
        let abort = state.shared(&forger::boxes_for(&terms.tau, own, everybody, &all)).unwrap_err();
        assert!(matches!(abort, Abort::Peers { what: "valid shares", count: ..=8, .. }), "{abort:?}");
    }
}

#[test]
fn an_announcement_is_the_named_keys_word_for_word() {
    let announcement = session(4, 4, 37).announce(&server_key());
    let bytes = announcement.to_bytes();
    let read = testudo_protocol::secagg::Announcement::from_bytes;
    assert_eq!(read(&bytes).unwrap(), announcement);
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        assert!(read(&bad).is_err(), "byte {at}");
    }
}
