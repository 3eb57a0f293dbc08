//! Servers that do not follow the protocol: which client notices, and that nothing is revealed.

use crate::{
    forger,
    harness::{DEMANDS, Memory, NO_SIGNATURE, Outcome, Play, Table, add, client, generator, key, server_key, session},
    statements,
};
use testudo_aggregate::{Cipher, Mask, MaskKey, Sign, apply_masks};
use testudo_protocol::{
    Digest, Input, PairwiseParams, Reason, Round, RoundParams,
    secagg::{
        Abort, Advertise, Bitmap, Certificate, Confirmed, Credentials, Message, Reply, Roster, Session, Shared,
        SigningKey, Step, Survivors,
        agreement::{Ends, Key, MASK_AES, PublicKey, SELF_AES, SecretKey},
        assignment, merkle, shamir,
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

/// Hears a set of sharers of the server's choosing, correctly signed.
fn with_members(table: &Table, number: usize, mut shared: Shared, keep: impl Fn(usize) -> bool) -> Shared {
    let (terms, _) = table.terms(number);
    shared.members = Bitmap::of(terms.members, &keep);
    shared.boxes.retain(|(from, _)| keep(*from as usize));
    shared.signature = server_key().sign(&statements::shared(&terms.tau, &shared.members));
    shared
}

#[test]
fn two_sets_of_sharers_leave_nobody_convinced() {
    let outcome = Play::new(CLIENTS, CLIENTS)
        .hearing(|table, number, reply| match reply {
            // Half of them are told that the member with index 0 did not share.
            Reply::Shared(shared) if table.terms(number).1 >= 8 => {
                Reply::Shared(with_members(table, number, shared, |index| index != 0))
            }
            reply => reply,
        })
        .run();
    // The headers are signed over the set, so the honest machine takes only those of the first half.
    assert_eq!(outcome.reasons().iter().filter(|reason| reason.2 == Reason::Signature).count(), 8);
    outcome.assert_nothing_given();
}

#[test]
fn sets_that_cannot_be_are_left() {
    let victim = 5;
    let left = |change: &dyn Fn(&Table, Shared) -> Shared| {
        let outcome = Play::new(CLIENTS, CLIENTS)
            .hearing(|table, number, reply| match reply {
                Reply::Shared(shared) if number == victim => Reply::Shared(change(table, shared)),
                reply => reply,
            })
            .run();
        let (step, abort) = outcome.aborts[&victim].clone();
        assert_eq!(step, Step::ShareKeys);
        assert!(!outcome.uploads.contains_key(&victim), "nothing of the input leaves");
        outcome.assert_exact();
        abort
    };
    let own = |table: &Table| table.terms(victim).1 as usize;
    let without = left(&|table, shared| with_members(table, victim, shared, |index| index != own(table)));
    assert!(matches!(without, Abort::Members { .. }), "{without:?}");
    let few = left(&|table, shared| {
        let own = own(table);
        with_members(table, victim, shared, |index| index == own || (index + 16 - own) % 16 < 10)
    });
    assert!(matches!(few, Abort::Threshold { count: 10, threshold: 11, .. }), "{few:?}");
    let unsigned = left(&|_, shared| Shared { signature: NO_SIGNATURE, ..shared });
    assert!(matches!(unsigned, Abort::Signature { .. }), "{unsigned:?}");
    let larger = left(&|table, mut shared| {
        let (terms, _) = table.terms(victim);
        shared.members = Bitmap::of(200, |_| true);
        shared.signature = server_key().sign(&statements::shared(&terms.tau, &shared.members));
        shared
    });
    assert!(matches!(larger, Abort::Members { .. }), "{larger:?}");
    // Boxes of others copied to this one: none opens, and who is to blame is not known.
    let copied = left(&|_, mut shared| {
        let first = shared.boxes[0].1;
        shared.boxes.iter_mut().for_each(|(_, sealed)| *sealed = first);
        shared
    });
    assert!(matches!(copied, Abort::Peers { what: "valid shares", count: 2, .. }), "{copied:?}");
    assert!(!copied.is_misbehaviour());
}

/// Hears survivors of the server's choosing, correctly signed.
fn surviving(table: &Table, number: usize, keep: impl Fn(usize) -> bool) -> Survivors {
    let (terms, _) = table.terms(number);
    let all = Bitmap::of(terms.members, |_| true);
    Survivors::sign(&terms.tau, &all, Bitmap::of(terms.members, &keep), &server_key())
}

#[test]
fn two_sets_of_survivors_get_no_answer_at_all() {
    // Both are above the threshold; each half signs its own.
    let outcome = Play::new(CLIENTS, CLIENTS)
        .hearing(|table, number, reply| match reply {
            Reply::Survivors(_) if table.terms(number).1 >= 8 => {
                Reply::Survivors(surviving(table, number, |index| index != 0))
            }
            reply => reply,
        })
        .run();
    assert_eq!(outcome.reasons().iter().filter(|reason| reason.2 == Reason::Signature).count(), 8);
    outcome.assert_nothing_given();
}

#[test]
fn signatures_over_another_set_do_not_count() {
    // The machine's own confirmation is replaced by one with the signatures of both halves.
    let outcome = Play::new(CLIENTS, CLIENTS)
        .hearing(|table, number, reply| match reply {
            Reply::Confirmed(Confirmed { signatures: all }) => {
                let (terms, own) = table.terms(number);
                let everybody = Bitmap::of(terms.members, |_| true);
                let other = Bitmap::of(terms.members, |index| index != 0);
                // Ten members signed this set and six another: colluders that sign both would be needed.
                let replaced = all
                    .into_iter()
                    .filter(|(index, _)| *index != own)
                    .enumerate()
                    .map(|(at, (index, signature))| {
                        let member = &table.rosters[&number].members[index as usize];
                        let signer = key(crate::harness::number(member.entry.client()));
                        let statement = statements::consistency(&terms.tau, index, &everybody, &other);
                        (index, if at < 9 { signature } else { signer.sign(&statement) })
                    })
                    .collect();
                Reply::Confirmed(Confirmed { signatures: replaced })
            }
            reply => reply,
        })
        .run();
    assert_eq!(outcome.aborts.len(), CLIENTS);
    for (step, abort) in outcome.aborts.values() {
        assert_eq!(*step, Step::Consistency);
        assert!(matches!(abort, Abort::Peers { count: 10, threshold: 11, .. }), "{abort:?}");
    }
    outcome.assert_nothing_given();
}

#[test]
fn signatures_of_members_outside_the_survivors_do_not_count() {
    // Eleven survivors, of whom one does not sign; five colluders outside the set do.
    let outcome = Play::new(CLIENTS, CLIENTS)
        .leaving(|number, step| number == 0 && step == Step::Consistency || number > 10 && step == Step::MaskedInput)
        .run();
    outcome.assert_nothing_given();
    let (sharing, tau) = complete(CLIENTS);
    let all = Bitmap::of(CLIENTS, |_| true);
    let eleven = Bitmap::of(CLIENTS, |index| index < 11);
    let victim = 3;
    let (state, _) = sharing.into_iter().nth(victim).unwrap();
    let (sent, _) = state.input(Digest([0; 32]));
    let survivors = Survivors::sign(&tau, &all, eleven.clone(), &server_key());
    let (confirming, _) = sent.survivors(&survivors).unwrap();
    let by = |index: usize| {
        let statement = statements::consistency(&tau, index as u32, &all, &eleven);
        (index as u32, key(index_to_number(index)).sign(&statement))
    };
    let signatures = (0..CLIENTS).filter(|&index| index != victim && index != 0).map(by).collect();
    let abort = confirming.confirmed(&Confirmed { signatures }).unwrap_err();
    assert!(matches!(abort, Abort::Peers { count: 10, threshold: 11, .. }), "{abort:?}");
}

/// Members are named so that index and number agree in [`complete`].
fn index_to_number(index: usize) -> usize {
    ORDER.with(|order| order.borrow()[index])
}

thread_local! {
    static ORDER: std::cell::RefCell<Vec<usize>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Parties of one group that all shared, by index, with their masks.
fn complete(clients: usize) -> (Vec<(testudo_protocol::secagg::Masking, Vec<Mask>)>, Digest) {
    let session = session(clients, clients, 37);
    complete_of(&session, clients, 1)
}

fn complete_of(
    session: &Session,
    clients: usize,
    seed: u64,
) -> (Vec<(testudo_protocol::secagg::Masking, Vec<Mask>)>, Digest) {
    let (states, entries) = forger::advertised(session, clients, seed);
    let roster = |number: usize| forger::roster(session, RANDOMNESS, &entries, &client(number));
    let (terms, positions) = forger::terms(session, &roster(0));
    ORDER.with(|order| *order.borrow_mut() = positions.iter().map(|&at| at as usize).collect());
    let mut sharing: Vec<_> = forger::shared(states, roster, seed).into_iter().map(Some).collect();
    let all: Vec<(u32, _)> = positions
        .iter()
        .enumerate()
        .map(|(index, &at)| (index as u32, sharing[at as usize].as_ref().unwrap().1.clone()))
        .collect();
    let everybody = Bitmap::of(clients, |_| true);
    let parties = positions
        .iter()
        .enumerate()
        .map(|(index, &at)| {
            let (state, _) = sharing[at as usize].take().unwrap();
            let masking = state.shared(&forger::boxes_for(&terms.tau, index as u32, everybody.clone(), &all)).unwrap();
            let masks = masking.masks().unwrap();
            (masking, masks)
        })
        .collect();
    (parties, terms.tau)
}

#[test]
fn survivors_that_cannot_be_get_no_signature() {
    let victim = 5;
    let left = |change: &dyn Fn(&Table) -> Survivors| {
        let outcome = Play::new(CLIENTS, CLIENTS)
            .hearing(|table, number, reply| match reply {
                Reply::Survivors(_) if number == victim => Reply::Survivors(change(table)),
                reply => reply,
            })
            .run();
        let (step, abort) = outcome.aborts[&victim].clone();
        assert_eq!(step, Step::MaskedInput);
        assert!(abort.is_misbehaviour());
        outcome.assert_exact();
        abort
    };
    let dropped = left(&|table| surviving(table, victim, |index| index != table.terms(victim).1 as usize));
    assert!(matches!(dropped, Abort::Members { .. }), "{dropped:?}");
    let few = left(&|table| {
        let own = table.terms(victim).1 as usize;
        surviving(table, victim, |index| (index + 16 - own) % 16 < 10)
    });
    assert!(matches!(few, Abort::Threshold { count: 10, threshold: 11, .. }), "{few:?}");
    let unsigned = left(&|table| Survivors { signature: NO_SIGNATURE, ..surviving(table, victim, |_| true) });
    assert!(matches!(unsigned, Abort::Signature { .. }), "{unsigned:?}");
    let larger = left(&|table| {
        let (terms, _) = table.terms(victim);
        let all = Bitmap::of(terms.members, |_| true);
        Survivors::sign(&terms.tau, &all, Bitmap::of(terms.members + 8, |_| true), &server_key())
    });
    assert!(matches!(larger, Abort::Members { .. }), "{larger:?}");
}

#[test]
fn a_survivor_that_did_not_share_is_noticed() {
    let outcome = Play::new(CLIENTS, CLIENTS)
        .leaving(|number, step| number == 0 && step == Step::ShareKeys)
        .hearing(|table, number, reply| match reply {
            Reply::Survivors(survivors) => {
                let (terms, _) = table.terms(number);
                let shared = survivors.members;
                let all = Bitmap::of(terms.members, |_| true);
                Reply::Survivors(Survivors::sign(&terms.tau, &shared, all, &server_key()))
            }
            reply => reply,
        })
        .run();
    assert_eq!(outcome.aborts.len(), CLIENTS - 1);
    assert!(outcome.aborts.values().all(|(_, abort)| matches!(abort, Abort::Members { .. })));
    outcome.assert_nothing_given();
}

#[test]
fn a_target_that_is_dropped_after_its_upload_keeps_its_own_mask() {
    // The server holds the target's input, calls it a dropout, and rebuilds its masking key from the others' shares.
    let target = 5;
    let outcome = Play::new(CLIENTS, CLIENTS)
        .saying(|_, number, message| match (number, message.step()) {
            // Its header never counts, so it is no survivor.
            (5, Step::MaskedInput) => Vec::new(),
            _ => vec![message],
        })
        .run();
    outcome.assert_exact();
    assert_eq!(outcome.sums[0].survivors.len(), CLIENTS - 1);
    let shares: Vec<(u32, shamir::Share)> = outcome
        .taken
        .iter()
        .filter_map(|(number, message)| {
            let Message::Unmask(unmask) = message else { return None };
            let (place, of) = (place(&outcome, *number), place(&outcome, target));
            let (_, share) = unmask.shares.iter().find(|(index, _)| *index == of)?;
            Some((place, share.clone()))
        })
        .collect();
    assert_eq!(shares.len(), CLIENTS - 1);
    let entries = advertised(&outcome);
    let secret = SecretKey::from_bytes(&shamir::reconstruct(&shares, 11).unwrap());
    assert_eq!(secret.public().0, entries[&target].mask_key, "the masking key is the server's now");
    // It takes all pairwise masks away.
    let tau = tau(&outcome);
    let own = place(&outcome, target);
    let mut rest = outcome.uploads[&target].clone();
    for (other, entry) in entries.iter().filter(|(other, _)| **other != target) {
        let their = place(&outcome, *other);
        let ends = Ends::Pair { ours: own, theirs: their };
        let aes = entry.aes && entries[&target].aes;
        let (cipher, label) = match aes {
            true => (Cipher::Aes256Ctr, MASK_AES),
            false => (Cipher::ChaCha20, testudo_protocol::secagg::agreement::MASK_CHACHA),
        };
        let key = secret.agree(&PublicKey(entry.mask_key), &tau, label, ends).unwrap();
        let sign = if their > own { Sign::Subtract } else { Sign::Add };
        apply_masks(&mut rest, 0, &[Mask { key: MaskKey::new(*key.as_bytes()), cipher, sign }]).unwrap();
    }
    // What is left is the input under its own mask, of which nobody gave a share.
    let plain = &outcome.plain[&target];
    let mask: Vec<u32> = rest.iter().zip(plain).map(|(rest, plain)| rest.wrapping_sub(*plain)).collect();
    assert!(mask.iter().filter(|word| **word == 0).count() == 0);
    let seed_key = |seed: &[u8; 32]| Key::of_seed(seed, &tau, SELF_AES, own);
    let mut seed = [0; 32];
    let mut random = generator(1, target);
    // Box key, mask key, nonce, then the seed.
    (0..4).for_each(|_| random(&mut seed));
    let mut expected = vec![0; mask.len()];
    let cipher = Cipher::Aes256Ctr;
    let own_mask = Mask { key: MaskKey::new(*seed_key(&seed).as_bytes()), cipher, sign: Sign::Add };
    apply_masks(&mut expected, 0, &[own_mask]).unwrap();
    assert_eq!(mask, expected);
}

/// A client's index in the only group of a round.
fn place(outcome: &Outcome, number: usize) -> u32 {
    outcome.records[0].members.iter().position(|member| *member == client(number)).unwrap() as u32
}

fn advertised(outcome: &Outcome) -> std::collections::BTreeMap<usize, Advertise> {
    let entry = |(number, message): &(usize, Message)| match message {
        Message::Advertise(entry) => Some((*number, entry.clone())),
        _ => None,
    };
    outcome.taken.iter().filter_map(entry).collect()
}

/// τ of the only group of a round.
fn tau(outcome: &Outcome) -> Digest {
    let entries: Vec<Advertise> = advertised(outcome).into_values().collect();
    let session = session(CLIENTS, CLIENTS, 37);
    let roster = forger::roster(&session, RANDOMNESS, &entries, &client(0));
    forger::terms(&session, &roster).0.tau
}

#[test]
fn a_second_set_of_survivors_is_refused_by_a_client_that_was_set_back() {
    // The same device is restored from before its answer, with the same secrets, and asked about other survivors.
    let answers = Memory::default();
    for (attempt, survivors) in [(0, CLIENTS), (1, CLIENTS - 1), (2, CLIENTS)] {
        let (parties, tau) = complete(CLIENTS);
        let all = Bitmap::of(CLIENTS, |_| true);
        let members = Bitmap::of(CLIENTS, |index| index < survivors);
        let (state, _) = parties.into_iter().next().unwrap();
        let (sent, _) = state.input(Digest([0; 32]));
        let shown = Survivors::sign(&tau, &all, members.clone(), &server_key());
        let (confirming, _) = sent.survivors(&shown).unwrap();
        let by = |index: usize| {
            let statement = statements::consistency(&tau, index as u32, &all, &members);
            (index as u32, key(index_to_number(index)).sign(&statement))
        };
        let ready = confirming.confirmed(&Confirmed { signatures: (1..survivors).map(by).collect() }).unwrap();
        let given = ready.give(&answers);
        match attempt {
            0 => assert!(matches!(given, Ok(Message::Unmask(_)))),
            // Both shares of the last member would be out.
            1 => {
                let abort = given.unwrap_err();
                assert!(matches!(abort, Abort::Equivocation { .. }) && abort.is_misbehaviour(), "{abort:?}");
            }
            // The same set again is the same answer.
            _ => assert!(given.is_ok()),
        }
    }
    assert_eq!(answers.0.lock().unwrap().len(), 1);
}

#[test]
fn a_session_that_was_answered_is_not_joined_again_under_any_id() {
    let mut play = Play::new(CLIENTS, CLIENTS);
    let answered = Memory::default();
    // What the device recorded in an earlier play of the round.
    let earlier = testudo_protocol::secagg::Answered {
        server: server_key().verifying_key(),
        task: play.session.task.clone(),
        round: 3,
        attempt: 1,
        tau: Digest([8; 32]),
        survivors: Digest([9; 32]),
    };
    answered.0.lock().unwrap().push(earlier.clone());
    play.answers.insert(5, answered);
    play.session.id = [99; 32];
    let outcome = play.run();
    assert_eq!(outcome.abort_of(5), Some(&Abort::Answered { answered: Box::new(earlier) }));
    assert!(outcome.taken.iter().all(|(number, _)| *number != 5), "nothing leaves the device");
}

#[test]
fn messages_of_one_session_are_worthless_in_the_next() {
    // All that was said in a session is said again in one that differs in its id alone.
    let first = Play::new(CLIENTS, CLIENTS).run();
    let said = |number: usize, step: Step| {
        first.taken.iter().find(|(by, message)| *by == number && message.step() == step).unwrap().1.clone()
    };
    let mut next = Play::new(CLIENTS, CLIENTS);
    next.session.id = [99; 32];
    let outcome = next
        .saying(|_, number, message| match number {
            5 => vec![said(5, message.step()), message],
            _ => vec![message],
        })
        .run();
    let steps = [Step::AdvertiseKeys, Step::ShareKeys, Step::MaskedInput, Step::Consistency, Step::Unmask];
    assert_eq!(outcome.reasons(), steps.map(|step| (5, step, Reason::Signature)));
    outcome.assert_exact();
    assert_eq!(outcome.sums[0].survivors.len(), CLIENTS);
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

#[test]
fn two_inputs_with_one_sum_are_one_opening() {
    // What is opened depends on the sum alone.
    let swapped = |swap: bool| {
        let mut play = Play::new(CLIENTS, CLIENTS);
        play.inputs = Box::new(move |number| {
            let shown = if swap && number < 2 { 1 - number } else { number };
            vec![shown as u32 * 1000; 37]
        });
        play.run()
    };
    let (one, other) = (swapped(false), swapped(true));
    assert_eq!(one.sums[0].sum, other.sums[0].sum);
    assert_ne!(one.plain, other.plain);
    let mut total = vec![0; 37];
    one.plain.values().for_each(|plain| add(&mut total, plain));
    assert_eq!(total, one.sums[0].sum);
}
