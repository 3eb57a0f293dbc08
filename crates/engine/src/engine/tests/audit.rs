//! A distinguisher against whole private rounds: does one client stand out more than the claim allows, and are planted
//! defects caught? The statistic is the canary's coordinate, the threshold is set beforehand, seeds are fixed.

mod bounds;
mod composed;
mod sampled;

use super::{
    private::{private_spec, round, zeros},
    *,
};
use testudo_privacy::accountant::gaussian;

/// Rounds of each world.
const ROUNDS: u32 = 20_000;
const COORDINATES: usize = 4;

/// The canary's coordinate of every release; `others` come with the target in every round.
fn world(spec: &Arc<TaskSpec>, others: &[[f32; COORDINATES]], target: [f32; COORDINATES], seed: u8) -> Vec<f64> {
    let rows: Vec<Option<Vec<f32>>> = others.iter().chain([&target]).map(|row| Some(row.to_vec())).collect();
    let base = zeros(COORDINATES);
    (0..ROUNDS)
        .map(|number| {
            let mut fresh = [seed; 32];
            fresh[..4].copy_from_slice(&number.to_le_bytes());
            let (end, _) = round(spec, base.clone(), Carry::default(), &rows, fresh, false);
            let Action::Release(release) = end else { panic!("{end:?}") };
            f64::from(release.model.parameters()[0])
        })
        .collect()
}

/// TPR − FPR at a threshold, and its half width at 5 standard deviations.
fn advantage(absent: &[f64], present: &[f64], threshold: f64) -> (f64, f64) {
    let share = |values: &[f64]| values.iter().filter(|value| **value > threshold).count() as f64 / values.len() as f64;
    let (caught, wrong) = (share(present), share(absent));
    let variance = |share: f64, count: usize| share * (1.0 - share) / count as f64;
    let width = 5.0 * (variance(caught, present.len()) + variance(wrong, absent.len())).sqrt();
    (caught - wrong, width)
}

/// The best distinguisher's advantage against noise multiplier `z`.
fn claimed(z: f64) -> f64 {
    gaussian::delta(gaussian::mu(z, 1), 0.0)
}

/// Others whose first coordinates add up to nothing; with the target, four clients.
const OTHERS: [[f32; COORDINATES]; 3] = [[0.1, 0.5, -0.3, 0.2], [-0.4, 0.1, 0.1, 0.0], [0.3, -0.2, 0.6, 0.1]];
const ABSENT: [f32; COORDINATES] = [0.0; COORDINATES];
const CANARY: [f32; COORDINATES] = [1.0, 0.0, 0.0, 0.0];

fn mean(z: f64, clip: f64) -> Arc<TaskSpec> {
    private_spec(4, "kind = \"mean\"", &format!("noise_multiplier = {z:?}"), clip)
}

#[test]
fn one_client_stands_out_in_whole_rounds_exactly_as_much_as_claimed() {
    let spec = mean(1.0, 1.0);
    // Over the fixed divisor, 4.
    let (got, width) = advantage(&world(&spec, &OTHERS, ABSENT, 1), &world(&spec, &OTHERS, CANARY, 2), 0.125);
    let claimed = claimed(1.0);
    assert!(got - width <= claimed, "{got} beats {claimed}");
    assert!(got + width >= claimed, "{got} is far below {claimed}: the audit has no power");
}

#[test]
fn a_trimmed_mean_at_its_worst_configuration_gives_no_more_away() {
    let spec = private_spec(3, "kind = \"trimmed_mean\"\nbyzantine = 1", "noise_multiplier = 1.0", 1.0);
    // One far below and one far above: the target is the median.
    let others = [[-1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]];
    let (got, width) = advantage(&world(&spec, &others, ABSENT, 1), &world(&spec, &others, CANARY, 2), 0.5);
    let claimed = claimed(1.0);
    assert!(got - width <= claimed && got + width >= claimed, "{got} ± {width}, claimed {claimed}");
}

#[test]
fn a_canary_beyond_the_clip_and_one_that_is_not_finite_gain_nothing() {
    let spec = mean(1.0, 1.0);
    let absent = world(&spec, &OTHERS, ABSENT, 1);
    let (got, width) = advantage(&absent, &world(&spec, &OTHERS, [1000.0, 0.0, 0.0, 0.0], 2), 0.125);
    assert!(got - width <= claimed(1.0), "{got}");
    let (got, width) = advantage(&absent, &world(&spec, &OTHERS, [f32::NAN, 1.0, 0.0, 0.0], 2), 0.125);
    assert!(got.abs() <= width, "{got} ± {width}");
}

#[test]
fn planted_defects_are_caught() {
    let claimed = claimed(1.0);
    let beats = |absent: &[f64], present: &[f64], threshold: f64| {
        let (got, width) = advantage(absent, present, threshold);
        got - width > claimed
    };
    let sound = mean(1.0, 1.0);
    let absent = world(&sound, &OTHERS, ABSENT, 1);
    let canary = world(&sound, &OTHERS, CANARY, 2);
    assert!(!beats(&absent, &canary, 0.125));

    let short = mean(0.9, 1.0);
    assert!(
        beats(&world(&short, &OTHERS, ABSENT, 1), &world(&short, &OTHERS, CANARY, 2), 0.125),
        "noise short by a tenth"
    );
    // A forgotten clip: ten times as wide under the noise of the narrow one.
    let wide = mean(0.1, 10.0);
    let beyond = [10.0, 0.0, 0.0, 0.0];
    assert!(beats(&world(&wide, &OTHERS, ABSENT, 1), &world(&wide, &OTHERS, beyond, 2), 1.25), "a forgotten clip");
    // Divided by those who came: the noise was sized for four, and the absent one leaves three.
    let per_reply =
        |values: Vec<f64>, replies: f64| values.iter().map(|value| value * 4.0 / replies).collect::<Vec<_>>();
    let others = [[0.9, 0.0, 0.0, 0.0]; 3];
    let three = per_reply(world(&sound, &others, ABSENT, 1), 3.0);
    let four = per_reply(world(&sound, &others, [-1.0, 0.0, 0.0, 0.0], 2), 4.0);
    assert!(beats(&four, &three, 0.66), "the number of replies as divisor");
    // A retry with fresh noise: whoever averages two releases sees noise smaller by √2.
    let average = |target, seeds: [u8; 2]| -> Vec<f64> {
        let [first, second] = seeds.map(|seed| world(&sound, &OTHERS, target, seed));
        first.iter().zip(&second).map(|(first, second)| f64::midpoint(*first, *second)).collect()
    };
    assert!(beats(&average(ABSENT, [1, 3]), &average(CANARY, [2, 4]), 0.125), "a retry with fresh noise");
    // A median claimed at C/n: one client moves it by the whole clip.
    let median =
        private_spec(3, "kind = \"trimmed_mean\"\nbyzantine = 1", &format!("noise_multiplier = {:?}", 1.0 / 3.0), 1.0);
    let others = [[-1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]];
    assert!(beats(&world(&median, &others, ABSENT, 1), &world(&median, &others, CANARY, 2), 0.5), "a median at C/n");
}
