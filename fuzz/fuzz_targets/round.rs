//! The server's machine: real messages in any order, from anybody, at any time.
#![no_main]

#[path = "../../crates/protocol/tests/masked/forger.rs"]
#[allow(dead_code)]
mod forger;
#[path = "../../crates/protocol/tests/masked/harness.rs"]
#[allow(dead_code)]
mod harness;
#[path = "../../crates/protocol/tests/masked/statements.rs"]
#[allow(dead_code)]
mod statements;

use harness::{Play, client, server_key, session};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use testudo_protocol::{
    Input, PairwiseParams, Phase, Round, RoundParams,
    secagg::Message,
};

const CLIENTS: usize = 4;

/// What an honest round says.
static HONEST: LazyLock<Vec<(usize, Message)>> = LazyLock::new(|| Play::new(CLIENTS, CLIENTS).run().taken);

fuzz_target!(|steps: &[u8]| {
    let announcement = session(CLIENTS, CLIENTS, 37).announce(&server_key());
    let params = PairwiseParams { announcement, key: server_key(), randomness: [7; 32], least_groups: 1 };
    let cohort = (0..CLIENTS).map(client).collect();
    let Ok(params_of_round) = RoundParams::new(cohort, CLIENTS, CLIENTS, 1000) else { return };
    let mut round = Round::open_masked(params_of_round, params);
    let mut now = 1;
    for step in steps.chunks_exact(2).take(200) {
        let (kind, pick) = (step[0], usize::from(step[1]));
        let who = client(pick % CLIENTS);
        let (owner, message) = &HONEST[pick % HONEST.len()];
        let uploads = HONEST.iter().find_map(|(by, message)| match message {
            Message::Input(input) if *by == pick % CLIENTS => Some(input.upload),
            _ => None,
        });
        let input = match (kind % 8, uploads) {
            (0..=3, _) => Input::Message { client: client(*owner), message: Box::new(message.clone()) },
            (4, _) => Input::Message { client: client(usize::from(kind / 8) % CLIENTS), message: Box::new(message.clone()) },
            (5, Some(digest)) => Input::Offer { client: who, digest },
            (6, _) => Input::Recorded { client: who },
            (7, _) if kind < 32 => Input::Withdraw { client: who },
            _ => {
                now += 1 + 4 * u64::from(kind / 8);
                Input::Tick
            }
        };
        let before = (round.phase(), round.deadline(), round.seats().map(|(_, seat)| seat).collect::<Vec<_>>());
        let refused = round.handle(now, input).is_err();
        let after = (round.phase(), round.deadline(), round.seats().map(|(_, seat)| seat).collect::<Vec<_>>());
        assert!(after.0 >= before.0);
        assert!(!refused || before == after);
        for opening in round.openings() {
            assert_eq!(round.phase(), Phase::Closed);
            assert!(opening.open().is_ok_and(|opened| opened.survivors.len() >= opening.terms.threshold));
        }
    }
});
