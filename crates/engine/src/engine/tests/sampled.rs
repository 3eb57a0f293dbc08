//! Rounds of a secret sample: whatever came is added over the planned divisor, and nothing at all is noised like something.

use super::{
    private::{private_spec, round, zeros},
    *,
};

const COORDINATES: usize = 300;

fn sampled(z: f64) -> Arc<TaskSpec> {
    private_spec(2, "kind = \"mean\"", &format!("noise_multiplier = {z:?}\nsampling = \"poisson\""), 1.0)
}

fn parameters(spec: &Arc<TaskSpec>, rows: &[Option<Vec<f32>>]) -> Vec<f64> {
    let (end, _) = round(spec, zeros(COORDINATES), Carry::default(), rows, [3; 32], false);
    let Action::Release(release) = end else { panic!("{end:?}") };
    release.model.parameters().iter().map(|value| f64::from(*value)).collect()
}

#[test]
fn a_sample_of_nobody_and_one_that_stays_away_are_noised_like_any_other() {
    for rows in [vec![], vec![None, None, None]] {
        let values = parameters(&sampled(1.0), &rows);
        // Noise of 1 over the divisor of 2; with 300 values the spread is within 25 % but for 10⁻⁹.
        let spread = (values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64).sqrt();
        assert!((spread / 0.5 - 1.0).abs() < 0.25, "{spread}");
    }
}

#[test]
fn a_sample_of_any_size_is_divided_by_the_expected_one() {
    let row = |value: f32| Some(vec![value; COORDINATES]);
    let rows = [row(0.01), row(0.02), None, row(0.03), row(-0.02)];
    for value in parameters(&sampled(1e-6), &rows) {
        assert!((value - 0.04 / 2.0).abs() < 1e-4, "{value}");
    }
}
