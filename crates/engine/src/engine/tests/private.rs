//! Private rounds: against a slow twin, in any order, with useless and absent updates.

use super::*;
use testudo_privacy::noise::{Law, NoiseSeed, NoiseStream, NoiseTable};

/// More than two blocks, the last one short.
const COORDINATES: usize = 9000;
/// Clients of a cohort.
const COHORT: usize = 7;
const CLIP: f64 = 2.0;

pub(super) fn private_spec(cohort: usize, rule: &str, privacy: &str, clip: f64) -> Arc<TaskSpec> {
    let text = format!(
        "name = \"t\"\nrounds = 3\n[model]\ninitial = \"m\"\n[cohort]\nsize = {cohort}\n[encoding]\nclip_l2 = {clip:?}\n\
         [rule]\n{rule}\n[privacy]\nmechanism = \"gaussian\"\npopulation = \"p\"\nbudget_epsilon = 1000\ndelta = 1e-3\nclients = 100\n{privacy}\n"
    );
    Arc::new(TaskSpec::new("task.toml", &text).unwrap_or_else(|error| panic!("{error}")))
}

fn spec(rule: &str) -> Arc<TaskSpec> {
    private_spec(COHORT, rule, "noise_multiplier = 1.5", CLIP)
}

/// Names sort by number.
fn name(number: usize) -> ClientId {
    ClientId::new(format!("c{number:03}")).unwrap()
}

fn bytes_of(values: &[f32]) -> Bytes {
    values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>().into()
}

/// Model parameters of zeros, so that the new ones are the aggregate.
pub(super) fn zeros(coordinates: usize) -> Arc<Model> {
    let tensors = vec![Tensor { name: "w".into(), shape: vec![coordinates as u64] }];
    Arc::new(Model::new(tensors, vec![0.0; coordinates]).unwrap())
}

/// A round of the clients that have a row, and the digest of what it sums. Jobs run in another order if `reverse`.
pub(super) fn round(
    spec: &Arc<TaskSpec>,
    base: Arc<Model>,
    carry: Carry,
    rows: &[Option<Vec<f32>>],
    seed: [u8; 32],
    reverse: bool,
) -> (Action, [u8; 32]) {
    round_with(spec, base, carry, rows, reverse, |engine, survivors| {
        engine.set_noise_seed(NoiseSeed::new(seed));
        engine.manifest(survivors)
    })
}

/// The same with noise that `noise` sets for the survivors.
pub(super) fn round_with<T>(
    spec: &Arc<TaskSpec>,
    base: Arc<Model>,
    carry: Carry,
    rows: &[Option<Vec<f32>>],
    reverse: bool,
    noise: impl FnOnce(&mut Engine, &[ClientId]) -> T,
) -> (Action, T) {
    let cohort = (0..rows.len()).map(name).collect();
    let params = match spec.cohort.sample {
        Some(_) => RoundParams::secret(cohort, 1000),
        None => RoundParams::new(cohort, rows.len(), 1, 1000),
    };
    let params = params.unwrap();
    let mut engine = Engine::open(spec.clone(), base, Arc::new(carry), params, [7; 32]);
    let payloads: BTreeMap<ClientId, Bytes> =
        rows.iter().enumerate().filter_map(|(number, row)| Some((name(number), bytes_of(row.as_ref()?)))).collect();
    let mut actions = Vec::new();
    for (client, payload) in &payloads {
        let upload = UploadMeta { digest: Digest::of(payload), norm: 0.0, examples: 1 };
        engine.handle(1, EngineInput::Offer { client: client.clone(), upload }).unwrap();
        actions.extend(engine.handle(1, EngineInput::Recorded { client: client.clone() }).unwrap());
    }
    actions.extend(engine.handle(1000, EngineInput::Tick).unwrap());
    let survivors: Vec<ClientId> = payloads.keys().cloned().collect();
    let manifest = noise(&mut engine, &survivors);
    loop {
        if reverse {
            actions.reverse();
        }
        match actions.pop().expect("a round ends with a release or an abandonment") {
            Action::Acknowledge { .. } => {}
            Action::Seal { .. } => actions.extend(engine.handle(1, EngineInput::Sealed).unwrap()),
            Action::Run(job) => {
                let ranges = job.bytes();
                let cut = |client: &ClientId| -> Vec<Bytes> {
                    let range = |range: &std::ops::Range<u64>| range.start as usize..range.end as usize;
                    ranges.iter().map(|bytes| payloads[client].slice(range(bytes))).collect()
                };
                let rows: Vec<_> = job.rows().iter().map(cut).collect();
                actions.extend(engine.done(job.run(&rows)));
            }
            end => return (end, manifest),
        }
    }
}

/// Rows whose sums of squares are exact in any order of additions: multiples of 2⁻⁸. Some are within the clip.
fn rows() -> Vec<Option<Vec<f32>>> {
    let row = |number: usize| {
        let scale = if number.is_multiple_of(2) { 1.0 / 256.0 } else { 1.0 / 4096.0 };
        let value = |at: usize| ((at * 31 + number * 17) % 101) as f32 - 50.0 + number as f32;
        (0..COORDINATES).map(|at| value(at) * scale).collect::<Vec<f32>>()
    };
    (0..COHORT).map(|number| Some(row(number))).collect()
}

/// The released aggregate, computed the slow way in wide integers from what the design says.
struct Twin<'a> {
    rows: Vec<Vec<f64>>,
    spec: &'a TaskSpec,
    seed: [u8; 32],
    manifest: [u8; 32],
}

impl Twin<'_> {
    /// Clipped rows in grid steps; useless ones are zeros.
    fn steps(&self) -> Vec<Vec<i128>> {
        let clipped = |row: &Vec<f64>| {
            let norm = row.iter().map(|value| value * value).sum::<f64>().sqrt();
            if !norm.is_finite() {
                return vec![0; row.len()];
            }
            let factor = 2_f64.powi(24) * (1.0 - 2_f64.powi(-20)) / norm.max(CLIP);
            let steps: Vec<i128> = row.iter().map(|value| (value * factor).trunc() as i128).collect();
            assert!(steps.iter().map(|step| step * step).sum::<i128>() <= 1 << 48, "the exact check");
            steps
        };
        self.rows.iter().map(clipped).collect()
    }

    /// The noise of every coordinate.
    fn noise(&self) -> Vec<i128> {
        let sigma = self.spec.privacy.as_ref().unwrap().charge.sigma_grid as f64;
        let table = NoiseTable::new(Law::Rounded, sigma).unwrap();
        let seed = NoiseSeed::new(self.seed);
        let block = |block: usize| {
            let mut values = vec![0; (COORDINATES - block * BLOCK).min(BLOCK)];
            NoiseStream::new(&table, &seed.key(&self.manifest, sigma, block as u64)).fill(&mut values);
            values
        };
        (0..COORDINATES.div_ceil(BLOCK)).flat_map(block).map(i128::from).collect()
    }

    /// Numerators plus noise, over the divisor.
    fn released(&self, numerator: impl Fn(Vec<i128>) -> i128, divisor: f64) -> Vec<f64> {
        let steps = self.steps();
        let noise = self.noise();
        let scale = CLIP / 2_f64.powi(24) / divisor;
        let column = |at: usize| steps.iter().map(|row| row[at]).collect::<Vec<_>>();
        (0..COORDINATES).map(|at| (numerator(column(at)) + noise[at]) as f64 * scale).collect()
    }
}

fn sum(column: Vec<i128>) -> i128 {
    column.iter().sum()
}

fn trimmed(cut: usize) -> impl Fn(Vec<i128>) -> i128 {
    move |mut column| {
        column.resize(COHORT, 0);
        column.sort_unstable();
        column[cut..COHORT - cut].iter().sum()
    }
}

fn in_f64(rows: &[Option<Vec<f32>>]) -> Vec<Vec<f64>> {
    rows.iter().flatten().map(|row| row.iter().map(|value| f64::from(*value)).collect()).collect()
}

fn parameters(end: Action) -> Vec<f32> {
    released(end).model.parameters().to_vec()
}

fn as_f32(values: Vec<f64>) -> Vec<f32> {
    values.into_iter().map(|value| value as f32).collect()
}

#[test]
fn a_private_mean_and_a_trimmed_mean_equal_their_slow_twins_bit_for_bit() {
    for (rule, cut, divisor) in [
        ("kind = \"mean\"", 0, 7.0),
        ("kind = \"trimmed_mean\"\nbyzantine = 1", 1, 5.0),
        ("kind = \"trimmed_mean\"\nbyzantine = 3", 3, 1.0),
    ] {
        let spec = spec(rule);
        let (end, manifest) = round(&spec, zeros(COORDINATES), Carry::default(), &rows(), [3; 32], false);
        let twin = Twin { rows: in_f64(&rows()), spec: &spec, seed: [3; 32], manifest };
        assert_eq!(parameters(end), as_f32(twin.released(trimmed(cut), divisor)), "{rule}");
    }
}

#[test]
fn an_update_that_is_not_finite_is_zero_or_absent_adds_nothing_and_still_counts() {
    for useless in [None, Some(vec![0.0; COORDINATES]), Some(vec![f32::NAN; COORDINATES]), {
        let mut row = vec![1.0; COORDINATES];
        row[8999] = f32::INFINITY;
        Some(row)
    }] {
        for (rule, cut, divisor) in [("kind = \"mean\"", 0, 7.0), ("kind = \"trimmed_mean\"\nbyzantine = 2", 2, 3.0)] {
            let mut rows = rows();
            rows[4] = useless.clone();
            let spec = spec(rule);
            let (end, manifest) = round(&spec, zeros(COORDINATES), Carry::default(), &rows, [3; 32], false);
            let Action::Release(release) = end else { panic!("{end:?}") };
            let twin = Twin { rows: in_f64(&rows), spec: &spec, seed: [3; 32], manifest };
            let expected = as_f32(twin.released(trimmed(cut), divisor));
            assert_eq!(release.model.parameters(), expected, "{rule}");
            // What was in it shows nowhere.
            let expected = if useless.is_some() { Verdict::Accepted } else { Verdict::Dropout };
            assert_eq!(release.seats[4].verdict, expected);
            assert!(release.seats.iter().all(|seat| seat.score.is_none() && seat.weight.is_none()));
            assert!(release.seats.iter().all(|seat| seat.detail.is_empty()) && release.notes.is_empty());
        }
    }
}

#[test]
fn a_round_of_useless_updates_alone_is_noised_all_the_same() {
    let rows = vec![Some(vec![f32::NAN; COORDINATES]); COHORT];
    let spec = spec("kind = \"mean\"");
    let (end, manifest) = round(&spec, zeros(COORDINATES), Carry::default(), &rows, [3; 32], false);
    let twin = Twin { rows: Vec::new(), spec: &spec, seed: [3; 32], manifest };
    let found = parameters(end);
    assert_eq!(found, as_f32(twin.released(sum, 7.0)));
    assert!(found.iter().any(|value| *value != 0.0));
}

#[test]
fn centred_clipping_steps_from_the_last_release_in_integers() {
    let spec = spec(&format!("kind = \"centered_clipping\"\nradius = {CLIP:?}\nsteps = 1"));
    let last: Vec<f32> = (0..COORDINATES).map(|at| (at % 13) as f32 / 64.0).collect();
    let carry = Carry { last_aggregate: Some(Arc::new(last.clone())), ..Carry::default() };
    for carried in [false, true] {
        let centre = if carried { last.clone() } else { vec![0.0; COORDINATES] };
        let carry = if carried { carry.clone() } else { Carry::default() };
        let mut rows = rows();
        rows[2] = Some(vec![f32::NAN; COORDINATES]);
        let (end, manifest) = round(&spec, zeros(COORDINATES), carry, &rows, [3; 32], false);
        let offsets =
            |row: Vec<f64>| row.iter().zip(&centre).map(|(value, centre)| value - f64::from(*centre)).collect();
        let offsets = in_f64(&rows).into_iter().map(offsets).collect();
        let twin = Twin { rows: offsets, spec: &spec, seed: [3; 32], manifest };
        let step = twin.released(sum, 7.0);
        let expected = step.iter().zip(&centre).map(|(step, centre)| (step + f64::from(*centre)) as f32);
        let release = released(end);
        assert_eq!(release.model.parameters(), expected.collect::<Vec<_>>());
        assert_eq!(
            release.carry.last_aggregate.as_deref().unwrap(),
            release.model.parameters(),
            "the next public centre"
        );
    }
}

#[test]
fn multi_krum_adds_the_selected_rows_alone() {
    let spec = private_spec(
        COHORT,
        "kind = \"multi_krum\"\nbyzantine = 2",
        "noise_multiplier = 1.5\naccept_large_sensitivity = true",
        CLIP,
    );
    // Two far away from the others, whatever the clip.
    let mut rows: Vec<Option<Vec<f32>>> =
        (0..COHORT).map(|number| Some(vec![1.0 / 128.0 + number as f32 / 65536.0; COORDINATES])).collect();
    for bad in [1, 5] {
        rows[bad] = Some(vec![-1.0; COORDINATES]);
    }
    let (end, manifest) = round(&spec, zeros(COORDINATES), Carry::default(), &rows, [3; 32], false);
    rows[1] = None;
    rows[5] = None;
    let twin = Twin { rows: in_f64(&rows), spec: &spec, seed: [3; 32], manifest };
    let release = released(end);
    assert_eq!(release.model.parameters(), as_f32(twin.released(sum, 5.0)));
    assert!(release.seats.iter().all(|seat| seat.verdict == Verdict::Accepted), "a selection would be a release");
}

#[test]
fn neither_the_order_of_jobs_nor_threads_change_a_bit() {
    for rule in ["kind = \"mean\"", "kind = \"trimmed_mean\"\nbyzantine = 1"] {
        let spec = spec(rule);
        let run = |threads: usize, reverse: bool| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                released(round(&spec, zeros(COORDINATES), Carry::default(), &rows(), [3; 32], reverse).0).digest
            })
        };
        let first = run(1, false);
        assert_eq!([run(1, true), run(2, false), run(3, true)], [first; 3], "{rule}");
    }
}

#[test]
fn one_noise_never_meets_two_sums() {
    let spec = spec("kind = \"mean\"");
    let run = |rows: &[Option<Vec<f32>>], seed| {
        parameters(round(&spec, zeros(COORDINATES), Carry::default(), rows, seed, false).0)
    };
    let first = run(&rows(), [3; 32]);
    assert_eq!(first, run(&rows(), [3; 32]), "a retry returns the same bytes");
    let mut others = rows();
    others[6] = None;
    let second = run(&others, [3; 32]);
    // With the same noise, the difference would be the update of client 6 over 7: far smaller than the noise.
    let spread = |values: Vec<f32>| {
        let squares: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
        (squares / values.len() as f64).sqrt()
    };
    let difference = spread(first.iter().zip(&second).map(|(a, b)| a - b).collect());
    let noise = spec.privacy.as_ref().unwrap().deviation();
    assert!((difference / (noise * 2_f64.sqrt()) - 1.0).abs() < 0.05, "{difference} {noise}");
    assert_ne!(first, run(&rows(), [4; 32]));
}

#[test]
fn what_is_released_are_whole_steps_whatever_the_updates_were() {
    // Float noise would leave the bits of the sum it was added to.
    let spec = private_spec(COHORT, "kind = \"mean\"", "noise_multiplier = 1.5\ngrid_bits = 8", CLIP);
    let values = parameters(round(&spec, zeros(COORDINATES), Carry::default(), &rows(), [3; 32], false).0);
    let scale = CLIP / 256.0 / 7.0;
    for value in values {
        let steps = (f64::from(value) / scale).round();
        assert_eq!((steps * scale) as f32, value, "{steps}");
    }
}

#[test]
fn a_private_round_without_a_seed_is_given_up() {
    let spec = spec("kind = \"mean\"");
    let params = RoundParams::new((0..1).map(name).collect(), 1, 1, 1000).unwrap();
    let mut engine = Engine::open(spec, zeros(4), Arc::new(Carry::default()), params, [7; 32]);
    let upload = UploadMeta { digest: Digest::of(b""), norm: 0.0, examples: 1 };
    engine.handle(1, EngineInput::Offer { client: name(0), upload }).unwrap();
    engine.handle(1, EngineInput::Recorded { client: name(0) }).unwrap();
    let actions = engine.handle(1, EngineInput::Sealed).unwrap();
    assert!(matches!(&actions[..], [Action::Abandon { why: Abandon::Fault { .. }, .. }]), "{actions:?}");
}
