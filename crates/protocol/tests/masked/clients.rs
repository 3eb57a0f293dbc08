//! Clients that do not follow the protocol: who notices, and what it costs the others.

use crate::{
    harness::{NO_SIGNATURE, Outcome, Play, Table, client, generator, key, masked},
    statements,
};
use testudo_protocol::{
    Digest, Reason,
    secagg::{
        Advertise, Bitmap, Consistency, Message, Shares, Step, Terms, Unmask,
        agreement::{BOX, Ends, PublicKey, SecretKey},
        seal::{Route, seal},
        shamir::{SHARE_BYTES, Share},
    },
};

const CLIENTS: usize = 16;

fn entry(message: Message) -> Advertise {
    let Message::Advertise(entry) = message else { panic!("{message:?}") };
    entry
}

fn shares(message: Message) -> Shares {
    let Message::Shares(shares) = message else { panic!("{message:?}") };
    shares
}

/// What one client says in one step is changed; everybody else is honest.
fn lying(liar: usize, step: Step, lie: impl Fn(&Table, Message) -> Vec<Message>) -> Outcome {
    let says = |table: &Table, number: usize, message: Message| match number == liar && message.step() == step {
        true => lie(table, message),
        false => vec![message],
    };
    Play::new(CLIENTS, CLIENTS).saying(says).run()
}

/// The liar is refused for this reason and the others' sum is exact without it.
#[track_caller]
fn refused_alone(outcome: &Outcome, step: Step, reason: Reason, survivors: usize) {
    assert_eq!(outcome.reasons().first(), Some(&(5, step, reason)), "{:?}", outcome.reasons());
    outcome.assert_exact();
    assert_eq!(outcome.sums[0].survivors.len(), survivors);
    assert!(outcome.aborts.is_empty(), "{:?}", outcome.aborts);
}

/// With 17 clients, of whom one is refused before the groups are drawn.
fn lying_early(lie: impl Fn(&Table, Advertise) -> Advertise) -> Outcome {
    let says =
        |table: &Table, number: usize, message: Message| match number == 5 && message.step() == Step::AdvertiseKeys {
            true => vec![Message::Advertise(lie(table, entry(message)))],
            false => vec![message],
        };
    Play::new(CLIENTS + 1, CLIENTS).saying(says).run()
}

#[test]
fn a_forged_signature_is_refused_in_every_step() {
    for step in [Step::ShareKeys, Step::MaskedInput, Step::Consistency, Step::Unmask] {
        let outcome = lying(5, step, |_, message| {
            vec![match message {
                Message::Shares(shares) => Message::Shares(Shares { signature: NO_SIGNATURE, ..shares }),
                Message::Input(mut input) => {
                    input.signature.0[9] ^= 1;
                    Message::Input(input)
                }
                Message::Consistency(_) => Message::Consistency(Consistency { signature: NO_SIGNATURE }),
                Message::Unmask(mut unmask) => {
                    unmask.signature.0[63] ^= 1;
                    Message::Unmask(unmask)
                }
                message => message,
            }]
        });
        let survivors = if step < Step::Consistency { CLIENTS - 1 } else { CLIENTS };
        refused_alone(&outcome, step, Reason::Signature, survivors);
    }
    let outcome = lying_early(|_, entry| Advertise { signature: NO_SIGNATURE, ..entry });
    refused_alone(&outcome, Step::AdvertiseKeys, Reason::Signature, CLIENTS);
}

#[test]
fn a_signature_over_another_session_or_place_is_refused() {
    let outcome = lying_early(|_, mut entry| {
        statements::sign_entry(&mut entry, &Digest([9; 32]), &key(5));
        entry
    });
    refused_alone(&outcome, Step::AdvertiseKeys, Reason::Signature, CLIENTS);
    for (wrong_tau, wrong_place) in [(true, false), (false, true)] {
        let outcome = lying(5, Step::ShareKeys, |table, message| {
            let (terms, index) = table.terms(5);
            let tau = if wrong_tau { Digest([9; 32]) } else { terms.tau };
            let mut shares = shares(message);
            statements::sign_shares(&mut shares, &tau, index ^ u32::from(wrong_place), &key(5));
            vec![Message::Shares(shares)]
        });
        refused_alone(&outcome, Step::ShareKeys, Reason::Signature, CLIENTS - 1);
    }
}

#[test]
fn the_forged_statements_of_these_tests_are_the_real_ones() {
    // Otherwise the tests above would refuse the encoding and not what is in it.
    let outcome = lying(5, Step::ShareKeys, |table, message| {
        let (terms, index) = table.terms(5);
        let mut again = shares(message.clone());
        statements::sign_shares(&mut again, &terms.tau, index, &key(5));
        assert_eq!(Message::Shares(again), message);
        vec![message]
    });
    assert!(outcome.rejects.is_empty());
    let outcome = lying_early(|table, entry| {
        let mut again = entry.clone();
        statements::sign_entry(&mut again, &table.announcement.session.digest(), &key(5));
        assert_eq!(again, entry);
        entry
    });
    assert!(outcome.rejects.is_empty());
}

#[test]
fn keys_of_another_client_or_without_a_secret_are_refused() {
    let signed = |table: &Table, mut entry: Advertise, signer: usize| {
        statements::sign_entry(&mut entry, &table.announcement.session.digest(), &key(signer));
        entry
    };
    let outcome = lying_early(|table, mut entry| {
        entry.certificate.client = client(6);
        signed(table, entry, 5)
    });
    refused_alone(&outcome, Step::AdvertiseKeys, Reason::Identity, CLIENTS);
    // One client with a key of small order would make all its neighbours leave.
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    for bad in [[0; 32], minus_one, [0xff; 32]] {
        for which in 0..2 {
            let outcome = lying_early(|table, mut entry| {
                if which == 0 {
                    entry.box_key = bad
                } else {
                    entry.mask_key = bad
                }
                signed(table, entry, 5)
            });
            refused_alone(&outcome, Step::AdvertiseKeys, Reason::Malformed, CLIENTS);
        }
    }
    let outcome = lying_early(|table, mut entry| {
        entry.mask_key = entry.box_key;
        signed(table, entry, 5)
    });
    refused_alone(&outcome, Step::AdvertiseKeys, Reason::Duplicate, CLIENTS);
    // The identity of client 4, which advertised before.
    let outcome = lying_early(|table, mut entry| {
        entry.certificate.key = key(4).verifying_key();
        signed(table, entry, 4)
    });
    refused_alone(&outcome, Step::AdvertiseKeys, Reason::Duplicate, CLIENTS);
}

#[test]
fn boxes_are_one_for_each_neighbour_or_refused() {
    for change in 0..3 {
        let outcome = lying(5, Step::ShareKeys, |table, message| {
            let (terms, index) = table.terms(5);
            let mut shares = shares(message);
            match change {
                0 => drop(shares.boxes.pop()),
                1 => shares.boxes.clear(),
                _ => shares.boxes.push((100, shares.boxes[0].1)),
            }
            statements::sign_shares(&mut shares, &terms.tau, index, &key(5));
            vec![Message::Shares(shares)]
        });
        refused_alone(&outcome, Step::ShareKeys, Reason::Malformed, CLIENTS - 1);
    }
}

#[test]
fn a_repeated_message_changes_nothing_and_another_one_is_a_duplicate() {
    for step in [Step::AdvertiseKeys, Step::ShareKeys, Step::Consistency, Step::Unmask] {
        let outcome = lying(5, step, |_, message| vec![message.clone(), message]);
        assert!(outcome.rejects.is_empty(), "{step:?}: {:?}", outcome.rejects);
        outcome.assert_exact();
        assert_eq!(outcome.sums[0].survivors.len(), CLIENTS);
    }
    let outcome = lying(5, Step::AdvertiseKeys, |table, message| {
        let mut other = entry(message.clone());
        other.nonce = [1; 32];
        statements::sign_entry(&mut other, &table.announcement.session.digest(), &key(5));
        vec![message, Message::Advertise(other)]
    });
    refused_alone(&outcome, Step::AdvertiseKeys, Reason::Duplicate, CLIENTS);
}

#[test]
fn a_message_after_its_step_is_late_and_one_before_it_is_early() {
    for step in [Step::AdvertiseKeys, Step::ShareKeys, Step::MaskedInput, Step::Consistency, Step::Unmask] {
        let kept = std::cell::RefCell::new(None);
        let mut play = Play::new(CLIENTS + 1, CLIENTS).saying(|_, number, message| {
            if number == 5 && message.step() == step {
                kept.replace(Some((number, message)));
                return Vec::new();
            }
            vec![message]
        });
        play.later = Box::new(|_| kept.take().into_iter().collect());
        let outcome = play.run();
        assert_eq!(outcome.reasons().first(), Some(&(5, step, Reason::Late)), "{:?}", outcome.rejects);
        outcome.assert_exact();
        assert_eq!(outcome.sums[0].survivors.len(), CLIENTS + usize::from(step > Step::MaskedInput));
    }
    let early = lying(5, Step::ShareKeys, |_, message| {
        vec![Message::Consistency(Consistency { signature: NO_SIGNATURE }), message]
    });
    refused_alone(&early, Step::ShareKeys, Reason::WrongState, CLIENTS);
}

#[test]
fn an_input_without_its_upload_is_refused() {
    let mut play = Play::new(CLIENTS, CLIENTS);
    play.sends = Box::new(|number, masks, plain| (number != 5).then(|| masked(masks, plain)));
    refused_alone(&play.run(), Step::MaskedInput, Reason::DigestMismatch, CLIENTS - 1);
}

#[test]
fn an_input_that_names_another_upload_is_refused() {
    let outcome = lying(5, Step::MaskedInput, |table, message| {
        let Message::Input(mut input) = message else { panic!() };
        let (terms, index) = table.terms(5);
        input.upload = Digest([1; 32]);
        let all = Bitmap::of(terms.members, |_| true);
        input.signature = key(5).sign(&statements::input(&terms.tau, index, &all, &input.upload));
        vec![Message::Input(input)]
    });
    refused_alone(&outcome, Step::MaskedInput, Reason::DigestMismatch, CLIENTS - 1);
}

/// An answer with changed shares, signed by its client.
fn answer(table: &Table, liar: usize, message: Message, change: impl Fn(&mut Unmask)) -> Message {
    let Message::Unmask(mut unmask) = message else { panic!() };
    let (terms, index) = table.terms(liar);
    let all = Bitmap::of(terms.members, |_| true);
    change(&mut unmask);
    unmask.signature = key(liar).sign(&statements::unmask(&terms.tau, index, &all, &unmask));
    Message::Unmask(unmask)
}

fn other(share: &Share) -> Share {
    let mut bytes = share.to_bytes();
    bytes[0] ^= 1;
    Share::from_bytes(&*bytes).unwrap()
}

fn lying_answers(liars: usize) -> Outcome {
    let says =
        move |table: &Table, number: usize, message: Message| match message.step() == Step::Unmask && number < liars {
            true => vec![answer(table, number, message, |unmask| {
                unmask.shares.iter_mut().for_each(|(_, share)| *share = other(share));
            })],
            false => vec![message],
        };
    Play::new(CLIENTS, CLIENTS).saying(says).run()
}

#[test]
fn wrong_shares_are_corrected_and_stand_against_the_pair() {
    // 16 answers, threshold 11: two wrong ones are corrected.
    let outcome = lying_answers(2);
    outcome.assert_exact();
    let mut holders: Vec<_> = outcome.sums[0].misfits.iter().map(|misfit| misfit.holder.clone()).collect();
    holders.sort();
    holders.dedup();
    assert_eq!(holders, [client(0), client(1)]);
    assert_eq!(outcome.sums[0].misfits.len(), 2 * CLIENTS);
    // Three are too many: nothing is opened.
    let outcome = lying_answers(3);
    assert!(outcome.sums.is_empty());
    assert!(matches!(&outcome.lost[..], [(0, lost)] if lost.client.is_some()), "{:?}", outcome.lost);
}

#[test]
fn an_answer_without_shares_is_no_answer() {
    let empty = |liars: usize| {
        let says = move |table: &Table, number: usize, message: Message| match message.step() == Step::Unmask
            && number < liars
        {
            true => vec![answer(table, number, message, |unmask| unmask.shares.clear())],
            false => vec![message],
        };
        Play::new(CLIENTS, CLIENTS).saying(says).run()
    };
    let some = empty(5);
    some.assert_exact();
    assert_eq!(some.sums.len(), 1);
    // Ten sets of shares are below the threshold of 11: the group is lost by its count, before anything is rebuilt.
    let many = empty(6);
    assert!(many.sums.is_empty() && many.lost.is_empty());
    assert!(many.records[0].lost.as_deref().unwrap().contains("10 shares"), "{:?}", many.records[0].lost);
}

#[test]
fn a_share_of_somebody_outside_the_set_is_refused() {
    let outcome = lying(5, Step::Unmask, |table, message| {
        vec![answer(table, 5, message, |unmask| {
            let share = unmask.shares[0].1.clone();
            unmask.shares.push((CLIENTS as u32, share));
        })]
    });
    refused_alone(&outcome, Step::Unmask, Reason::Malformed, CLIENTS);
}

/// A dealer that seals wrong shares to some members.
fn dealing(table: &Table, dealer: usize, shares: &mut Shares, to: impl Fn(u32) -> bool) {
    let (terms, index): (Terms, u32) = table.terms(dealer);
    let mut first = [0; 32];
    generator(1, dealer)(&mut first);
    let secret = SecretKey::from_bytes(&first);
    for (receiver, sealed) in shares.boxes.iter_mut().filter(|(receiver, _)| to(*receiver)) {
        let member = table.rosters[&dealer].members.iter().find(|member| member.index == *receiver).unwrap();
        let ends = Ends::Sending { ours: index, theirs: *receiver };
        let key = secret.agree(&PublicKey(member.entry.box_key), &terms.tau, BOX, ends).unwrap();
        let route = Route { session: terms.tau, sender: index, receiver: *receiver };
        *sealed = seal(key, &route, &[3; 2 * SHARE_BYTES]).try_into().unwrap();
    }
    statements::sign_shares(shares, &terms.tau, index, &key(dealer));
}

#[test]
fn a_dealer_of_wrong_shares_cannot_put_the_blame_on_the_receivers_alone() {
    let outcome = lying(5, Step::ShareKeys, |table, message| {
        let mut shares = shares(message);
        let (_, index) = table.terms(5);
        let two: Vec<u32> = (0..16).filter(|&other| other != index).take(2).collect();
        dealing(table, 5, &mut shares, |receiver| two.contains(&receiver));
        vec![Message::Shares(shares)]
    });
    outcome.assert_exact();
    assert_eq!(outcome.sums[0].misfits.len(), 2);
    assert!(outcome.sums[0].misfits.iter().all(|misfit| misfit.owner == client(5) && misfit.holder != client(5)));
}

#[test]
fn a_client_that_spoils_all_its_shares_or_its_commitment_kills_its_own_group_only() {
    for kind in 0..2 {
        let says = |table: &Table, number: usize, message: Message| {
            if number != 5 || message.step() != Step::ShareKeys {
                return vec![message];
            }
            let mut shares = shares(message);
            if kind == 0 {
                dealing(table, 5, &mut shares, |_| true);
            } else {
                let (terms, index) = table.terms(5);
                shares.commitment = Digest([1; 32]);
                statements::sign_shares(&mut shares, &terms.tau, index, &key(5));
            }
            vec![Message::Shares(shares)]
        };
        let outcome = Play::new(32, 16).saying(says).run();
        outcome.assert_exact();
        assert_eq!(outcome.sums.len(), 1, "the other group is opened");
        let [(group, lost)] = &outcome.lost[..] else { panic!("{:?}", outcome.lost) };
        assert_eq!(lost.client, Some(client(5)));
        assert!(outcome.records[*group as usize].members.contains(&client(5)));
    }
}

#[test]
fn boxes_that_do_not_open_are_missed_and_not_fatal() {
    let outcome = lying(5, Step::ShareKeys, |table, message| {
        let (terms, index) = table.terms(5);
        let mut shares = shares(message);
        shares.boxes.iter_mut().take(5).for_each(|(_, sealed)| sealed[3] ^= 1);
        statements::sign_shares(&mut shares, &terms.tau, index, &key(5));
        vec![Message::Shares(shares)]
    });
    outcome.assert_exact();
    assert_eq!(outcome.sums[0].survivors.len(), CLIENTS);
    // With one more, ten shares of its secret are left: below the threshold of 11.
    let outcome = lying(5, Step::ShareKeys, |table, message| {
        let (terms, index) = table.terms(5);
        let mut shares = shares(message);
        shares.boxes.iter_mut().take(6).for_each(|(_, sealed)| sealed[3] ^= 1);
        statements::sign_shares(&mut shares, &terms.tau, index, &key(5));
        vec![Message::Shares(shares)]
    });
    assert!(outcome.sums.is_empty());
    assert!(outcome.records[0].lost.as_deref().unwrap().contains("client-0005"));
}
