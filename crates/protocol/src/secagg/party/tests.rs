use super::*;
use crate::{
    ClientId, Digest, Effect, Input, PairwiseParams, Phase, Round, RoundParams, TaskName,
    secagg::{Announcement, Credentials, Message, Reply, Session, SigningKey, Step, VerifyingKey, assignment},
};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};
use std::sync::Mutex;
use testudo_aggregate::apply_masks;

const DIMENSION: usize = 37;

fn generator(seed: u64) -> impl FnMut(&mut [u8]) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    move |bytes| rng.fill_bytes(bytes)
}

fn client(number: usize) -> ClientId {
    ClientId::new(format!("client-{number:04}")).unwrap()
}

fn key(number: usize) -> SigningKey {
    SigningKey::from_bytes(&[number as u8 + 1; 32])
}

fn announcement(clients: usize, group_size: usize) -> (Announcement, PairwiseParams) {
    let server = SigningKey::from_bytes(&[200; 32]);
    let randomness = [7; 32];
    let session = Session {
        task: TaskName::new("task").unwrap(),
        id: [1; 32],
        round: 3,
        attempt: 1,
        model: Digest([2; 32]),
        plan: Digest([3; 32]),
        dimension: DIMENSION as u64,
        bits: 16,
        kappa: 1.0,
        clip_l2: 1.0,
        max_weight: 0,
        smallest_cohort: 2,
        group_size: group_size as u32,
        threshold: (2 * group_size / 3 + 1) as u32,
        colluders: 0.05,
        dropout: 0.1,
        mechanism: String::new(),
        noise: 0.0,
        delta: 0.0,
        honest: 0,
        rule: "mean".into(),
        accepted_weakness: String::new(),
        advertise_ms: 1000,
        step_ms: 1000,
        server: server.verifying_key(),
        authority: [0; 32],
        cohort: Digest::of(&[clients as u8]),
        commitment: assignment::commitment(&randomness),
    };
    let announcement = session.announce(&server);
    let params = PairwiseParams { announcement: announcement.clone(), key: server, randomness, least_groups: 1 };
    (announcement, params)
}

#[derive(Debug, Default)]
struct Memory(Mutex<Vec<Answered>>);

impl Answers for Memory {
    fn record(&self, answer: &Answered) -> Result<Recorded, String> {
        let mut known = self.0.lock().unwrap();
        let same = |known: &&Answered| (known.round, known.attempt) == (answer.round, answer.attempt);
        match known.iter().find(same) {
            Some(known) if known == answer => Ok(Recorded::Again),
            Some(known) => Ok(Recorded::Other(Box::new(known.clone()))),
            None => {
                known.push(answer.clone());
                Ok(Recorded::First)
            }
        }
    }
}

/// Runs a round; `leaves(client, step)` says before which step a client vanishes. Answers each opened group's survivors
/// and whether the unmasked sum is theirs.
fn run(clients: usize, group_size: usize, leaves: impl Fn(usize, Step) -> bool) -> Vec<(usize, bool)> {
    let (announcement, params) = announcement(clients, group_size);
    let cohort = (0..clients).map(client).collect();
    let mut round = Round::open_masked(RoundParams::new(cohort, clients, 2, 1000).unwrap(), params);
    let mut now = 1;
    let say = |round: &mut Round, now: u64, number: usize, message: Message| {
        round.handle(now, Input::Message { client: client(number), message: Box::new(message) }).unwrap();
    };
    let settle = |round: &mut Round, now: &mut u64, phase: Phase| {
        if round.phase() == phase {
            *now = round.deadline().unwrap();
            round.handle(*now, Input::Tick).unwrap();
        }
    };
    let mut advertised = Vec::new();
    for number in (0..clients).filter(|&number| !leaves(number, Step::AdvertiseKeys)) {
        let credentials = Credentials::unvouched(client(number), key(number));
        let mut random = generator(number as u64);
        let (state, message) = Advertised::new(&announcement, &credentials, number % 3 > 0, &mut random);
        say(&mut round, now, number, message);
        advertised.push((number, state, random));
    }
    settle(&mut round, &mut now, Phase::AdvertiseKeys);
    let mut sharing = Vec::new();
    for (number, state, mut random) in advertised {
        let Ok(Some(Reply::Roster(roster))) = round.reply(&client(number), Step::AdvertiseKeys) else { panic!() };
        let reread = Reply::from_bytes(&Reply::Roster(roster.clone()).to_bytes(), 0).unwrap();
        assert_eq!(reread, Reply::Roster(roster.clone()));
        let (state, message) = state.group(&roster, &Demands { group: 2 }, &mut random).unwrap();
        if !leaves(number, Step::ShareKeys) {
            assert_eq!(Message::from_bytes(&message.to_bytes()).unwrap(), message);
            say(&mut round, now, number, message);
            sharing.push((number, state));
        }
    }
    settle(&mut round, &mut now, Phase::ShareKeys);
    let mut inputs = std::collections::BTreeMap::new();
    let mut sent = Vec::new();
    for (number, state) in sharing {
        let Ok(Some(Reply::Shared(shared))) = round.reply(&client(number), Step::ShareKeys) else { continue };
        let state = state.shared(&shared).unwrap();
        let plain: Vec<u32> = (0..DIMENSION).map(|at| (number * 1000 + at) as u32).collect();
        let mut masked = plain.clone();
        apply_masks(&mut masked, 0, &state.masks().unwrap()).unwrap();
        if leaves(number, Step::MaskedInput) {
            continue;
        }
        let bytes: Vec<u8> = masked.iter().flat_map(|word| word.to_le_bytes()).collect();
        let digest = Digest::of(&bytes);
        round.handle(now, Input::Offer { client: client(number), digest }).unwrap();
        round.handle(now, Input::Recorded { client: client(number) }).unwrap();
        let (state, message) = state.input(digest);
        say(&mut round, now, number, message);
        inputs.insert(client(number), (plain, masked));
        sent.push((number, state));
    }
    settle(&mut round, &mut now, Phase::Input);
    let mut confirming = Vec::new();
    for (number, state) in sent {
        let Ok(Some(Reply::Survivors(survivors))) = round.reply(&client(number), Step::MaskedInput) else { continue };
        let (state, message) = state.survivors(&survivors).unwrap();
        if !leaves(number, Step::Consistency) {
            say(&mut round, now, number, message);
            confirming.push((number, state));
        }
    }
    settle(&mut round, &mut now, Phase::Consistency);
    let answers = Memory::default();
    for (number, state) in confirming {
        let Ok(Some(Reply::Confirmed(confirmed))) = round.reply(&client(number), Step::Consistency) else { continue };
        answers.0.lock().unwrap().clear();
        let message = state.confirmed(&confirmed).unwrap().give(&answers).unwrap();
        if !leaves(number, Step::Unmask) {
            say(&mut round, now, number, message);
            assert_eq!(round.reply(&client(number), Step::Unmask), Ok(Some(Reply::Done)));
        }
    }
    settle(&mut round, &mut now, Phase::Unmask);
    let mut outcome = Vec::new();
    for opening in round.openings() {
        let opened = opening.open().unwrap();
        assert!(opened.wrong.is_empty());
        let (mut sum, mut expected) = (vec![0u32; DIMENSION], vec![0u32; DIMENSION]);
        for survivor in &opened.survivors {
            let (plain, masked) = &inputs[survivor];
            sum.iter_mut().zip(masked).for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
            expected.iter_mut().zip(plain).for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
        }
        apply_masks(&mut sum, 0, &opened.masks).unwrap();
        outcome.push((opened.survivors.len(), sum == expected));
    }
    outcome
}

#[test]
fn a_round_without_dropouts_unmasks_every_group() {
    assert_eq!(run(19, 6, |_, _| false), [(7, true), (6, true), (6, true)]);
}

#[test]
fn dropouts_in_every_phase_leave_the_sum_of_the_survivors() {
    for step in [Step::AdvertiseKeys, Step::ShareKeys, Step::MaskedInput, Step::Consistency, Step::Unmask] {
        let outcome = run(16, 16, |number, at| at == step && number % 5 == 0);
        let survivors = if step < Step::Consistency { 12 } else { 16 };
        assert_eq!(outcome, [(survivors, true)], "{step:?}");
    }
}

#[test]
fn a_group_below_its_threshold_is_lost_alone() {
    let outcome = run(24, 8, |number, at| at == Step::MaskedInput && number < 12);
    assert!(outcome.len() < 3 && outcome.iter().all(|(_, exact)| *exact), "{outcome:?}");
}

#[test]
fn a_sparse_group_unmasks() {
    let outcome = run(128, 128, |number, at| at == Step::MaskedInput && number % 20 == 3);
    assert_eq!(outcome, [(121, true)]);
}

#[test]
fn the_servers_key_is_a_clients_to_check() {
    let (announcement, _) = announcement(4, 4);
    let bytes = announcement.to_bytes();
    assert_eq!(Announcement::from_bytes(&bytes).unwrap(), announcement);
    for at in (0..bytes.len()).step_by(7) {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        assert!(Announcement::from_bytes(&bad).is_err(), "byte {at}");
    }
    assert_ne!(announcement.session.server, VerifyingKey([0; 32]));
    let _ = Effect::Advanced(Phase::Input);
}
