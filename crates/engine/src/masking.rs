//! Pairwise masking of a task: groups, thresholds, quantiser and what is assumed of the clients.

use testudo_protocol::secagg::graph::{self, Adversary, COMPLETE_LIMIT, Infeasible, Parameters};

/// Groups of at most this many clients are complete graphs; larger ones are sparse (Bell et al. 2020).
pub const COMPLETE_GROUP: usize = COMPLETE_LIMIT as usize;

/// A checked `[visibility] masking = "pairwise"` with the quantiser's part of `[encoding]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Masking {
    /// Clients whose updates are summed before anything sees them: the fewest in one group.
    pub group_size: usize,
    /// Clients of a group of `group_size` that must answer, as configured; never below ⌊2·size/3⌋+1. `None`: that.
    pub threshold: Option<usize>,
    /// Updates are clipped to this L2 norm, over all tensors, before they are quantised.
    pub clip_l2: f64,
    /// Coordinates are clamped to ±κ; at most `clip_l2`.
    pub kappa: f64,
    /// Bits of a quantised coordinate; a group's sum stays below 2^32.
    pub bits: u32,
    /// Largest weight, where claimed examples weigh the updates inside a group; `None`: all weigh the same.
    pub max_weight: Option<u64>,
    /// How long each of share keys, masked input, consistency and unmask may take, milliseconds.
    pub step_limit_ms: u64,
    /// What the operator assumes of the cohort.
    pub assumed: Assumed,
    /// The enrolment authority's Ed25519 public key. `None`: the aggregator vouches for the clients itself, so nothing
    /// is promised against a malicious server.
    pub authority: Option<[u8; 32]>,
    /// Why a weak or infeasible combination was accepted.
    pub accept_weak_guarantee: Option<String>,
}

/// One group's graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Its clients.
    pub size: usize,
    /// Neighbours of each client: all others in a complete graph.
    pub degree: usize,
    /// Shares that rebuild a secret; in a complete graph also the clients that must answer.
    pub threshold: usize,
}

/// Declared shares of a cohort, each from 0 up to but not including 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Assumed {
    /// Clients that tell the server what they know.
    pub colluders: f64,
    /// Clients that upload anything they like. `None`: as many as the rule tolerates bad rows, whatever the cohort,
    /// because one client spoils at most one row.
    pub byzantine: Option<f64>,
    /// Clients that vanish between advertising their keys and unmasking.
    pub dropout: f64,
}

impl Masking {
    /// Rows a rule sees if this many clients are grouped.
    pub fn rows(&self, clients: usize) -> usize {
        clients / self.group_size.max(1)
    }

    /// Sizes of the groups this many clients form, larger ones first; they differ by at most one. Empty if there are
    /// too few clients for one group.
    pub fn groups(&self, clients: usize) -> Vec<usize> {
        let rows = self.rows(clients);
        (0..rows).map(|row| clients / rows + usize::from(row < clients % rows)).collect()
    }

    /// Size of the largest group in any cohort from `least` to `most` clients: few rows leave much to spread over them.
    pub fn largest_group(group_size: usize, least: usize, most: usize) -> usize {
        let group_size = group_size.max(1);
        let rows = (least / group_size).max(1);
        let fullest = ((rows + 1) * group_size - 1).min(most.max(least));
        fullest.div_ceil((fullest / group_size).max(1))
    }

    /// The graph of a group of `size` clients: complete with [`Masking::complete_threshold`] up to [`COMPLETE_GROUP`],
    /// beyond it sparse, with the degree and threshold for a malicious server and the declared colluders and dropouts.
    ///
    /// # Errors
    /// [`Infeasible`] if no sparse graph is dense enough for the declared shares.
    pub fn group(&self, size: usize) -> Result<Group, Infeasible> {
        if size <= COMPLETE_GROUP {
            return Ok(Group { size, degree: size.saturating_sub(1), threshold: self.complete_threshold(size) });
        }
        let found = Parameters::find(whole(size), self.assumed.colluders, self.assumed.dropout, Adversary::Malicious)?;
        Ok(Group { size, degree: found.degree as usize, threshold: found.threshold as usize })
    }

    /// Clients that must answer in a complete group of `size`: max(⌊2·size/3⌋+1, ⌈threshold·size/group_size⌉).
    pub fn complete_threshold(&self, size: usize) -> usize {
        let [size, group_size] = [size, self.group_size.max(1)].map(whole);
        // A threshold above the group is refused with the task.
        graph::complete_threshold(size, group_size, self.threshold.map(whole)).unwrap_or(size) as usize
    }
}

impl Group {
    /// Whether everybody is everybody's neighbour.
    pub fn is_complete(&self) -> bool {
        self.degree + 1 >= self.size
    }
}

impl Assumed {
    /// Colluders among this many clients, rounded down.
    pub fn colluders_among(&self, clients: usize) -> usize {
        share(self.colluders, clients)
    }

    /// Dropouts among this many clients, rounded down.
    pub fn dropouts_among(&self, clients: usize) -> usize {
        share(self.dropout, clients)
    }

    /// Byzantine clients among this many, rounded down; `tolerated` is what the rule tolerates in rows.
    pub fn byzantine_among(&self, clients: usize, tolerated: usize) -> usize {
        self.byzantine.map_or(tolerated, |fraction| share(fraction, clients))
    }
}

/// A number of clients as the protocol counts them.
fn whole(clients: usize) -> u32 {
    u32::try_from(clients).unwrap_or(u32::MAX)
}

/// ⌊fraction·whole⌋; a share such as 0.07 of 100 may come out a little below the whole number it means.
fn share(fraction: f64, whole: usize) -> usize {
    ((fraction * whole as f64 * (1.0 + 1e-12)).floor() as usize).min(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn masking(group_size: usize, threshold: Option<usize>) -> Masking {
        Masking {
            group_size,
            threshold,
            clip_l2: 1.0,
            kappa: 1.0,
            bits: 16,
            max_weight: None,
            step_limit_ms: 60_000,
            assumed: Assumed { colluders: 0.05, byzantine: None, dropout: 0.05 },
            authority: None,
            accept_weak_guarantee: None,
        }
    }

    #[test]
    fn shares_that_mean_a_whole_number_are_it() {
        for (fraction, whole, expected) in [(0.07, 100, 7), (0.29, 100, 29), (0.05, 19, 0), (0.05, 20, 1), (0.0, 9, 0)]
        {
            assert_eq!(share(fraction, whole), expected, "{fraction} of {whole}");
        }
    }

    proptest! {
        #[test]
        fn groups_hold_everybody_and_differ_by_at_most_one(group_size in 2..200usize, clients in 0..3000usize) {
            let masking = masking(group_size, None);
            let groups = masking.groups(clients);
            prop_assert_eq!(groups.len(), masking.rows(clients));
            if let (Some(most), Some(least)) = (groups.first(), groups.last()) {
                prop_assert_eq!(groups.iter().sum::<usize>(), clients);
                prop_assert!(most - least <= 1 && *least >= group_size);
            }
        }

        #[test]
        fn no_cohort_has_a_larger_group(group_size in 2..40usize, least in 0..300usize, more in 0..300usize) {
            let least = least.max(group_size);
            let most = least + more;
            let worst = (least..=most).map(|clients| clients.div_ceil(clients / group_size)).max().unwrap();
            prop_assert_eq!(Masking::largest_group(group_size, least, most), worst);
        }

        #[test]
        fn two_thresholds_exceed_a_group_and_what_the_operator_asks_for(
            group_size in 2..=100usize, raise in 0..100usize, more in 0..100usize,
        ) {
            let least = 2 * group_size / 3 + 1;
            let threshold = (least + raise).min(group_size);
            let masking = masking(group_size, Some(threshold));
            let size = group_size + more;
            let t = masking.complete_threshold(size);
            prop_assert!(2 * t > size && t <= size && 3 * t > 2 * size);
            prop_assert!(t * group_size >= threshold * size);
            prop_assert_eq!(masking.complete_threshold(group_size), threshold);
        }
    }
}
