//! Rounds whose clip follows the updates' norms: against a slow twin, carried, and the same after a restart.

use super::{
    super::private::BITS_UNIT,
    private::{private_spec, round, zeros},
    *,
};
use testudo_privacy::noise::{Law, NoiseSeed, NoiseStream, NoiseTable};

const COORDINATES: usize = 4;

fn spec(rule: &str, more: &str) -> Arc<TaskSpec> {
    let privacy = format!("noise_multiplier = 1.5\nadaptive_clip = {{ bits_noise = 2.0 }}\n{more}");
    private_spec(8, rule, &privacy, 0.5)
}

/// Rows with norms 0.25, 0.5, … 1.5, one that is not finite and one absent.
fn rows() -> Vec<Option<Vec<f32>>> {
    let row = |number: usize| {
        let mut row = vec![0.0; COORDINATES];
        row[number % COORDINATES] = 0.25 * (number + 1) as f32;
        Some(row)
    };
    (0..6).map(row).chain([Some(vec![f32::NAN; COORDINATES]), None]).collect()
}

/// What the rules of the design say of a round at clip C: released values over D, and the next clip.
fn twin(spec: &TaskSpec, clip: f64, (seed, manifest): ([u8; 32], [u8; 32])) -> (Vec<f32>, f64) {
    let (z, bits_noise) = (1.5_f64, 2.0_f64);
    let privacy = spec.privacy.as_ref().unwrap();
    // Andrew et al. 2021, Theorem 1.
    let alone = 1.0 / (1.0 / z.powi(2) - 1.0 / (2.0 * bits_noise).powi(2)).sqrt();
    let sigma = privacy.charge.sigma_grid as f64;
    assert!((sigma / (alone * 2_f64.powi(24)) - 1.0).abs() < 1e-6, "{sigma} {alone}");
    assert!(sigma / privacy.charge.sensitivity_grid as f64 >= z);
    let half = (sigma / (2.0 * bits_noise)) as i64;
    let table = NoiseTable::new(Law::Rounded, sigma).unwrap();
    let draw = |unit: u64, values: &mut [i64]| {
        let key = NoiseSeed::new(seed).key(&manifest, sigma, unit);
        NoiseStream::new(&table, &key).add_to(values).unwrap();
    };
    let (mut sum, mut bits) = (vec![0_i64; COORDINATES], [0_i64]);
    for row in rows().into_iter().flatten().filter(|row| row[0].is_finite()) {
        let norm = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        let factor = 2_f64.powi(24) * (1.0 - 2_f64.powi(-20)) / norm.max(clip);
        sum.iter_mut().zip(&row).for_each(|(sum, value)| *sum += (f64::from(*value) * factor).trunc() as i64);
        bits[0] += if norm <= clip { half } else { -half };
    }
    draw(0, &mut sum);
    draw(BITS_UNIT, &mut bits);
    let share = bits[0] as f64 / (2 * half) as f64 / 8.0 + 0.5;
    let next = (clip * (-0.2 * (share.clamp(-1.0, 2.0) - 0.5)).exp()).clamp(0.5 / 1000.0, 500.0);
    let scale = clip / 2_f64.powi(24) / 8.0;
    (sum.iter().map(|value| (*value as f64 * scale) as f32).collect(), next)
}

#[test]
fn the_clip_that_a_release_leaves_is_the_next_rounds_and_both_equal_their_slow_twin() {
    let spec = spec("kind = \"mean\"", "");
    let (mut carry, mut clip) = (Carry::default(), 0.5);
    for number in 0..5 {
        let (end, manifest) = round(&spec, zeros(COORDINATES), carry, &rows(), [number; 32], false);
        let (values, next) = twin(&spec, clip, ([number; 32], manifest));
        let release = released(end);
        assert_eq!(release.model.parameters(), values, "round {number} at clip {clip}");
        let figures: Vec<f64> = release.notes.iter().map(|note| note.value).collect();
        assert_eq!(figures[0], clip);
        assert!((figures[2] / next - 1.0).abs() < 1e-12, "{figures:?} {next}");
        assert!(release.seats.iter().all(|seat| seat.score.is_none() && seat.detail.is_empty()));
        // What a server that starts again reads.
        carry = Carry::from_bytes(&release.carry.to_bytes(), COORDINATES).unwrap();
        assert_eq!(carry.clip, Some(figures[2]));
        clip = figures[2];
    }
    assert_ne!(clip, 0.5);
}

#[test]
fn another_clip_is_another_sum_and_gets_other_noise() {
    let spec = spec("kind = \"mean\"", "");
    let at = |clip| round(&spec, zeros(COORDINATES), Carry { clip, ..Carry::default() }, &rows(), [1; 32], false);
    let (first, again, other) = (at(None), at(Some(0.5)), at(Some(0.6)));
    assert_eq!(first.1, again.1, "the first clip is that of the task");
    assert_ne!(first.1, other.1);
    assert_eq!(released(first.0).digest, released(again.0).digest);
}

#[test]
fn a_trimmed_mean_has_an_adaptive_clip_too_and_the_order_of_jobs_changes_nothing() {
    let spec = spec("kind = \"trimmed_mean\"\nbyzantine = 1", "");
    let run = |reverse| {
        let release = released(round(&spec, zeros(COORDINATES), Carry::default(), &rows(), [1; 32], reverse).0);
        (release.digest, release.carry.clip)
    };
    assert_eq!(run(false), run(true));
}

#[test]
fn the_clip_settles_at_the_quantile_of_the_norms() {
    // The median of eight norms 0.25 … 2 is about 1.1; the absent and the useless one count half each way.
    let spec = private_spec(
        8,
        "kind = \"mean\"",
        "noise_multiplier = 0.2\nadaptive_clip = { bits_noise = 0.2, min = 0.01, max = 10.0 }",
        0.02,
    );
    let rows: Vec<_> = (1..=8).map(|number| Some(vec![0.25 * number as f32, 0.0, 0.0, 0.0])).collect();
    let mut carry = Carry::default();
    let mut clips = Vec::new();
    for number in 0..150 {
        let release = released(round(&spec, zeros(COORDINATES), carry, &rows, [number; 32], false).0);
        carry = release.carry;
        clips.extend(carry.clip);
    }
    assert!(clips[100..].iter().all(|clip| (0.9..1.5).contains(clip)), "{clips:?}");
}
