//! Division of the training examples among clients.

use serde::{Deserialize, Serialize};

use crate::random::{Purpose, stream};
use crate::words::counted;

use super::Dataset;
use super::split::rows_by_class;

mod skewed;

/// How unlike each other the clients' data are. As configuration: `{ kind = "dirichlet", alpha = 0.5 }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Partition {
    /// Every client draws from the same distribution: the examples are shuffled and dealt in parts whose sizes differ
    /// by at most one.
    Iid {},
    /// Each class is divided by proportions from a symmetric Dirichlet distribution, cut at the floors of the cumulative
    /// shares; redrawn until every client holds at least `min_samples` examples.
    Dirichlet {
        /// Concentration: small values give clients few classes each.
        alpha: f64,
        /// Fewest examples of any client.
        #[serde(default = "default_min_samples")]
        min_samples: usize,
    },
    /// A share of the examples is divided as `iid`, the rest as `extreme`.
    Gamma {
        /// The share γ, from 0 (`extreme`) to 1 (`iid`).
        gamma: f64,
    },
    /// The examples, sorted by label, are cut into consecutive shards, and each client gets some of them at random
    /// (McMahan et al. 2017).
    Shards {
        /// Shards of each client.
        #[serde(default = "default_shards")]
        per_client: usize,
    },
    /// Each client holds so many classes, and the examples of a class are divided evenly among those that hold it.
    LabelQuantity {
        /// Classes of each client.
        labels: usize,
    },
    /// The examples, sorted by label, are cut into one consecutive part per client; sizes differ by at most one, larger
    /// parts first.
    Extreme {},
}

/// Why the examples cannot be divided.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionError {
    /// More clients, or more examples for each, than there are examples.
    #[error("{} with at least {} each need {}, but there are {examples}; use fewer clients or a smaller min_samples", counted(*clients, "client"), counted(*min_samples, "example"), clients.saturating_mul(*min_samples))]
    TooFewExamples {
        /// Clients asked for.
        clients: usize,
        /// Fewest examples of any client.
        min_samples: usize,
        /// What there is.
        examples: usize,
    },
    /// No clients at all.
    #[error("clients = 0; give at least 1")]
    NoClients,
    /// A concentration that is no concentration.
    #[error("alpha = {0}; give a number from 1e-6 to 1e6, such as 0.5")]
    Alpha(f64),
    /// A share that is no share.
    #[error("gamma = {0}; give a number from 0 to 1")]
    Gamma(f64),
    /// No shards.
    #[error("per_client = {0}; give at least 1")]
    Shards(usize),
    /// A number of classes that cannot be held or leaves classes to nobody.
    #[error("labels = {labels} of {classes} classes for {}; give {} to {classes}", counted(*clients, "client"), classes.div_ceil(*clients))]
    Labels {
        /// Classes of each client.
        labels: usize,
        /// Classes there are.
        classes: usize,
        /// Clients asked for.
        clients: usize,
    },
    /// No draw gave every client enough.
    #[error(
        "no draw of {draws} gave each of {clients} clients {min_samples} examples at alpha = {alpha}; raise alpha, or lower clients or min_samples"
    )]
    NoDraw {
        /// Draws tried.
        draws: u64,
        /// Clients asked for.
        clients: usize,
        /// Fewest examples of any client.
        min_samples: usize,
        /// Concentration.
        alpha: f64,
    },
}

/// Enough for settings in which one draw in a thousand succeeds.
const DRAWS: u64 = 10_000;

fn default_shards() -> usize {
    2
}

fn default_min_samples() -> usize {
    4
}

impl Partition {
    /// For each client the numbers of its examples in increasing order. Every example goes to exactly one client.
    ///
    /// # Errors
    /// Too few examples, parameters out of range, or no draw that satisfies `min_samples`.
    pub fn divide(&self, data: &Dataset, clients: usize, seed: u64) -> Result<Vec<Vec<usize>>, PartitionError> {
        if clients == 0 {
            return Err(PartitionError::NoClients);
        }
        let min_samples = match self {
            Self::Dirichlet { min_samples, .. } => *min_samples,
            Self::Shards { per_client } => *per_client,
            _ => 1,
        };
        let examples = data.len();
        if clients.checked_mul(min_samples).is_none_or(|needed| needed > examples) {
            return Err(PartitionError::TooFewExamples { clients, min_samples, examples });
        }
        let mut parts = match *self {
            Self::Iid {} => iid(examples, clients, seed),
            Self::Dirichlet { alpha, min_samples } => dirichlet(data, clients, seed, alpha, min_samples)?,
            Self::Gamma { gamma } => skewed::gamma(data, clients, seed, gamma)?,
            Self::Shards { per_client } => skewed::shards(data, clients, seed, per_client)?,
            Self::LabelQuantity { labels } => skewed::label_quantity(data, clients, seed, labels)?,
            Self::Extreme {} => skewed::consecutive(&skewed::sorted(data, 0..examples), clients),
        };
        parts.iter_mut().for_each(|part| part.sort_unstable());
        Ok(parts)
    }
}

fn iid(examples: usize, clients: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut rows: Vec<usize> = (0..examples).collect();
    stream(seed, Purpose::Partition, 0, 0).shuffle(&mut rows);
    (0..clients).map(|client| rows[client * examples / clients..(client + 1) * examples / clients].to_vec()).collect()
}

fn dirichlet(
    data: &Dataset,
    clients: usize,
    seed: u64,
    alpha: f64,
    min_samples: usize,
) -> Result<Vec<Vec<usize>>, PartitionError> {
    if !(1e-6..=1e6).contains(&alpha) {
        return Err(PartitionError::Alpha(alpha));
    }
    let classes = rows_by_class(data.labels(), data.classes());
    for draw in 0..DRAWS {
        let mut random = stream(seed, Purpose::Partition, draw, 0);
        let mut parts = vec![Vec::new(); clients];
        for class in &classes {
            let mut rows = class.clone();
            random.shuffle(&mut rows);
            let (mut share, mut from) = (0.0, 0);
            for (client, proportion) in random.dirichlet(alpha, clients).iter().enumerate() {
                share += proportion;
                // The last cut is the end, whatever rounding did to the sum of the proportions.
                let cut = if client + 1 == clients { rows.len() } else { (share * rows.len() as f64) as usize };
                let to = cut.clamp(from, rows.len());
                parts[client].extend_from_slice(&rows[from..to]);
                from = to;
            }
        }
        if parts.iter().all(|part| part.len() >= min_samples) {
            return Ok(parts);
        }
    }
    Err(PartitionError::NoDraw { draws: DRAWS, clients, min_samples, alpha })
}

#[cfg(test)]
mod tests;
