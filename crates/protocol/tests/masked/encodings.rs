//! Decoders and the machine, fed with anything.

use crate::harness::{Play, client, server_key, session};
use proptest::prelude::*;
use std::sync::LazyLock;
use testudo_protocol::{
    Digest, Input, PairwiseParams, Phase, Reason, Round, RoundParams,
    secagg::{Announcement, Message, Reply, Step},
};

const CLIENTS: usize = 5;

/// What an honest round of five says, and the payloads' digests.
static HONEST: LazyLock<Vec<(usize, Message)>> = LazyLock::new(|| Play::new(CLIENTS, CLIENTS).run().taken);

/// What each client of an honest round hears.
static HEARD: LazyLock<Vec<Reply>> = LazyLock::new(|| {
    let heard = std::cell::RefCell::new(vec![Reply::Done]);
    Play::new(CLIENTS, CLIENTS)
        .hearing(|_, _, reply| {
            heard.borrow_mut().push(reply.clone());
            reply
        })
        .run();
    heard.into_inner()
});

/// Bytes of something real, changed a little; or anything.
fn mutated(real: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let near = (prop::sample::select(real), changes, any::<prop::sample::Index>(), 0..4u8);
    let near = near.prop_map(|(mut bytes, changes, at, cut)| {
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        match cut {
            0 => bytes.truncate(at.index(bytes.len())),
            1 => bytes.insert(at.index(bytes.len()), 7),
            _ => {}
        }
        bytes
    });
    prop_oneof![8 => near, 1 => prop::collection::vec(any::<u8>(), 0..400)]
}

proptest! {
    #[test]
    fn whatever_reads_as_a_message_is_written_the_same(
        bytes in mutated(HONEST.iter().map(|(_, message)| message.to_bytes()).collect())
    ) {
        if let Ok(message) = Message::from_bytes(&bytes) {
            prop_assert_eq!(message.to_bytes(), bytes);
        }
    }

    #[test]
    fn whatever_reads_as_a_reply_is_written_the_same(
        bytes in mutated(HEARD.iter().map(Reply::to_bytes).collect()),
        members in prop::sample::select(vec![0, CLIENTS, 8, 100_000]),
    ) {
        if let Ok(reply) = Reply::from_bytes(&bytes, members) {
            prop_assert_eq!(reply.to_bytes(), bytes);
        }
    }

    #[test]
    fn only_the_servers_own_bytes_read_as_its_announcement(
        bytes in mutated(vec![session(5, 5, 37).announce(&server_key()).to_bytes()])
    ) {
        let real = session(5, 5, 37).announce(&server_key());
        if let Ok(read) = Announcement::from_bytes(&bytes) {
            prop_assert_eq!(&read, &real);
            prop_assert_eq!(read.to_bytes(), bytes);
        }
    }

    #[test]
    fn the_machine_takes_anything_in_any_order_and_opens_nothing_below_its_threshold(
        steps in prop::collection::vec((0u8..8, any::<prop::sample::Index>(), 0..CLIENTS), 0..120)
    ) {
        let mut round = machine();
        let mut now = 1;
        for (kind, pick, number) in steps {
            let (owner, message) = &HONEST[pick.index(HONEST.len())];
            let input = match kind {
                // Mostly what its owner said, or another client in its place.
                0..=3 => Input::Message { client: client(*owner), message: Box::new(message.clone()) },
                4 => Input::Message { client: client(number), message: Box::new(message.clone()) },
                5 => offered(number).unwrap_or(Input::Tick),
                6 => Input::Recorded { client: client(number) },
                _ if number == 0 => Input::Withdraw { client: client(pick.index(CLIENTS)) },
                _ => {
                    now += if number < 3 { 1 } else { 500 };
                    Input::Tick
                }
            };
            check(&mut round, now, input)?;
        }
    }
}

fn machine() -> Round {
    let announcement = session(CLIENTS, CLIENTS, 37).announce(&server_key());
    let params = PairwiseParams { announcement, key: server_key(), randomness: [7; 32], least_groups: 1 };
    Round::open_masked(RoundParams::new((0..CLIENTS).map(client).collect(), CLIENTS, CLIENTS, 1000).unwrap(), params)
}

/// What a client offers in the honest round.
fn offered(number: usize) -> Option<Input> {
    HONEST.iter().find_map(|(by, message)| match message {
        Message::Input(input) if *by == number => Some(Input::Offer { client: client(number), digest: input.upload }),
        _ => None,
    })
}

fn check(round: &mut Round, now: u64, input: Input) -> Result<(), TestCaseError> {
    let before = (round.phase(), round.deadline(), round.seats().map(|(_, seat)| seat).collect::<Vec<_>>());
    let refused = round.handle(now, input).is_err();
    let after = (round.phase(), round.deadline(), round.seats().map(|(_, seat)| seat).collect::<Vec<_>>());
    prop_assert!(after.0 >= before.0, "a phase comes back");
    prop_assert!(!refused || before == after, "a refused input changed something");
    for opening in round.openings() {
        prop_assert_eq!(round.phase(), Phase::Closed);
        let opened = opening.open();
        prop_assert!(opened.is_ok_and(|opened| opened.survivors.len() >= opening.terms.threshold));
    }
    for number in 0..CLIENTS {
        for step in crate::harness::STEPS {
            let reply = round.reply(&client(number), step);
            let shown = matches!(reply, Ok(Some(_)));
            prop_assert!(!shown || round.phase() > Phase::AdvertiseKeys);
        }
    }
    Ok(())
}

#[test]
fn the_honest_round_of_these_tests_ends_with_a_sum() {
    let mut round = machine();
    let mut said: Vec<&(usize, Message)> = HONEST.iter().collect();
    said.sort_by_key(|(_, message)| message.step());
    for (number, message) in said {
        if message.step() == Step::MaskedInput {
            check(&mut round, 1, offered(*number).unwrap()).unwrap();
            check(&mut round, 1, Input::Recorded { client: client(*number) }).unwrap();
        }
        check(&mut round, 1, Input::Message { client: client(*number), message: Box::new(message.clone()) }).unwrap();
    }
    assert_eq!((round.phase(), round.openings().len()), (Phase::Closed, 1));
    let late = round.handle(1, Input::Offer { client: client(0), digest: Digest([0; 32]) });
    assert_eq!(late.unwrap_err().reason, Reason::Duplicate);
}

#[test]
fn an_opening_of_too_few_survivors_gives_nothing() {
    let mut play = Play::new(CLIENTS, CLIENTS);
    play.seed = 2;
    let _ = play.run();
    let mut round = machine();
    let mut said: Vec<&(usize, Message)> = HONEST.iter().collect();
    said.sort_by_key(|(_, message)| message.step());
    for (number, message) in said {
        assert!(round.openings().is_empty(), "before the round is closed");
        if message.step() == Step::MaskedInput {
            round.handle(1, offered(*number).unwrap()).unwrap();
            round.handle(1, Input::Recorded { client: client(*number) }).unwrap();
        }
        round.handle(1, Input::Message { client: client(*number), message: Box::new(message.clone()) }).unwrap();
    }
    let mut opening = round.openings().remove(0);
    assert!(opening.open().is_ok());
    let all = opening.survivors.clone();
    opening.survivors = testudo_protocol::secagg::Bitmap::of(CLIENTS, |index| index < 3);
    assert!(opening.open().is_err(), "three of five, threshold four");
    opening.survivors = testudo_protocol::secagg::Bitmap::empty(CLIENTS);
    opening.shared = testudo_protocol::secagg::Bitmap::empty(CLIENTS);
    assert!(opening.open().is_err(), "nobody at all");
    opening.survivors = all;
    assert!(opening.open().is_err(), "survivors that did not share");
}
