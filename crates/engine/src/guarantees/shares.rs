//! The report of a masked task whose clients add shares of the noise.

use super::private::{rounded_up, warnings};
use crate::{Masking, NoiseShares, TaskSpec};
use testudo_privacy::{clip::rounded_bound, sensitivity::Adjacency};

/// The share of a group's clients that a device takes for colluders unless told.
const DEVICES_COLLUDERS: f64 = 0.05;

/// The largest `--min-shared-noise` (`Policy::min_shared_noise`) with which a device that is not told otherwise takes part in
/// the task, rounded down; `None` if clients add no shares of noise.
pub fn min_shared_noise(spec: &TaskSpec) -> Option<f64> {
    let least = least_noise(spec.masking.as_ref()?, spec.shares.as_ref()?);
    (least > 0.0).then(|| rounded_down(least))
}

/// One sentence per promise, assumption and exception, for groups of these sizes.
pub(super) fn report(spec: &TaskSpec, masking: &Masking, shares: &NoiseShares, sizes: &[usize]) -> Vec<String> {
    let budget = &shares.budget;
    let clip = shares.grid.clip();
    let (honest, step) = (shares.honest(), shares.grid.step());
    let size = sizes.iter().copied().min().unwrap_or(masking.group_size);
    let adjacency = match budget.charge.adjacency {
        Adjacency::ReplaceOne => "replace-one adjacency: one contribution becomes another",
        _ => "zero-out adjacency: one contribution becomes 0, and who takes part is public",
    };
    let mut lines = vec![
        format!(
            "differential privacy: epsilon = {} at delta = {:e} after {} rounds, without amplification by sampling: a worst-case \
             bound on what all unmasked rows together tell anybody about one client (one device), the server too; distributed \
             model; {adjacency}",
            rounded_up(budget.epsilon_of(spec.rounds)),
            budget.delta,
            spec.rounds
        ),
        format!(
            "noise: every client clips its update to an L2 norm of C = {clip}, rotates it, rounds it to whole steps of {step} with \
             a norm of at most {} of them, checked in integers (sensitivity {}), and adds a discrete Gaussian share of standard \
             deviation {} before masking; {honest} shares are z*C = {} together (z = {}), all {size} of a group {}, which is {} on every \
             coordinate of its mean",
            rounded_bound(&shares.grid),
            shares.shares.sensitivity(),
            shares.deviation(1),
            shares.noise_multiplier * clip,
            shares.noise_multiplier,
            shares.deviation(size),
            shares.deviation(size) / size as f64,
        ),
        format!(
            "holds if: the server follows the protocol (it may look at all it gets, with {} a group: more come into \
             one with a probability of at most 2^-40 a round, which delta does not count); at least \
             {honest} survivors of every group are honest: they clip, add their share and tell nobody, and no group of {} is \
             unmasked with fewer than {} survivors; masks, shares and noise keys are not broken: the bound is computational",
            match shares.shares.colluders() {
                1 => "1 colluder".to_string(),
                colluders => format!("{colluders} colluders"),
            },
            masking.group_size,
            masking.complete_threshold(masking.group_size)
        ),
        "post-processing: rows are noised before anything sees them, so a rule over them tells no more; its own bounds are \
         about noised rows"
            .to_string(),
        format!(
            "budget: population {:?}, limit epsilon = {} at delta = {:e} over all its tasks; a round is reserved before clients \
             train and charged once its sums may be unmasked, released or not; what does not fit is refused",
            budget.population, budget.epsilon, budget.delta
        ),
        "not covered by epsilon: who takes part and how many of a group survive; clients that do not clip (they move their row as \
         far as they like) or add no share (count them among the colluders); a person with several devices; a sum beyond the \
         ring wraps and spoils its row, with a probability of at most 2^-39 if everybody clips"
            .to_string(),
    ];
    lines.extend(devices(masking, shares));
    lines.extend(warnings(spec, budget));
    lines
}

/// What devices may insist on.
fn devices(masking: &Masking, shares: &NoiseShares) -> Option<String> {
    let least = least_noise(masking, shares);
    (least > 0.0).then(|| {
        format!(
            "devices: may insist on noise of up to {} times the norm that updates are held to (`testudo join --min-shared-noise`, \
             Policy::min_shared_noise), unless they count on more colluders than {} of a group of {}",
            rounded_down(least),
            usual_colluders(masking),
            masking.group_size
        )
    })
}

/// The noise that a device with the usual policy finds in this task's rounds: σ of the shares that are certain over the norm
/// that rounded updates are held to.
fn least_noise(masking: &Masking, shares: &NoiseShares) -> f64 {
    let threshold = masking.complete_threshold(masking.group_size);
    let certain = (shares.honest() as usize).min(threshold.saturating_sub(usual_colluders(masking)));
    shares.shares.sigma() * (certain as f64).sqrt() / rounded_bound(&shares.grid) as f64
}

/// Colluders of a group that a device counts on unless told.
fn usual_colluders(masking: &Masking) -> usize {
    (DEVICES_COLLUDERS * masking.group_size as f64).ceil() as usize
}

/// Five digits, the last one down: what is typed is not more than there is.
fn rounded_down(value: f64) -> f64 {
    let unit = 10_f64.powi(4 - value.log10().floor() as i32);
    let shown = (value * unit).floor() / unit;
    if shown <= value { shown } else { ((value * unit).floor() - 1.0) / unit }
}
