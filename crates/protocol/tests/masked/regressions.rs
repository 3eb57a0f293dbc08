//! Mistakes that masking schemes have made: each would pass a round between honest parties.

use crate::{
    forger,
    harness::{Outcome, Play, client, generator, masked, session},
};
use std::collections::BTreeSet;
use testudo_aggregate::Mask;
use testudo_protocol::secagg::{
    Message, Step,
    agreement::{BOX, Ends, PublicKey, Refused, SecretKey},
    seal::{Route, open},
    shamir::{SHARE_BYTES, ShamirError, Share, reconstruct},
};

const CLIENTS: usize = 8;

/// The words that every client's masks have, one list for each mask.
fn streams(id: u8, seed: u64, words: usize) -> Vec<Vec<Vec<u32>>> {
    let mut play = Play::of(CLIENTS, session(CLIENTS, CLIENTS, words));
    play.session.id = [id; 32];
    play.seed = seed;
    let all = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let kept = all.clone();
    play.sends = Box::new(move |_, masks: &[Mask], plain| {
        let one = |mask: &Mask| masked(std::slice::from_ref(mask), vec![0; words]);
        kept.borrow_mut().push(masks.iter().map(one).collect());
        Some(masked(masks, plain))
    });
    play.run().assert_exact();
    all.take()
}

fn negative(words: &[u32]) -> Vec<u32> {
    words.iter().map(|word| word.wrapping_neg()).collect()
}

#[test]
fn a_member_is_a_survivor_or_a_dropout_and_never_both() {
    // A request that names members in two lists could name one in both; here there is one set, and one share of each.
    let outcome = Play::new(CLIENTS, CLIENTS).leaving(|number, step| number < 2 && step == Step::MaskedInput).run();
    outcome.assert_exact();
    for (_, message) in &outcome.taken {
        let Message::Unmask(unmask) = message else { continue };
        let indices: Vec<u32> = unmask.shares.iter().map(|(index, _)| *index).collect();
        assert_eq!(indices, (0..CLIENTS as u32).collect::<Vec<_>>(), "one share of each member");
        let mut twice = unmask.clone();
        twice.shares.push(twice.shares[0].clone());
        assert!(Message::from_bytes(&Message::Unmask(twice).to_bytes()).is_err());
    }
}

#[test]
fn no_two_masks_of_a_group_are_alike_and_none_is_constant() {
    // One value for all coordinates, or one secret for the whole group, would show here.
    let streams = streams(1, 1, 64);
    let mut seen = BTreeSet::new();
    for (number, masks) in streams.iter().enumerate() {
        assert_eq!(masks.len(), CLIENTS, "its own and one for each other");
        for words in masks {
            let distinct: BTreeSet<u32> = words.iter().copied().collect();
            assert!(distinct.len() > 60, "client {number}");
            seen.insert(words.clone().min(negative(words)));
        }
    }
    // Each pair has one stream, which one of both adds and the other takes away.
    assert_eq!(seen.len(), CLIENTS + CLIENTS * (CLIENTS - 1) / 2);
}

#[test]
fn no_mask_is_used_in_two_sessions() {
    let (one, same_again, next, fresh) = (streams(1, 1, 8), streams(1, 1, 8), streams(2, 1, 8), streams(1, 2, 8));
    assert_eq!(one, same_again, "these tests repeat themselves");
    let all = |streams: &[Vec<Vec<u32>>]| -> BTreeSet<Vec<u32>> { streams.iter().flatten().cloned().collect() };
    // Not even when every client's randomness is what it was before.
    assert!(all(&one).is_disjoint(&all(&next)));
    assert!(all(&one).is_disjoint(&all(&fresh)));
}

#[test]
fn masks_reach_both_ends_of_the_ring() {
    // Words of 16 bits out of a stream: the highest and the lowest must occur.
    let streams = streams(1, 1, 1 << 20);
    for words in [&streams[0][0], &streams[0][3]] {
        let halves: Vec<u16> = words.iter().flat_map(|word| [*word as u16, (word >> 16) as u16]).collect();
        assert!(halves.contains(&0) && halves.contains(&u16::MAX));
        let mut seen = vec![false; 1 << 16];
        halves.iter().for_each(|half| seen[usize::from(*half)] = true);
        assert!(seen.iter().all(|seen| *seen), "some value never occurs");
    }
}

#[test]
fn every_bit_of_a_seed_and_of_a_secret_changes_its_mask() {
    use testudo_protocol::{
        Digest,
        secagg::agreement::{Key, MASK_AES, SELF_AES},
    };
    let tau = Digest([4; 32]);
    let seed = [0x5a; 32];
    let mut keys = BTreeSet::from([*Key::of_seed(&seed, &tau, SELF_AES, 1).as_bytes()]);
    for bit in 0..256 {
        let mut other = seed;
        other[bit / 8] ^= 1 << (bit % 8);
        assert!(keys.insert(*Key::of_seed(&other, &tau, SELF_AES, 1).as_bytes()), "bit {bit}");
    }
    let theirs = SecretKey::from_bytes(&[9; 32]).public();
    let ends = Ends::Pair { ours: 1, theirs: 2 };
    let mut keys =
        BTreeSet::from([*SecretKey::from_bytes(&seed).agree(&theirs, &tau, MASK_AES, ends).unwrap().as_bytes()]);
    // X25519 fixes three low bits and two high ones.
    for bit in 3..254 {
        let mut other = seed;
        other[bit / 8] ^= 1 << (bit % 8);
        let key = SecretKey::from_bytes(&other).agree(&theirs, &tau, MASK_AES, ends).unwrap();
        assert!(keys.insert(*key.as_bytes()), "bit {bit}");
    }
}

#[test]
fn a_public_key_tells_its_secret_to_nobody() {
    for byte in 0..=255 {
        let secret = SecretKey::from_bytes(&[byte; 32]);
        assert_ne!(secret.public().0, *secret.to_bytes());
    }
    let ends = Ends::Pair { ours: 0, theirs: 1 };
    let agreed =
        SecretKey::from_bytes(&[1; 32]).agree(&PublicKey([0; 32]), &testudo_protocol::Digest([0; 32]), BOX, ends);
    assert_eq!(agreed.unwrap_err(), Refused::NonContributory);
}

#[test]
fn a_drop_before_sharing_ends_costs_its_own_input_only() {
    let outcome = Play::new(CLIENTS, CLIENTS).leaving(|number, step| number == 3 && step == Step::ShareKeys).run();
    outcome.assert_exact();
    assert_eq!(outcome.sums[0].survivors.len(), CLIENTS - 1);
}

#[test]
fn fewer_than_the_threshold_of_members_know_no_secret_together() {
    // Five of eight members put everything together that reached them; the threshold is six.
    let session = session(CLIENTS, CLIENTS, 4);
    let (states, entries) = forger::advertised(&session, CLIENTS, 1);
    let roster = |number: usize| forger::roster(&session, [7; 32], &entries, &client(number));
    let (terms, positions) = forger::terms(&session, &roster(0));
    let sharing = forger::shared(states, roster, 1);
    let victim = 0u32;
    let dealt = &sharing[positions[0] as usize].1;
    let held: Vec<(u32, Share)> = (1..terms.threshold as u32)
        .map(|index| {
            let number = positions[index as usize] as usize;
            let mut secret = [0; 32];
            generator(1, number)(&mut secret);
            let ends = Ends::Receiving { ours: index, theirs: victim };
            let victims = PublicKey(entries[positions[0] as usize].box_key);
            let key = SecretKey::from_bytes(&secret).agree(&victims, &terms.tau, BOX, ends).unwrap();
            let sealed = dealt.boxes.iter().find(|(to, _)| *to == index).unwrap();
            let route = Route { session: terms.tau, sender: victim, receiver: index };
            let content = open(&key, &route, &sealed.1).unwrap();
            (index, Share::from_bytes(&content[SHARE_BYTES..]).unwrap())
        })
        .collect();
    assert_eq!(held.len(), 5);
    let threshold = terms.threshold as u32;
    assert!(matches!(reconstruct(&held, threshold), Err(ShamirError::TooFew { have: 5, need: 6 })));
    // Whatever the sixth share is, it leads to another secret: none is more likely than another.
    let mut secrets = BTreeSet::new();
    let mut random = generator(77, 0);
    let mut found = 0;
    for _ in 0..200_000 {
        let mut bytes = [0; SHARE_BYTES];
        random(&mut bytes);
        bytes.iter_mut().skip(7).step_by(8).for_each(|byte| *byte &= 0x1f);
        let Ok(guess) = Share::from_bytes(&bytes) else { continue };
        let all: Vec<_> = held.iter().cloned().chain([(7, guess)]).collect();
        // Most are too wide to be a secret; those that are not are all different.
        if let Ok(secret) = reconstruct(&all, threshold) {
            found += 1;
            assert!(secrets.insert(*secret));
        }
        if found > 3 {
            break;
        }
    }
    // The other members' boxes are closed to these five.
    let number = positions[1] as usize;
    let mut secret = [0; 32];
    generator(1, number)(&mut secret);
    for (to, sealed) in dealt.boxes.iter().filter(|(to, _)| *to != 1) {
        let ends = Ends::Receiving { ours: 1, theirs: victim };
        let key = SecretKey::from_bytes(&secret)
            .agree(&PublicKey(entries[positions[0] as usize].box_key), &terms.tau, BOX, ends)
            .unwrap();
        for receiver in [1, *to] {
            let route = Route { session: terms.tau, sender: victim, receiver };
            assert!(open(&key, &route, sealed).is_err());
        }
    }
}

#[test]
fn a_robust_rule_still_has_rows_to_choose_from() {
    // One sum over the cohort would leave nothing for a rule to compare.
    let outcome: Outcome = Play::new(24, 6).run();
    let distinct: BTreeSet<Vec<u32>> = outcome.sums.iter().map(|sum| sum.sum.clone()).collect();
    assert_eq!(distinct.len(), 4);
}
