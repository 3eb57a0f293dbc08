//! Masked rounds whose clients add shares of the noise: against a slow twin, and audited by a distinguisher of rows.

use super::{
    masked::{Playing, play_round},
    *,
};
use proptest::prelude::*;
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};
use rayon::prelude::*;
use testudo_privacy::{
    accountant::gaussian,
    clip::{Grid, rotated},
    noise::{Law, NoiseKey, NoiseStream, NoiseTable},
    rotation::{self, Rotation},
};
use testudo_protocol::secagg::{Session, hypergeometric::Tails};

/// A round's task; `rest` are keys of `[privacy]`.
fn task(clients: usize, group_size: usize, colluders: f64, rule: &str, tensors: &str, rest: &str) -> Arc<TaskSpec> {
    let text = format!(
        "name = \"t\"\nrounds = 1\n[model]\ninitial = \"m\"\n[cohort]\nsize = {clients}\nminimum = {clients}\n\
         [visibility]\nmasking = \"pairwise\"\ngroup_size = {group_size}\ncolluders = {colluders:?}\ndropout = 0.0\n\
         accept_weak_guarantee = \"a test\"\n[encoding]\nclip_l2 = 1.0\n[rule]\n{rule}\n{tensors}\n[privacy]\n\
         mechanism = \"gaussian\"\ntrust = \"distributed\"\npopulation = \"p\"\nbudget_epsilon = 100000\ndelta = 1e-3\nclients = 100\n{rest}\n"
    );
    let strong = text.replace("accept_weak_guarantee = \"a test\"\n", "");
    let spec = TaskSpec::new("task.toml", &text).or_else(|_| TaskSpec::new("task.toml", &strong));
    Arc::new(spec.unwrap_or_else(|error| panic!("{error}\n{text}")))
}

/// What a client sends before masks: what the SDK does, with randomness from a seed.
fn words(session: &Session, table: &NoiseTable, update: &[f32], seed: u64) -> Vec<u32> {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let grid = Grid::new(session.clip_l2, session.bits, 0.0, 1).unwrap();
    let rotation = Rotation::new(session.digest().0);
    let (mut steps, _) = rotated(&grid, &rotation, update, |bytes| rng.fill_bytes(bytes));
    let mut key = [0; 32];
    rng.fill_bytes(&mut key);
    NoiseStream::new(table, &NoiseKey::new(key)).add_to(&mut steps).unwrap();
    steps.iter().map(|step| *step as u32).collect()
}

fn zeros(tensors: &[(&str, u64)]) -> Arc<Model> {
    let tensors: Vec<Tensor> =
        tensors.iter().map(|(name, length)| Tensor { name: (*name).into(), shape: vec![*length] }).collect();
    let dimension: u64 = tensors.iter().map(|tensor| tensor.shape[0]).sum();
    Arc::new(Model::new(tensors, vec![0.0; dimension as usize]).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    /// The released mean, from the words themselves in wide integers: whatever tensors there are and whoever vanished.
    #[test]
    fn a_row_is_the_turned_back_sum_of_its_survivors_words(
        lengths in prop::collection::vec(1_u64..6000, 1..4), seed in 0_u64..1 << 30, gone in 0_usize..9,
    ) {
        let names = ["a", "b", "c"];
        let tensors: Vec<(&str, u64)> = names.iter().copied().zip(lengths.iter().copied()).collect();
        let tensors_left_out = if tensors.len() > 1 { "[tensors]\n\"a\" = \"ignore\"" } else { "" };
        let spec = task(8, 8, 0.0, "kind = \"mean\"", tensors_left_out, "noise_multiplier = 0.1");
        let base = zeros(&tensors);
        let dimension = base.layout().dimension();
        let table = NoiseTable::new(Law::Discrete, spec.shares.as_ref().unwrap().shares.sigma()).unwrap();
        let gone: Vec<(usize, Step)> = if gone < 8 { vec![(gone, Step::MaskedInput)] } else { Vec::new() };
        let update: Vec<f32> = (0..dimension).map(|at| ((at * 31) % 17) as f32 - 8.0).collect();
        let playing = Playing { spec: spec.clone(), base, clients: 8, gone: &gone, seed };
        let ended = play_round(&playing, &|session, number| words(session, &table, &update, seed << 5 | number as u64));
        let Action::Release(release) = ended.end else { panic!("{:?}", ended.end) };
        let mut rotated = vec![0_i64; Rotation::padded(dimension)];
        for survivor in &ended.record.groups[0].survivors {
            for (sum, word) in rotated.iter_mut().zip(&ended.plain[survivor]) {
                *sum += i64::from(word.cast_signed());
            }
        }
        let survivors = ended.record.groups[0].survivors.len() as f64;
        let rotation = Rotation::new(ended.record.session.0);
        let mut expected = Vec::new();
        for (index, sums) in (0..).zip(rotated.chunks(rotation::BLOCK)) {
            let mut block: Box<[f64; rotation::BLOCK]> = Box::new(std::array::from_fn(|at| sums[at] as f64));
            rotation.inverse(index, &mut block);
            expected.extend(block.iter().map(|value| value * 2_f64.powi(-20) / survivors));
        }
        let ignored = if tensors.len() > 1 { lengths[0] as usize } else { 0 };
        prop_assert!(release.model.parameters()[..ignored].iter().all(|value| *value == 0.0));
        for (got, expected) in release.model.parameters().iter().zip(&expected).skip(ignored) {
            prop_assert!((f64::from(*got) - expected).abs() <= expected.abs() * 1e-6 + 1e-12, "{got} {expected}");
        }
    }
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let spec = task(12, 4, 0.0, "kind = \"median\"\nbyzantine = 1", "", "noise_multiplier = 0.5");
    let table = NoiseTable::new(Law::Discrete, spec.shares.as_ref().unwrap().shares.sigma()).unwrap();
    let release = || {
        let gone = [(5, Step::MaskedInput)];
        let playing = Playing { spec: spec.clone(), base: zeros(&[("w", 5000)]), clients: 12, gone: &gone, seed: 4 };
        let ended = play_round(&playing, &|session, number| words(session, &table, &[0.01; 5000], number as u64));
        match ended.end {
            Action::Release(release) => release.digest,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(release(), release());
}

/// Rounds of each world of the audit.
const ROUNDS: u64 = 1200;
/// Clients of a group, and how many of them vanish.
const GROUP: usize = 7;
const GONE: usize = 2;
const COORDINATES: usize = 8;

/// The canary's coordinate of what the server sees in every round: the sum of a group, two of whose clients vanished.
fn world(spec: &Arc<TaskSpec>, target: f32, seed: u64) -> Vec<f64> {
    let shares = spec.shares.as_ref().unwrap();
    let table = NoiseTable::new(Law::Discrete, shares.shares.sigma()).unwrap();
    let base = zeros(&[("w", COORDINATES as u64)]);
    let gone: Vec<(usize, Step)> = (GROUP - GONE..GROUP).map(|number| (number, Step::MaskedInput)).collect();
    let one = |round: u64| {
        let playing =
            Playing { spec: spec.clone(), base: base.clone(), clients: GROUP, gone: &gone, seed: seed << 32 | round };
        let sent = |session: &Session, number: usize| {
            let mut update = [0.0_f32; COORDINATES];
            // The others' first coordinates add up to nothing.
            update[0] = [target, 0.5, -0.3, -0.4, 0.2][number.min(4)];
            if number > 0 {
                update[1 + number % 7] = 0.3;
            }
            words(session, &table, &update, (seed << 32 | round) << 8 | number as u64)
        };
        let ended = play_round(&playing, &sent);
        let survivors = ended.record.groups[0].survivors.len();
        assert_eq!(survivors, GROUP - GONE);
        match ended.end {
            Action::Release(release) => f64::from(release.model.parameters()[0]) * survivors as f64,
            other => panic!("{other:?}"),
        }
    };
    (0..ROUNDS).into_par_iter().map(one).collect()
}

/// Bounds on a probability of which `count` of `total` draws came true, each wrong with a probability of 10⁻³: Clopper and
/// Pearson 1934.
fn bounds(count: u64, total: u64) -> (f64, f64) {
    let solve = |holds: &dyn Fn(f64) -> bool| {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..40 {
            let middle = f64::midpoint(low, high);
            if holds(middle) { low = middle } else { high = middle }
        }
        low
    };
    // As many or more are unlikely below the lower bound, as few or fewer above the upper.
    let lower = solve(&|p| count > 0 && Tails::binomial(total, p).above(count - 1).value() < 1e-3);
    let upper = solve(&|p| 1.0 - Tails::binomial(total, p).above(count).value() >= 1e-3);
    (lower, upper)
}

/// Bounds on TPR − FPR at half of the canary, over a sum.
fn advantage(spec: &Arc<TaskSpec>, seed: u64) -> (f64, f64) {
    let caught = |target: f32, seed: u64| {
        let above = world(spec, target, seed).into_iter().filter(|value| *value > 0.5).count() as u64;
        bounds(above, ROUNDS)
    };
    let (absent, present) = (caught(0.0, seed), caught(1.0, seed + 1));
    (present.0 - absent.1, present.1 - absent.0)
}

fn noisy(honest: u64) -> Arc<TaskSpec> {
    let rest = format!("honest = {honest}\nnoise_multiplier = 0.45");
    task(GROUP, GROUP, 0.0, "kind = \"mean\"", "", &rest)
}

#[test]
fn one_client_of_a_masked_group_stands_out_exactly_as_much_as_claimed_and_shares_sized_for_all_are_caught() {
    // Sized for the five that the threshold leaves.
    let spec = noisy((GROUP - GONE) as u64);
    let charge = spec.budget().unwrap().charge;
    let claimed = gaussian::delta(1.0 / charge.noise_multiplier(), 0.0);
    let (least, most) = advantage(&spec, 1);
    assert!(least <= claimed, "at least {least} beats {claimed}");
    assert!(most >= claimed, "at most {most} is below {claimed}: the audit has no power");
    // Sized for all seven: two vanish, and take their noise with them.
    let defect = noisy_for_all();
    let (least, _) = advantage(&defect, 3);
    assert!(least > claimed, "{least} does not beat {claimed}: noise that dropouts took away went unseen");
}

/// The planted defect: shares of a seventh of the noise each, in groups that are unmasked with five.
fn noisy_for_all() -> Arc<TaskSpec> {
    let mut spec = (*noisy((GROUP - GONE) as u64)).clone();
    let whole = noisy(GROUP as u64);
    spec.shares.clone_from(&whole.shares);
    Arc::new(spec)
}

#[test]
fn clopper_and_pearson_know_their_tables() {
    // 10⁻³ on each side.
    let (low, high) = bounds(0, 100);
    assert!(low < 1e-9 && (high - (1.0 - 0.001_f64.powf(0.01))).abs() < 1e-9, "{high}");
    let (low, high) = bounds(50, 100);
    assert!((low + high - 1.0).abs() < 1e-9 && low > 0.34 && low < 0.36, "{low} {high}");
}
