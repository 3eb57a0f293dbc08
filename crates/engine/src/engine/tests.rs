use super::aggregation::unit_length;
use super::*;
use testudo_aggregate::BLOCK;
use testudo_protocol::Tensor;

const DIMENSION: usize = 9000;

fn spec(rule: &str, rest: &str) -> Arc<TaskSpec> {
    let text = format!(
        "name = \"t\"\nrounds = 3\n{rest}\n[model]\ninitial = \"m\"\n[cohort]\nsize = 7\nminimum = 5\n[rule]\n{rule}\n"
    );
    Arc::new(TaskSpec::new("task.toml", &text).unwrap())
}

fn client(number: usize) -> ClientId {
    ClientId::new(format!("c{number}")).unwrap()
}

/// Row k: a fixed pattern around one, the first one far away.
fn row(number: usize) -> Vec<f32> {
    let far = if number == 0 { -50.0 } else { 1.0 };
    (0..DIMENSION).map(|i| far + ((i * 31 + number * 17) % 101) as f32 / 1000.0).collect()
}

fn payload(number: usize) -> Bytes {
    row(number).iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>().into()
}

fn base() -> Arc<Model> {
    let tensors = vec![Tensor { name: "w".into(), shape: vec![DIMENSION as u64] }];
    Arc::new(Model::new(tensors, vec![0.5; DIMENSION]).unwrap())
}

fn engine(spec: Arc<TaskSpec>) -> Engine {
    let params = RoundParams::new((0..7).map(client).collect(), 7, 5, 1000).unwrap();
    Engine::open(spec, base(), Arc::new(Carry::default()), params, [7; 32])
}

fn offer(number: usize) -> EngineInput {
    let digest = Digest::of(&payload(number));
    EngineInput::Offer { client: client(number), upload: UploadMeta { digest, norm: 1.0, examples: 1 + number as u64 } }
}

/// A driver: answers every action until the round ends. Jobs run in the order `shuffle` gives.
fn drive(engine: &mut Engine, mut actions: Vec<Action>, reverse: bool) -> Action {
    loop {
        if reverse {
            actions.reverse();
        }
        let action = actions.pop().expect("a round ends with a release or an abandonment");
        match action {
            Action::Record { client, .. } => {
                actions.extend(engine.handle(1, EngineInput::Recorded { client }).unwrap());
            }
            Action::Acknowledge { .. } => {}
            Action::Seal { .. } => actions.extend(engine.handle(1, EngineInput::Sealed).unwrap()),
            Action::Run(job) => {
                let bytes = job.bytes();
                let slice = |client: &ClientId| {
                    let number: usize = client.as_str()[1..].parse().unwrap();
                    let piece = |range: &std::ops::Range<u64>| range.start as usize..range.end as usize;
                    bytes.iter().map(|range| payload(number).slice(piece(range))).collect::<Vec<_>>()
                };
                let rows: Vec<_> = job.rows().iter().map(slice).collect();
                actions.extend(engine.done(job.run(&rows)));
            }
            end => return end,
        }
    }
}

fn run(spec: Arc<TaskSpec>, order: &[usize], reverse: bool) -> (Engine, Action) {
    let mut engine = engine(spec);
    let mut actions = Vec::new();
    for &number in order {
        for action in engine.handle(1, offer(number)).unwrap() {
            let Action::Record { client, .. } = action else { panic!("{action:?}") };
            actions.extend(engine.handle(1, EngineInput::Recorded { client }).unwrap());
        }
    }
    if order.len() < 7 {
        actions.extend(engine.handle(1000, EngineInput::Tick).unwrap());
    }
    let end = drive(&mut engine, actions, reverse);
    (engine, end)
}

fn released(action: Action) -> Box<Release> {
    let Action::Release(release) = action else { panic!("{action:?}") };
    release
}

#[test]
fn a_krum_round_releases_one_row_and_says_who_was_not_selected() {
    let release = released(run(spec("kind = \"krum\"\nbyzantine = 1", ""), &[0, 1, 2, 3, 4, 5, 6], false).1);
    let chosen: Vec<_> = release.seats.iter().filter(|seat| seat.verdict == Verdict::Accepted).collect();
    assert_eq!(chosen.len(), 1);
    let number: usize = chosen[0].client.as_str()[1..].parse().unwrap();
    let expected: Vec<f32> = row(number).iter().map(|value| value + 0.5).collect();
    assert_eq!(release.model.parameters(), expected);
    assert_eq!(release.seats[0].verdict, Verdict::Rejected { reason: Reason::NotSelected });
    assert!(release.seats[0].score.unwrap() > chosen[0].score.unwrap());
    assert_eq!(release.digest, Digest::of(&release.file));
}

#[test]
fn neither_arrival_order_nor_job_order_changes_a_bit() {
    for rule in [
        "kind = \"mean\"",
        "kind = \"median\"",
        "kind = \"trimmed_mean\"\nbyzantine = 1",
        "kind = \"multi_krum\"\nbyzantine = 1",
    ] {
        let first = released(run(spec(rule, ""), &[0, 1, 2, 3, 4, 5, 6], false).1);
        let second = released(run(spec(rule, ""), &[6, 2, 0, 5, 1, 4, 3], true).1);
        assert_eq!(first.digest, second.digest, "{rule}");
        assert_eq!(first.seats, second.seats, "{rule}");
    }
}

#[test]
fn a_deadline_aggregates_whoever_came_and_names_the_dropouts() {
    let release = released(run(spec("kind = \"median\"\nbyzantine = 2", ""), &[1, 2, 3, 4, 5], false).1);
    assert_eq!(release.seats[0].verdict, Verdict::Dropout);
    assert_eq!(release.seats[6].verdict, Verdict::Dropout);
    assert!(release.seats[1..6].iter().all(|seat| !matches!(seat.verdict, Verdict::Dropout | Verdict::Pending)));
}

#[test]
fn too_few_updates_abandon_and_the_verdicts_say_so() {
    let (engine, end) = run(spec("kind = \"mean\"", ""), &[1, 2], false);
    let Action::Abandon { why, seats, .. } = end else { panic!("{end:?}") };
    assert_eq!(why, Abandon::TooFewUpdates { received: 2, minimum: 5 });
    assert_eq!((seats[1].verdict, seats[0].verdict), (Verdict::Pending, Verdict::Dropout));
    assert!(engine.ended());
}

#[test]
fn a_weighted_mean_follows_the_examples_and_ignores_refused_clients() {
    let mut engine = engine(spec("kind = \"mean\"", ""));
    let reject = Reject::new(Reason::NonFinite, "tensor \"w\", position 3");
    let mut actions = engine.handle(1, EngineInput::Refuse { client: client(0), reject }).unwrap();
    for number in 1..7 {
        actions.extend(engine.handle(1, offer(number)).unwrap());
    }
    let release = released(drive(&mut engine, actions, false));
    assert_eq!(release.seats[0].verdict, Verdict::Rejected { reason: Reason::NonFinite });
    assert_eq!(release.seats[0].detail, "tensor \"w\", position 3");
    let weight: f64 = (2..=7).map(f64::from).sum();
    let expected: f64 = (1..7).map(|k| f64::from(row(k)[5]) * (k as f64 + 1.0) / weight).sum::<f64>() + 0.5;
    assert!((f64::from(release.model.parameters()[5]) - expected).abs() < 1e-6);
}

#[test]
fn a_round_taken_up_after_a_restart_releases_the_same_model() {
    let rule = "kind = \"krum\"\nbyzantine = 1";
    let undisturbed = released(run(spec(rule, ""), &[1, 2, 3, 4, 5, 6], false).1);
    let mut engine = engine(spec(rule, ""));
    for number in 1..7 {
        engine.handle(0, offer(number)).unwrap();
        engine.handle(0, EngineInput::Recorded { client: client(number) }).unwrap();
    }
    let survivors: Vec<_> = (1..7).map(client).collect();
    let actions = engine.resume_closed(&survivors).unwrap();
    let again = released(drive(&mut engine, actions, false));
    assert_eq!(again.digest, undisturbed.digest);
    assert_eq!(again.seats, undisturbed.seats);
    assert!(engine.resume_closed(&[client(0)]).is_err());
}

#[test]
fn a_failed_job_abandons_the_round_once() {
    let mut engine = engine(spec("kind = \"krum\"\nbyzantine = 1", ""));
    for number in 0..7 {
        engine.handle(1, offer(number)).unwrap();
        engine.handle(1, EngineInput::Recorded { client: client(number) }).unwrap();
    }
    engine.handle(1, EngineInput::Sealed).unwrap();
    let actions = engine.done(Job::failed("the spool lost a part"));
    assert!(matches!(&actions[..], [Action::Abandon { why: Abandon::Fault { .. }, .. }]), "{actions:?}");
    assert!(engine.done(Job::failed("again")).is_empty());
}

#[test]
fn the_optimisers_state_is_carried_from_round_to_round() {
    let rest = "[optimizer]\nkind = \"fedavgm\"\nmomentum = 0.5";
    let spec = spec("kind = \"mean\"", rest);
    let first = released(run(spec.clone(), &[1, 2, 3, 4, 5, 6], false).1);
    assert_eq!(first.carry.optimizer.len(), 1);
    let params = RoundParams::new((0..7).map(client).collect(), 6, 5, 1000).unwrap();
    let mut engine = Engine::open(spec, Arc::new(first.model.clone()), Arc::new(first.carry.clone()), params, [7; 32]);
    let mut actions = Vec::new();
    for number in 1..7 {
        actions.extend(engine.handle(1, offer(number)).unwrap());
    }
    let second = released(drive(&mut engine, actions, false));
    let step = |later: &Model, earlier: &[f32]| f64::from(later.parameters()[0]) - f64::from(earlier[0]);
    let (one, two) = (step(&first.model, base().parameters()), step(&second.model, first.model.parameters()));
    assert!((two - 1.5 * one).abs() < 1e-5, "{one} {two}");
}

#[test]
fn units_hold_a_bounded_number_of_bytes_whatever_the_dimension() {
    for rows in [1, 16, 200, 512] {
        assert!(unit_length(rows) * rows * 4 <= 8 << 20, "{rows} rows");
    }
    // From then on one block of each row.
    assert_eq!(unit_length(100_000), BLOCK);
}

mod adaptive;
mod audit;
mod correlated;
mod masked;
mod parts;
mod private;
mod sampled;
mod shares;

#[test]
fn a_release_that_cannot_be_written_leaves_no_verdict_of_the_rule() {
    let (_, action) = run(spec("kind = \"multi_krum\"\nbyzantine = 1", ""), &[0, 1, 2, 3, 4, 5], false);
    let Action::Release(release) = action else { panic!("{action:?}") };
    assert!(release.seats.iter().any(|seat| matches!(seat.verdict, Verdict::Rejected { .. })), "far away");
    let before = release.seats.clone();
    for (seat, before) in release.abandoned().iter().zip(before) {
        assert_eq!((&seat.client, seat.upload), (&before.client, before.upload));
        let expected = if before.upload.is_some() { Verdict::Pending } else { before.verdict };
        assert_eq!((seat.verdict, seat.score, seat.weight), (expected, None, None));
    }
}
