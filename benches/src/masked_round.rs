//! A masked round in memory, with an enrolment authority and clients that vanish after they shared their keys.

use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};
use std::collections::BTreeMap;
use testudo_aggregate::{Mask, apply_masks};
use testudo_protocol::{
    ClientId, Digest, Input, PairwiseParams, Phase, Round, RoundParams, TaskName,
    secagg::{
        Advertised, Announcement, Answered, Answers, Certificate, Confirming, Credentials, Demands, Masking, Message,
        Opening, Recorded, Reply, Sent, Session, Sharing, SigningKey, Step, assignment,
    },
};

/// A round that waits to be unmasked, and one client's part in it, which can be played again and again.
#[derive(Debug)]
pub struct MaskedRound {
    /// Every group that can be opened.
    pub openings: Vec<Opening>,
    /// The part of a client that stayed to the end.
    pub part: Part,
}

/// What one client was told. Its own randomness follows from a seed, so that playing it again says the same.
#[derive(Debug)]
pub struct Part {
    announcement: Announcement,
    number: usize,
    roster: Reply,
    shared: Reply,
    survivors: Reply,
    confirmed: Reply,
    upload: Digest,
    /// Bytes of its messages.
    pub up: usize,
    /// Bytes of the announcement and the answers.
    pub down: usize,
}

/// What every client insists on.
const DEMANDS: Demands = Demands { group: 2, colluders: 0.0 };

/// Answers that are forgotten.
#[derive(Debug)]
struct Forgetful;

impl Answers for Forgetful {
    fn earlier(&self, _: &Session) -> Result<Option<Answered>, String> {
        Ok(None)
    }

    fn record(&self, _: &Answered) -> Result<Recorded, String> {
        Ok(Recorded::First)
    }
}

/// The steps of one client so far.
enum State {
    Advertised(Box<Advertised>, ChaCha20Rng),
    Sharing(Box<Sharing>),
    Sent(Sent),
    Confirming(Confirming),
}

impl MaskedRound {
    /// Runs a round of `clients` in groups of `group_size`, in which `vanish(group, index)` share keys and upload
    /// nothing. The first client that stays is the one whose part is kept.
    ///
    /// # Panics
    /// If a step fails, which a round of honest clients cannot.
    pub fn run(clients: usize, group_size: usize, vanish: impl Fn(u32, usize) -> bool) -> Self {
        let (announcement, params) = announcement(group_size);
        let cohort = (0..clients).map(client).collect();
        let params = (RoundParams::new(cohort, clients, 2, 1000).expect("the cohort is in bounds"), params);
        let mut round = Round::open_masked(params.0, params.1);
        let mut states: BTreeMap<usize, State> = BTreeMap::new();
        for number in 0..clients {
            let (state, random, message) = advertise(&announcement, number);
            say(&mut round, number, message);
            states.insert(number, State::Advertised(Box::new(state), random));
        }
        let mut kept: BTreeMap<usize, (Reply, Vec<usize>)> = BTreeMap::new();
        let mut gone = Vec::new();
        for (number, state) in &mut states {
            let State::Advertised(..) = state else { continue };
            let reply = answer(&round, *number, Step::AdvertiseKeys);
            let Reply::Roster(roster) = &reply else { unreachable!("the step's answer") };
            let place = roster.members.iter().position(|member| member.entry.client() == &client(*number));
            if vanish(roster.group, place.expect("a client is in its group")) {
                gone.push(*number);
            }
            kept.insert(*number, (reply, Vec::new()));
        }
        let stays = (0..clients).find(|number| !gone.contains(number)).expect("somebody stays");
        let mut next = BTreeMap::new();
        for (number, state) in states {
            let State::Advertised(state, mut random) = state else { continue };
            let Some((Reply::Roster(roster), _)) = kept.get(&number) else { continue };
            let grouped = state.group(roster, &DEMANDS, &mut |bytes| random.fill_bytes(bytes));
            let (state, message) = grouped.expect("the roster is honest");
            say(&mut round, number, message);
            next.insert(number, State::Sharing(Box::new(state)));
        }
        let roster = kept.remove(&stays).expect("it was told its group").0;
        let shared = answer(&round, stays, Step::ShareKeys);
        let upload = Digest::of(b"a masked input");
        let mut sent = BTreeMap::new();
        for (number, state) in next {
            if gone.contains(&number) {
                continue;
            }
            let State::Sharing(state) = state else { continue };
            let Reply::Shared(shared) = answer(&round, number, Step::ShareKeys) else { continue };
            let state: Masking = state.shared(&shared).expect("the shares are honest");
            let name = client(number);
            round.handle(1, Input::Offer { client: name.clone(), digest: upload }).expect("it may upload");
            round.handle(1, Input::Recorded { client: name }).expect("it was offered");
            let (state, message) = state.input(upload);
            say(&mut round, number, message);
            sent.insert(number, State::Sent(state));
        }
        settle(&mut round, Phase::Input);
        let survivors = answer(&round, stays, Step::MaskedInput);
        let mut confirming = BTreeMap::new();
        for (number, state) in sent {
            let State::Sent(state) = state else { continue };
            let Reply::Survivors(survivors) = answer(&round, number, Step::MaskedInput) else { continue };
            let (state, message) = state.survivors(&survivors).expect("the survivors are honest");
            say(&mut round, number, message);
            confirming.insert(number, State::Confirming(state));
        }
        let confirmed = answer(&round, stays, Step::Consistency);
        for (number, state) in confirming {
            let State::Confirming(state) = state else { continue };
            let Reply::Confirmed(confirmed) = answer(&round, number, Step::Consistency) else { continue };
            let ready = state.confirmed(&confirmed).expect("everybody signed");
            say(&mut round, number, ready.give(&Forgetful).expect("it is the first answer"));
        }
        let down = [&roster, &shared, &survivors, &confirmed].map(|reply| reply.to_bytes().len()).iter().sum::<usize>();
        let down = down + announcement.to_bytes().len();
        let number = stays;
        let mut part = Part { announcement, number, roster, shared, survivors, confirmed, upload, up: 0, down };
        part.up = part.play(|_| part.upload);
        Self { openings: round.openings(), part }
    }
}

impl Part {
    /// Plays the part: keys, shares, masks, signatures, the one answer. `input` turns the masks into the upload's digest;
    /// whatever it is, the server's answers are those to the upload of the round. Answers the bytes of all messages.
    ///
    /// # Panics
    /// If a step fails, which it did not when it was played first.
    pub fn play(&self, input: impl FnOnce(&[Mask]) -> Digest) -> usize {
        let (state, mut random, advertise) = advertise(&self.announcement, self.number);
        let Reply::Roster(roster) = &self.roster else { unreachable!("the step's answer") };
        let grouped = state.group(roster, &DEMANDS, &mut |bytes| random.fill_bytes(bytes));
        let (state, shares) = grouped.expect("the roster is honest");
        let Reply::Shared(shared) = &self.shared else { unreachable!("the step's answer") };
        let state = state.shared(shared).expect("the shares are honest");
        input(&state.masks().expect("the keys are honest"));
        let (state, sent) = state.input(self.upload);
        let Reply::Survivors(survivors) = &self.survivors else { unreachable!("the step's answer") };
        let (state, consistency) = state.survivors(survivors).expect("the survivors are honest");
        let Reply::Confirmed(confirmed) = &self.confirmed else { unreachable!("the step's answer") };
        let unmask = state.confirmed(confirmed).expect("everybody signed").give(&Forgetful);
        let unmask = unmask.expect("it is the first answer");
        [advertise, shares, sent, consistency, unmask].iter().map(|message| message.to_bytes().len()).sum()
    }
}

/// A quantised update as it leaves the device: masked, as bytes, with its digest.
pub fn masked_payload(levels: &mut [u32], masks: &[Mask]) -> (Vec<u8>, Digest) {
    apply_masks(levels, 0, masks).expect("it is short");
    let mut bytes = vec![0; levels.len() * 4];
    for (four, level) in bytes.chunks_exact_mut(4).zip(&*levels) {
        four.copy_from_slice(&level.to_le_bytes());
    }
    let digest = Digest::of(&bytes);
    (bytes, digest)
}

fn announcement(group_size: usize) -> (Announcement, PairwiseParams) {
    let server = SigningKey::from_bytes(&[200; 32]);
    let randomness = [7; 32];
    let session = Session {
        task: TaskName::new("bench").expect("a name"),
        id: [1; 32],
        round: 1,
        attempt: 1,
        model: Digest([2; 32]),
        plan: Digest([3; 32]),
        dimension: 1_000_000,
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
        authority: authority().verifying_key().0,
        cohort: Digest([4; 32]),
        commitment: assignment::commitment(&randomness),
    };
    let announcement = session.announce(&server);
    let params = PairwiseParams { announcement: announcement.clone(), key: server, randomness, least_groups: 1 };
    (announcement, params)
}

fn advertise(announcement: &Announcement, number: usize) -> (Advertised, ChaCha20Rng, Message) {
    let mut seed = [9; 32];
    seed[..8].copy_from_slice(&(number as u64).to_le_bytes());
    let key = SigningKey::from_bytes(&seed);
    let certificate = Certificate::issue(&authority(), client(number), key.verifying_key()).expect("a good key");
    let mut random = ChaCha20Rng::seed_from_u64(number as u64);
    let credentials = Credentials { certificate, key };
    let fresh = Advertised::new(announcement, &credentials, &Forgetful, true, &mut |bytes| random.fill_bytes(bytes));
    let (state, message) = fresh.expect("nothing was answered before");
    (state, random, message)
}

fn authority() -> SigningKey {
    SigningKey::from_bytes(&[100; 32])
}

fn client(number: usize) -> ClientId {
    ClientId::new(format!("client-{number:04}")).expect("a name")
}

fn say(round: &mut Round, number: usize, message: Message) {
    round.handle(1, Input::Message { client: client(number), message: Box::new(message) }).expect("the message is due");
}

fn answer(round: &Round, number: usize, step: Step) -> Reply {
    round.reply(&client(number), step).expect("the step was its own").expect("the step has ended")
}

/// Ends a phase in which somebody is still waited for.
fn settle(round: &mut Round, phase: Phase) {
    if round.phase() == phase {
        let deadline = round.deadline().expect("every phase has one");
        round.handle(deadline, Input::Tick).expect("a tick is always due");
    }
}
