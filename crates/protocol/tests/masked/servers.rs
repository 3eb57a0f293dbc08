//! Servers that lie about who shared and who survived, ask twice or replay: which client notices, and that nothing is
//! revealed.

use crate::{
    forger,
    harness::{Memory, NO_SIGNATURE, Outcome, Play, Table, add, client, generator, key, server_key, session},
    statements,
};
use testudo_aggregate::{Cipher, Mask, MaskKey, Sign, apply_masks};
use testudo_protocol::{
    Digest, Reason,
    secagg::{
        Abort, Advertise, Bitmap, Confirmed, Masking, Message, Reply, Shared, Shares, Signature, Step, Survivors,
        agreement::{Ends, Key, MASK_AES, PublicKey, SELF_AES, SecretKey},
        shamir,
    },
};

const CLIENTS: usize = 16;
const RANDOMNESS: [u8; 32] = [7; 32];

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
    Survivors::sign(&terms.tau, &all, Bitmap::of(terms.members, keep), &server_key())
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
    let Complete { parties, tau, order } = Complete::new(CLIENTS);
    let all = Bitmap::of(CLIENTS, |_| true);
    let eleven = Bitmap::of(CLIENTS, |index| index < 11);
    let victim = 3;
    let (sent, _) = parties.into_iter().nth(victim).unwrap().input(Digest([0; 32]));
    let survivors = Survivors::sign(&tau, &all, eleven.clone(), &server_key());
    let (confirming, _) = sent.survivors(&survivors).unwrap();
    let by = |index: usize| Complete::convinced(&tau, &order, index, &eleven);
    let signatures = (0..CLIENTS).filter(|&index| index != victim && index != 0).map(by).collect();
    let abort = confirming.confirmed(&Confirmed { signatures }).unwrap_err();
    assert!(matches!(abort, Abort::Peers { count: 10, threshold: 11, .. }), "{abort:?}");
}

/// A group whose members all shared.
struct Complete {
    /// By index.
    parties: Vec<Masking>,
    tau: Digest,
    /// The clients' numbers, by index.
    order: Vec<usize>,
}

impl Complete {
    fn new(clients: usize) -> Self {
        let session = session(clients, clients, 37);
        let (states, entries) = forger::advertised(&session, clients, 1);
        let roster = |number: usize| forger::roster(&session, RANDOMNESS, &entries, &client(number));
        let (terms, positions) = forger::terms(&session, &roster(0));
        let order: Vec<usize> = positions.iter().map(|&at| at as usize).collect();
        let mut sharing: Vec<_> = forger::shared(states, roster, 1).into_iter().map(Some).collect();
        let shares = |&number: &usize| sharing[number].as_ref().unwrap().1.clone();
        let all: Vec<(u32, Shares)> = (0..).zip(order.iter().map(shares)).collect();
        let everybody = Bitmap::of(clients, |_| true);
        let mut parties = Vec::new();
        for (index, &number) in (0..).zip(&order) {
            let (state, _) = sharing[number].take().unwrap();
            parties.push(state.shared(&forger::boxes_for(&terms.tau, index, everybody.clone(), &all)).unwrap());
        }
        Self { parties, tau: terms.tau, order }
    }

    /// A member's signature over the survivors, when all shared.
    fn convinced(tau: &Digest, order: &[usize], index: usize, survivors: &Bitmap) -> (u32, Signature) {
        let all = Bitmap::of(order.len(), |_| true);
        let statement = statements::consistency(tau, index as u32, &all, survivors);
        (index as u32, key(order[index]).sign(&statement))
    }
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
        let Complete { parties, tau, order } = Complete::new(CLIENTS);
        let all = Bitmap::of(CLIENTS, |_| true);
        let members = Bitmap::of(CLIENTS, |index| index < survivors);
        let (sent, _) = parties.into_iter().next().unwrap().input(Digest([0; 32]));
        let shown = Survivors::sign(&tau, &all, members.clone(), &server_key());
        let (confirming, _) = sent.survivors(&shown).unwrap();
        let by = |index: usize| Complete::convinced(&tau, &order, index, &members);
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
