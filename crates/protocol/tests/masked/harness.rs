//! Plays a masked round: real parties, the real machine, and hooks where an adversary changes what is said or heard.

use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};
use std::{collections::BTreeMap, sync::Mutex};
use testudo_aggregate::{Mask, apply_masks};
use testudo_protocol::{
    Abandon, ClientId, Digest, Effect, GroupRecord, Input, PairwiseParams, Phase, Reason, Reject, Round, RoundParams,
    TaskName, Tick,
    secagg::{
        Abort, Advertised, Announcement, Answered, Answers, Confirming, Credentials, Demands, Lost, Masking, Message,
        Misfit, Recorded, Reply, Roster, Sent, Session, Sharing, Signature, SigningKey, Step, Terms, assignment,
    },
};

pub(crate) const STEPS: [Step; 5] =
    [Step::AdvertiseKeys, Step::ShareKeys, Step::MaskedInput, Step::Consistency, Step::Unmask];
/// What a client insists on in these rounds.
pub(crate) const DEMANDS: Demands = Demands { group: 2, colluders: 0.05 };
const RANDOMNESS: [u8; 32] = [7; 32];

/// A client's randomness: a function of its number and the round's seed.
pub(crate) fn generator(seed: u64, number: usize) -> impl FnMut(&mut [u8]) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed << 32 | number as u64);
    move |bytes| rng.fill_bytes(bytes)
}

pub(crate) fn client(number: usize) -> ClientId {
    ClientId::new(format!("client-{number:04}")).unwrap()
}

pub(crate) fn number(client: &ClientId) -> usize {
    client.as_str()["client-".len()..].parse().unwrap()
}

/// A client's long-lived key.
pub(crate) fn key(number: usize) -> SigningKey {
    SigningKey::from_bytes(&Digest::of(format!("key {number}").as_bytes()).0)
}

pub(crate) fn server_key() -> SigningKey {
    SigningKey::from_bytes(&[200; 32])
}

pub(crate) fn session(clients: usize, group_size: usize, dimension: usize) -> Session {
    Session {
        task: TaskName::new("task").unwrap(),
        id: [1; 32],
        round: 3,
        attempt: 1,
        model: Digest([2; 32]),
        plan: Digest([3; 32]),
        dimension: dimension as u64,
        bits: 16,
        kappa: 1.0,
        clip_l2: 1.0,
        max_weight: 0,
        smallest_cohort: group_size as u32,
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
        server: server_key().verifying_key(),
        authority: [0; 32],
        cohort: Digest::of(&clients.to_le_bytes()),
        commitment: assignment::commitment(&RANDOMNESS),
    }
}

/// A device's memory of its answers.
#[derive(Debug, Default)]
pub(crate) struct Memory(pub(crate) Mutex<Vec<Answered>>);

impl Answers for Memory {
    fn earlier(&self, session: &Session) -> Result<Option<Answered>, String> {
        let same = |known: &&Answered| {
            (known.server, &known.task, known.round, known.attempt)
                == (session.server, &session.task, session.round, session.attempt)
        };
        Ok(self.0.lock().unwrap().iter().find(same).cloned())
    }

    fn record(&self, answer: &Answered) -> Result<Recorded, String> {
        let mut known = self.0.lock().unwrap();
        let same = |known: &&Answered| {
            (known.server, &known.task, known.round, known.attempt)
                == (answer.server, &answer.task, answer.round, answer.attempt)
        };
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

/// What an adversary knows of the round that is played.
pub(crate) struct Table {
    pub(crate) announcement: Announcement,
    /// The rosters that the machine showed.
    pub(crate) rosters: BTreeMap<usize, Roster>,
}

impl Table {
    /// The terms of a client's group and its index there.
    pub(crate) fn terms(&self, number: usize) -> (Terms, u32) {
        let roster = &self.rosters[&number];
        let session = &self.announcement.session;
        let (terms, _) = crate::forger::terms(session, roster);
        let own = roster.members.iter().find(|member| *member.entry.client() == client(number)).unwrap();
        (terms, own.index)
    }
}

type Leaves<'a> = Box<dyn Fn(usize, Step) -> bool + 'a>;
type Says<'a> = Box<dyn FnMut(&Table, usize, Message) -> Vec<Message> + 'a>;
type Hears<'a> = Box<dyn FnMut(&Table, usize, Reply) -> Reply + 'a>;
type Sends<'a> = Box<dyn FnMut(usize, &[Mask], Vec<u32>) -> Option<Vec<u32>> + 'a>;

/// A round to be played; honest unless a hook is set.
pub(crate) struct Play<'a> {
    pub(crate) clients: usize,
    pub(crate) session: Session,
    /// Whether a client vanishes before a step.
    pub(crate) leaves: Leaves<'a>,
    /// What a client says instead of its message.
    pub(crate) says: Says<'a>,
    /// What a client hears instead of the machine's reply.
    pub(crate) hears: Hears<'a>,
    /// From the plain input to what is uploaded, with the masks; `None` uploads nothing.
    pub(crate) sends: Sends<'a>,
    pub(crate) inputs: Box<dyn Fn(usize) -> Vec<u32> + 'a>,
    pub(crate) credentials: Box<dyn Fn(usize) -> Credentials + 'a>,
    pub(crate) seed: u64,
    pub(crate) answers: BTreeMap<usize, Memory>,
    /// What is said once a phase has ended.
    pub(crate) later: Box<dyn FnMut(Phase) -> Vec<(usize, Message)> + 'a>,
    now: Tick,
    outcome: Outcome,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) aborts: BTreeMap<usize, (Step, Abort)>,
    pub(crate) rejects: Vec<(usize, Step, Reject)>,
    pub(crate) abandoned: Option<Abandon>,
    pub(crate) closed: bool,
    pub(crate) sums: Vec<Sum>,
    pub(crate) lost: Vec<(u32, Lost)>,
    pub(crate) records: Vec<GroupRecord>,
    pub(crate) plain: BTreeMap<usize, Vec<u32>>,
    pub(crate) uploads: BTreeMap<usize, Vec<u32>>,
    /// Every message that the machine took.
    pub(crate) taken: Vec<(usize, Message)>,
}

/// One opened group.
pub(crate) struct Sum {
    pub(crate) group: u32,
    pub(crate) survivors: Vec<usize>,
    pub(crate) sum: Vec<u32>,
    pub(crate) masks: usize,
    pub(crate) misfits: Vec<Misfit>,
}

/// Applies masks to a plain input as every honest client does.
pub(crate) fn masked(masks: &[Mask], mut plain: Vec<u32>) -> Vec<u32> {
    apply_masks(&mut plain, 0, masks).unwrap();
    plain
}

pub(crate) fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub(crate) fn add(sum: &mut [u32], words: &[u32]) {
    sum.iter_mut().zip(words).for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
}

impl<'a> Play<'a> {
    pub(crate) fn new(clients: usize, group_size: usize) -> Self {
        Self::of(clients, session(clients, group_size, 37))
    }

    pub(crate) fn of(clients: usize, session: Session) -> Self {
        let dimension = session.dimension as usize;
        Self {
            clients,
            session,
            leaves: Box::new(|_, _| false),
            says: Box::new(|_, _, message| vec![message]),
            hears: Box::new(|_, _, reply| reply),
            sends: Box::new(|_, masks, plain| Some(masked(masks, plain))),
            inputs: Box::new(move |number| (0..dimension).map(|at| (number * 1000 + at) as u32 & 0xffff).collect()),
            credentials: Box::new(|number| Credentials::unvouched(client(number), key(number))),
            seed: 1,
            answers: BTreeMap::new(),
            later: Box::new(|_| Vec::new()),
            now: 1,
            outcome: Outcome::default(),
        }
    }

    pub(crate) fn leaving(mut self, leaves: impl Fn(usize, Step) -> bool + 'a) -> Self {
        self.leaves = Box::new(leaves);
        self
    }

    pub(crate) fn saying(mut self, says: impl FnMut(&Table, usize, Message) -> Vec<Message> + 'a) -> Self {
        self.says = Box::new(says);
        self
    }

    pub(crate) fn hearing(mut self, hears: impl FnMut(&Table, usize, Reply) -> Reply + 'a) -> Self {
        self.hears = Box::new(hears);
        self
    }

    pub(crate) fn run(mut self) -> Outcome {
        let announcement = self.session.clone().announce(&server_key());
        let params = PairwiseParams {
            announcement: announcement.clone(),
            key: server_key(),
            randomness: RANDOMNESS,
            least_groups: 1,
        };
        let cohort = (0..self.clients).map(client).collect();
        let minimum = 1.max(self.session.smallest_cohort as usize).min(self.clients);
        let mut round = Round::open_masked(RoundParams::new(cohort, self.clients, minimum, 1000).unwrap(), params);
        let mut table = Table { announcement, rosters: BTreeMap::new() };
        let advertised = self.advertise(&mut round, &table);
        let sharing = self.share(&mut round, &mut table, advertised);
        let sent = self.mask(&mut round, &table, sharing);
        let confirming = self.confirm(&mut round, &table, sent);
        self.unmask(&mut round, &table, confirming);
        self.open(&round);
        self.outcome
    }

    fn advertise(&mut self, round: &mut Round, table: &Table) -> Vec<(usize, Advertised, ChaCha20Rng)> {
        let mut states = Vec::new();
        for number in 0..self.clients {
            if (self.leaves)(number, Step::AdvertiseKeys) {
                continue;
            }
            let mut rng = ChaCha20Rng::seed_from_u64(self.seed << 32 | number as u64);
            let mut random = |bytes: &mut [u8]| rng.fill_bytes(bytes);
            let answers = self.answers.entry(number).or_default();
            let credentials = (self.credentials)(number);
            let joined = Advertised::new(&table.announcement, &credentials, answers, number % 3 > 0, &mut random);
            match joined {
                Ok((state, message)) => {
                    self.say(round, table, number, message);
                    states.push((number, state, rng));
                }
                Err(abort) => self.aborted(number, Step::AdvertiseKeys, abort),
            }
        }
        self.settle(round, Phase::AdvertiseKeys);
        states
    }

    fn share(
        &mut self,
        round: &mut Round,
        table: &mut Table,
        states: Vec<(usize, Advertised, ChaCha20Rng)>,
    ) -> Vec<(usize, Sharing)> {
        for (number, ..) in &states {
            if let Ok(Some(Reply::Roster(roster))) = round.reply(&client(*number), Step::AdvertiseKeys) {
                table.rosters.insert(*number, *roster);
            }
        }
        let mut next = Vec::new();
        for (number, state, mut rng) in states {
            let Some(Reply::Roster(roster)) = self.hear(round, table, number, Step::AdvertiseKeys) else { continue };
            let mut random = |bytes: &mut [u8]| rng.fill_bytes(bytes);
            match state.group(&roster, &DEMANDS, &mut random) {
                Ok(_) if (self.leaves)(number, Step::ShareKeys) => {}
                Ok((state, message)) => {
                    if self.say(round, table, number, message) {
                        next.push((number, state));
                    }
                }
                Err(abort) => self.aborted(number, Step::AdvertiseKeys, abort),
            }
        }
        self.settle(round, Phase::ShareKeys);
        next
    }

    fn mask(&mut self, round: &mut Round, table: &Table, states: Vec<(usize, Sharing)>) -> Vec<(usize, Sent)> {
        let mut next = Vec::new();
        for (number, state) in states {
            let Some(Reply::Shared(shared)) = self.hear(round, table, number, Step::ShareKeys) else { continue };
            let masking = state.shared(&shared).and_then(|state: Masking| state.masks().map(|masks| (state, masks)));
            let (state, masks) = match masking {
                Ok(masking) => masking,
                Err(abort) => {
                    self.aborted(number, Step::ShareKeys, abort);
                    continue;
                }
            };
            if (self.leaves)(number, Step::MaskedInput) {
                continue;
            }
            let plain = (self.inputs)(number);
            let upload = (self.sends)(number, &masks, plain.clone());
            let digest = Digest::of(&bytes_of(upload.as_deref().unwrap_or_default()));
            if let Some(upload) = upload {
                let offered = round.handle(self.now, Input::Offer { client: client(number), digest });
                if offered.is_err() {
                    continue;
                }
                let effects = round.handle(self.now, Input::Recorded { client: client(number) }).unwrap();
                self.effects(effects);
                self.outcome.plain.insert(number, plain);
                self.outcome.uploads.insert(number, upload);
            }
            let (state, message) = state.input(digest);
            if self.say(round, table, number, message) {
                next.push((number, state));
            }
        }
        self.settle(round, Phase::Input);
        next
    }

    fn confirm(&mut self, round: &mut Round, table: &Table, states: Vec<(usize, Sent)>) -> Vec<(usize, Confirming)> {
        let mut next = Vec::new();
        for (number, state) in states {
            let Some(Reply::Survivors(survivors)) = self.hear(round, table, number, Step::MaskedInput) else {
                continue;
            };
            match state.survivors(&survivors) {
                Ok(_) if (self.leaves)(number, Step::Consistency) => {}
                Ok((state, message)) => {
                    if self.say(round, table, number, message) {
                        next.push((number, state));
                    }
                }
                Err(abort) => self.aborted(number, Step::MaskedInput, abort),
            }
        }
        self.settle(round, Phase::Consistency);
        next
    }

    fn unmask(&mut self, round: &mut Round, table: &Table, states: Vec<(usize, Confirming)>) {
        for (number, state) in states {
            let Some(Reply::Confirmed(confirmed)) = self.hear(round, table, number, Step::Consistency) else {
                continue;
            };
            let given = state.confirmed(&confirmed).and_then(|ready| ready.give(&self.answers[&number]));
            match given {
                Ok(_) if (self.leaves)(number, Step::Unmask) => {}
                Ok(message) => {
                    self.say(round, table, number, message);
                }
                Err(abort) => self.aborted(number, Step::Consistency, abort),
            }
        }
        self.settle(round, Phase::Unmask);
    }

    fn open(&mut self, round: &Round) {
        self.outcome.records = round.groups();
        self.outcome.closed = round.phase() == Phase::Closed;
        for opening in round.openings() {
            let opened = match opening.open() {
                Ok(opened) => opened,
                Err(lost) => {
                    self.outcome.lost.push((opening.terms.group, lost));
                    continue;
                }
            };
            let survivors: Vec<usize> = opened.survivors.iter().map(number).collect();
            let mut sum = vec![0; self.session.dimension as usize];
            survivors.iter().for_each(|survivor| add(&mut sum, &self.outcome.uploads[survivor]));
            apply_masks(&mut sum, 0, &opened.masks).unwrap();
            let (group, masks, misfits) = (opening.terms.group, opened.masks.len(), opened.misfits);
            self.outcome.sums.push(Sum { group, survivors, sum, masks, misfits });
        }
    }

    /// Whether the client's own message was taken.
    fn say(&mut self, round: &mut Round, table: &Table, number: usize, message: Message) -> bool {
        assert_eq!(Message::from_bytes(&message.to_bytes()).unwrap(), message);
        let step = message.step();
        let mut taken = false;
        for message in (self.says)(table, number, message) {
            let input = Input::Message { client: client(number), message: Box::new(message.clone()) };
            match round.handle(self.now, input) {
                Ok(effects) => {
                    taken = true;
                    self.effects(effects);
                    self.outcome.taken.push((number, message));
                }
                Err(reject) => self.outcome.rejects.push((number, step, reject)),
            }
        }
        taken
    }

    fn hear(&mut self, round: &Round, table: &Table, number: usize, step: Step) -> Option<Reply> {
        match round.reply(&client(number), step) {
            Ok(Some(reply)) => {
                let members = table
                    .rosters
                    .get(&number)
                    .map_or(0, |roster| crate::forger::terms(&table.announcement.session, roster).0.members);
                assert_eq!(Reply::from_bytes(&reply.to_bytes(), members).unwrap(), reply);
                Some((self.hears)(table, number, reply))
            }
            Ok(None) => panic!("client {number} waits for {step:?} in {:?}", round.phase()),
            Err(reject) => {
                self.outcome.rejects.push((number, step, reject));
                None
            }
        }
    }

    /// Ends a phase by its deadline unless it has ended.
    fn settle(&mut self, round: &mut Round, phase: Phase) {
        if round.phase() == phase {
            self.now = round.deadline().unwrap();
            let effects = round.handle(self.now, Input::Tick).unwrap();
            self.effects(effects);
        }
        for (number, message) in (self.later)(phase) {
            let step = message.step();
            if let Err(reject) =
                round.handle(self.now, Input::Message { client: client(number), message: Box::new(message) })
            {
                self.outcome.rejects.push((number, step, reject));
            }
        }
    }

    fn effects(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if let Effect::Abandon(why) = effect {
                self.outcome.abandoned = Some(why);
            }
        }
    }

    fn aborted(&mut self, number: usize, step: Step, abort: Abort) {
        self.outcome.aborts.insert(number, (step, abort));
    }
}

impl Outcome {
    /// Checks that every opened sum is that of its survivors, of whom there are enough.
    #[track_caller]
    pub(crate) fn assert_exact(&self) {
        for Sum { group, survivors, sum, .. } in &self.sums {
            let record = &self.records[*group as usize];
            assert!(survivors.len() >= record.threshold, "{} below {}", survivors.len(), record.threshold);
            let mut expected = vec![0; sum.len()];
            survivors.iter().for_each(|survivor| add(&mut expected, &self.plain[survivor]));
            assert!(*sum == expected, "group {group} is not the sum of its {} survivors", survivors.len());
        }
    }

    /// Checks that nothing was opened, nor could have been: nobody gave a share.
    #[track_caller]
    pub(crate) fn assert_nothing_given(&self) {
        assert!(self.sums.is_empty());
        assert!(!self.taken.iter().any(|(_, message)| message.step() == Step::Unmask));
    }

    pub(crate) fn reasons(&self) -> Vec<(usize, Step, Reason)> {
        self.rejects.iter().map(|(number, step, reject)| (*number, *step, reject.reason)).collect()
    }

    /// How often each abort occurs, by what it looks like.
    pub(crate) fn abort_of(&self, number: usize) -> Option<&Abort> {
        self.aborts.get(&number).map(|(_, abort)| abort)
    }
}

/// A signature that nobody made.
pub(crate) const NO_SIGNATURE: Signature = Signature([1; 64]);
