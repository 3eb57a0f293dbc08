//! The report of a masked task whose clients add shares of the noise.

use super::private::{rounded_up, warnings};
use crate::{Masking, NoiseShares, TaskSpec};
use testudo_privacy::{clip::rounded_bound, sensitivity::Adjacency};

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
            "holds if: the server follows the protocol (it may look at all it gets, with {} colluders a group: more come into \
             one with a probability of at most 2^-40 a round, which delta does not count); at least \
             {honest} survivors of every group are honest: they clip, add their share and tell nobody, and no group of {} is \
             unmasked with fewer than {} survivors; masks, shares and noise keys are not broken: the bound is computational",
            shares.shares.colluders(),
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
    lines.extend(warnings(spec, budget));
    lines
}
