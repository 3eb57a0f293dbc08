//! Masked rounds with real parties: the same model, bit for bit, as a clear round over the groups' means.

use super::*;
use crate::{RoundRecord, SessionFacts};
use proptest::prelude::*;
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};
use testudo_aggregate::{Cipher, KeyStream, MaskKey, Quantizer, RuleConfig, apply_masks, catalogue};
use testudo_protocol::secagg::{Advertised, Answered, Answers, Credentials, Demands, Recorded, Session, SigningKey};

/// What is played.
#[derive(Debug, Clone)]
struct Case {
    rule: String,
    clients: usize,
    group_size: usize,
    dimension: usize,
    bits: u32,
    /// Clients that vanish, and before which step.
    gone: Vec<(usize, Step)>,
    seed: u64,
}

/// A masked round's end, with what a clear round over its rows needs.
struct Played {
    end: Action,
    /// The means of the groups' levels, by the group's number.
    rows: Vec<Vec<f32>>,
    groups: Vec<u32>,
}

#[derive(Debug)]
struct NoMemory;

impl Answers for NoMemory {
    fn earlier(&self, _: &Session) -> Result<Option<Answered>, String> {
        Ok(None)
    }
    fn record(&self, _: &Answered) -> Result<Recorded, String> {
        Ok(Recorded::First)
    }
}

fn named(number: usize) -> ClientId {
    ClientId::new(format!("c{number:03}")).unwrap()
}

fn model(dimension: usize) -> Arc<Model> {
    let tensors = vec![Tensor { name: "w".into(), shape: vec![dimension as u64] }];
    Arc::new(Model::new(tensors, vec![0.5; dimension]).unwrap())
}

fn update(case: &Case, number: usize) -> Vec<f32> {
    let mut rng = ChaCha20Rng::seed_from_u64(case.seed ^ (number as u64) << 20);
    let far = if number == 0 { -0.7 } else { 0.1 };
    (0..case.dimension).map(|_| far + (rng.next_u32() % 1000) as f32 / 5000.0).collect()
}

fn levels(case: &Case, quantizer: &Quantizer, number: usize) -> Vec<u32> {
    let mut levels = vec![0; case.dimension];
    let mut stream = KeyStream::new(&MaskKey::new([number as u8 + 1; 32]), Cipher::ChaCha20);
    quantizer.quantize(&update(case, number), 1.0, |bytes| stream.fill(bytes), &mut levels).unwrap();
    levels
}

fn task(case: &Case) -> Arc<TaskSpec> {
    let Case { rule, clients, group_size, bits, .. } = case;
    let text = format!(
        "name = \"t\"\nrounds = 3\n[model]\ninitial = \"m\"\n[cohort]\nsize = {clients}\nminimum = {clients}\n\
         [visibility]\nmasking = \"pairwise\"\ngroup_size = {group_size}\naccept_weak_guarantee = \"a test\"\n\
         [encoding]\nclip_l2 = 1000.0\nkappa = 1.0\nbits = {bits}\n[rule]\n{rule}\n"
    );
    // A few of these groups are large enough to need no acceptance, which is then refused as without effect.
    let strong = text.replace("accept_weak_guarantee = \"a test\"\n", "");
    let spec = TaskSpec::new("task.toml", &text).or_else(|_| TaskSpec::new("task.toml", &strong));
    Arc::new(spec.unwrap_or_else(|error| panic!("{error}\n{text}")))
}

/// Tells the engine something and answers what it wants, up to the first job.
fn tell(engine: &mut Engine, jobs: &mut Vec<Action>, now: Tick, input: EngineInput) {
    let mut actions = engine.handle(now, input).unwrap();
    while let Some(action) = actions.pop() {
        match action {
            Action::Record { client, .. } => {
                actions.extend(engine.handle(now, EngineInput::Recorded { client }).unwrap());
            }
            Action::Seal { .. } => jobs.extend(engine.handle(now, EngineInput::Sealed).unwrap()),
            Action::Acknowledge { .. } | Action::Advance(_) => {}
            other => jobs.push(other),
        }
    }
}

fn play(case: &Case) -> Played {
    let quantizer = Quantizer::new(1000.0, Some(1.0), case.bits).unwrap();
    let base = model(case.dimension);
    let playing = Playing { spec: task(case), base, clients: case.clients, gone: &case.gone, seed: case.seed };
    let Ended { end, record, plain } = play_round(&playing, &|_, number| levels(case, &quantizer, number));
    let (mut rows, mut groups) = (Vec::new(), Vec::new());
    for (number, group) in (0..).zip(&record.groups).filter(|(_, group)| group.lost.is_none()) {
        let mut sums = vec![0u32; case.dimension];
        for survivor in &group.survivors {
            sums.iter_mut().zip(&plain[survivor]).for_each(|(sum, level)| *sum += level);
        }
        let mut row = vec![0.0; case.dimension];
        quantizer.mean(&sums, group.survivors.len(), &mut row).unwrap();
        rows.push(row);
        groups.push(number);
    }
    Played { end, rows, groups }
}

/// A masked round and who vanishes from it.
pub(super) struct Playing<'a> {
    pub(super) spec: Arc<TaskSpec>,
    pub(super) base: Arc<Model>,
    pub(super) clients: usize,
    /// Clients that vanish, and before which step.
    pub(super) gone: &'a [(usize, Step)],
    pub(super) seed: u64,
}

/// How it ended, and what its survivors sent, before masks.
pub(super) struct Ended {
    pub(super) end: Action,
    pub(super) record: RoundRecord,
    pub(super) plain: BTreeMap<ClientId, Vec<u32>>,
}

/// Plays a masked round with real parties. `words` gives a client's words before masks.
pub(super) fn play_round(case: &Playing<'_>, words: &dyn Fn(&Session, usize) -> Vec<u32>) -> Ended {
    let (spec, base) = (case.spec.clone(), case.base.clone());
    let server = SigningKey::from_bytes(&[200; 32]);
    let cohort: Vec<ClientId> = (0..case.clients).map(named).collect();
    let facts = SessionFacts {
        id: [1; 32],
        round: 1,
        model: Digest([2; 32]),
        plan: Digest([3; 32]),
        dimension: base.layout().dimension(),
        cohort: &cohort,
        randomness: [case.seed as u8; 32],
    };
    let pairwise = spec.pairwise(&facts, &server).unwrap();
    let announcement = pairwise.announcement.clone();
    let params = RoundParams::new(cohort, case.clients, case.clients, 1000).unwrap();
    let mut engine = Engine::open_masked(spec, base, Arc::new(Carry::default()), params, [7; 32], pairwise);
    let leaves = |number: usize, step: Step| case.gone.contains(&(number, step));
    let mut jobs = Vec::new();
    let mut now = 1;
    let settle = |engine: &mut Engine, jobs: &mut Vec<Action>, now: &mut Tick, phase: Phase| {
        if engine.phase() == phase {
            *now = engine.deadline().unwrap();
            tell(engine, jobs, *now, EngineInput::Tick);
        }
    };
    let say = |engine: &mut Engine, jobs: &mut Vec<Action>, now: Tick, number: usize, message: Message| {
        tell(engine, jobs, now, EngineInput::Message { client: named(number), message: Box::new(message) });
    };
    let mut advertised = Vec::new();
    for number in 0..case.clients {
        let mut rng = ChaCha20Rng::seed_from_u64(case.seed << 10 | number as u64);
        let credentials = Credentials::unvouched(named(number), SigningKey::from_bytes(&[number as u8 + 1; 32]));
        let mut random = |bytes: &mut [u8]| rng.fill_bytes(bytes);
        let (state, message) =
            Advertised::new(&announcement, &credentials, &NoMemory, number % 2 == 0, &mut random).unwrap();
        say(&mut engine, &mut jobs, now, number, message);
        advertised.push((number, state, rng));
    }
    let mut sharing = Vec::new();
    for (number, state, mut rng) in advertised {
        let Ok(Some(Reply::Roster(roster))) = engine.reply(&named(number), Step::AdvertiseKeys) else { panic!() };
        let mut random = |bytes: &mut [u8]| rng.fill_bytes(bytes);
        let (state, message) = state.group(&roster, &Demands { group: 2, colluders: 0.0 }, &mut random).unwrap();
        if !leaves(number, Step::ShareKeys) {
            say(&mut engine, &mut jobs, now, number, message);
            sharing.push((number, state));
        }
    }
    settle(&mut engine, &mut jobs, &mut now, Phase::ShareKeys);
    let (mut sent, mut payloads, mut plain) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    for (number, state) in sharing {
        let Ok(Some(Reply::Shared(shared))) = engine.reply(&named(number), Step::ShareKeys) else { continue };
        if leaves(number, Step::MaskedInput) {
            continue;
        }
        let state = state.shared(&shared).unwrap();
        let levels = words(&announcement.session, number);
        let mut masked = levels.clone();
        apply_masks(&mut masked, 0, &state.masks().unwrap()).unwrap();
        let payload: Bytes = masked.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>().into();
        let digest = Digest::of(&payload);
        let upload = UploadMeta { digest, norm: 0.0, examples: 1 };
        tell(&mut engine, &mut jobs, now, EngineInput::Offer { client: named(number), upload });
        payloads.insert(named(number), payload);
        plain.insert(named(number), levels);
        let (state, message) = state.input(digest);
        say(&mut engine, &mut jobs, now, number, message);
        sent.push((number, state));
    }
    settle(&mut engine, &mut jobs, &mut now, Phase::Input);
    let mut confirming = Vec::new();
    for (number, state) in sent {
        let Ok(Some(Reply::Survivors(survivors))) = engine.reply(&named(number), Step::MaskedInput) else { continue };
        let (state, message) = state.survivors(&survivors).unwrap();
        if !leaves(number, Step::Consistency) {
            say(&mut engine, &mut jobs, now, number, message);
            confirming.push((number, state));
        }
    }
    settle(&mut engine, &mut jobs, &mut now, Phase::Consistency);
    for (number, state) in confirming {
        let Ok(Some(Reply::Confirmed(confirmed))) = engine.reply(&named(number), Step::Consistency) else { continue };
        if !leaves(number, Step::Unmask) {
            let message = state.confirmed(&confirmed).unwrap().give(&NoMemory).unwrap();
            say(&mut engine, &mut jobs, now, number, message);
        }
    }
    settle(&mut engine, &mut jobs, &mut now, Phase::Unmask);
    let record = engine.record().unwrap();
    let end = finish(&mut engine, jobs, &|client| payloads[client].clone());
    Ended { end, record, plain }
}

/// Runs jobs until the round ends.
fn finish(engine: &mut Engine, mut actions: Vec<Action>, payload: &dyn Fn(&ClientId) -> Bytes) -> Action {
    loop {
        match actions.pop().expect("a round ends with a release or an abandonment") {
            Action::Seal { .. } => actions.extend(engine.handle(1, EngineInput::Sealed).unwrap()),
            Action::Record { client, .. } => {
                actions.extend(engine.handle(1, EngineInput::Recorded { client }).unwrap());
            }
            Action::Acknowledge { .. } | Action::Advance(_) => {}
            Action::Run(job) => {
                let bytes = job.bytes();
                let slice = |client: &ClientId| {
                    let piece = |range: &std::ops::Range<u64>| range.start as usize..range.end as usize;
                    bytes.iter().map(|range| payload(client).slice(piece(range))).collect::<Vec<_>>()
                };
                let rows: Vec<_> = job.rows().iter().map(slice).collect();
                actions.extend(engine.done(job.run(&rows)));
            }
            end => return end,
        }
    }
}

/// A clear round whose clients' updates are these rows.
fn clear(case: &Case, rows: &[Vec<f32>]) -> Action {
    let count = rows.len();
    let text = format!(
        "name = \"t\"\nrounds = 3\n[model]\ninitial = \"m\"\n[cohort]\nsize = {count}\nminimum = {count}\n[examples]\n\
         weighted = false\n[rule]\n{}\n",
        case.rule
    );
    let spec = Arc::new(TaskSpec::new("task.toml", &text).unwrap_or_else(|error| panic!("{error}")));
    let params = RoundParams::new((0..count).map(named).collect(), count, count, 1000).unwrap();
    let mut engine = Engine::open(spec, model(case.dimension), Arc::new(Carry::default()), params, [7; 32]);
    let payload = |client: &ClientId| -> Bytes {
        let number: usize = client.as_str()[1..].parse().unwrap();
        rows[number].iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>().into()
    };
    let mut jobs = Vec::new();
    for number in 0..count {
        let upload = UploadMeta { digest: Digest::of(&payload(&named(number))), norm: 1.0, examples: 1 };
        tell(&mut engine, &mut jobs, 1, EngineInput::Offer { client: named(number), upload });
    }
    finish(&mut engine, jobs, &payload)
}

fn bits(release: &Release) -> Vec<u32> {
    release.model.parameters().iter().map(|value| value.to_bits()).collect()
}

fn check(case: &Case) {
    let Played { end, rows, groups } = play(case);
    let rule = &case.rule;
    match (end, clear(case, &rows)) {
        (Action::Release(masked), Action::Release(clear)) => {
            assert_eq!(bits(&masked), bits(&clear), "{rule}");
            assert_eq!(masked.notes, clear.notes, "{rule}");
            assert_eq!(masked.aggregate_norm.to_bits(), clear.aggregate_norm.to_bits(), "{rule}");
            let record = masked.record.as_ref().unwrap();
            for (row, group) in groups.iter().enumerate() {
                let seat = &clear.seats[row];
                for survivor in &record.groups[*group as usize].survivors {
                    let own = masked.seats.iter().find(|seat| seat.client == *survivor).unwrap();
                    assert_eq!((own.verdict, own.score), (seat.verdict, seat.score), "{rule}");
                }
            }
        }
        (Action::Abandon { why: masked, .. }, Action::Abandon { why: clear, .. }) => {
            assert_eq!(masked, clear, "{rule}")
        }
        (masked, clear) => panic!("{rule}: {masked:?} and {clear:?}"),
    }
}

/// 36 clients in nine groups of four; dropouts in every phase, and one group may lose too many.
fn nine_groups(rule: String) -> Case {
    let gone = vec![(1, Step::ShareKeys), (9, Step::MaskedInput), (17, Step::Consistency), (30, Step::Unmask)];
    Case { rule, clients: 36, group_size: 4, dimension: 6007, bits: 16, gone, seed: 3 }
}

#[test]
fn every_rule_gives_the_same_bits_over_unmasked_groups_as_over_their_means() {
    let mut checked = 0;
    for info in catalogue() {
        let rule = toml::to_string(&RuleConfig::with_byzantine(info.kind, 1).unwrap()).unwrap();
        let refused = ["fltrust", "foolsgold", "monna"];
        if refused.contains(&info.kind) {
            continue;
        }
        check(&nine_groups(rule));
        checked += 1;
    }
    assert!(checked >= 18, "{checked} rules");
}

#[test]
fn pre_aggregations_see_the_same_rows() {
    for rule in [
        "kind = \"trimmed_mean\"\nbyzantine = 1\npre = [\"arc\", \"nnm\"]",
        "kind = \"median\"\nbyzantine = 1\npre = [\"bucketing\"]",
        "kind = \"krum\"\nbyzantine = 1\npre = [{ kind = \"clip\", radius = 1e-3 }]",
    ] {
        check(&nine_groups(rule.into()));
    }
}

#[test]
fn a_group_that_loses_too_many_is_no_row() {
    let mut case = nine_groups("kind = \"median\"\nbyzantine = 1".into());
    case.gone = (0..7).map(|number| (number, Step::MaskedInput)).collect();
    let Played { end, rows, .. } = play(&case);
    let Action::Release(release) = end else { panic!("{end:?}") };
    let record = release.record.as_ref().unwrap();
    let lost = record.groups.iter().filter(|group| group.lost.is_some()).count();
    assert!(lost > 0 && rows.len() == 9 - lost);
    check(&case);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_cohort_dimension_and_bits_give_the_sum_of_whoever_survived(
        clients in 3usize..=40,
        size in 2usize..=7,
        dimension in 1usize..=300,
        bits in 2u32..=24,
        seed in 0u64..1 << 40,
        gone in prop::collection::vec((0usize..40, 0usize..4), 0..4),
    ) {
        let steps = [Step::ShareKeys, Step::MaskedInput, Step::Consistency, Step::Unmask];
        let gone = gone.into_iter().map(|(number, step)| (number, steps[step])).collect();
        // Every row alike, whatever its group's size.
        let rule = "kind = \"trimmed_mean\"\nbyzantine = 0".to_string();
        let group_size = size.min(clients);
        let case = Case { rule, clients, group_size, dimension, bits, gone, seed };
        let played = play(&case);
        if played.rows.is_empty() {
            let given_up = matches!(played.end, Action::Abandon { why: Abandon::TooFewGroups { .. }, .. });
            prop_assert!(given_up);
        } else {
            let (Action::Release(masked), Action::Release(clear)) = (played.end, clear(&case, &played.rows)) else {
                panic!("no release");
            };
            prop_assert_eq!(self::bits(&masked), self::bits(&clear));
        }
    }
}
