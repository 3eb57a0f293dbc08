//! Division of the training examples among clients.

use serde::{Deserialize, Serialize};

use crate::random::{Purpose, stream};

use super::Dataset;
use super::split::rows_by_class;

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
}

/// Why the examples cannot be divided.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionError {
    /// More clients, or more examples for each, than there are examples.
    #[error("{clients} clients with at least {min_samples} examples each need {}, but there are {examples}; use fewer clients or a smaller min_samples", clients.saturating_mul(*min_samples))]
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
            Self::Iid {} => 1,
            Self::Dirichlet { min_samples, .. } => *min_samples,
        };
        let examples = data.len();
        if clients.checked_mul(min_samples).is_none_or(|needed| needed > examples) {
            return Err(PartitionError::TooFewExamples { clients, min_samples, examples });
        }
        let mut parts = match *self {
            Self::Iid {} => iid(examples, clients, seed),
            Self::Dirichlet { alpha, min_samples } => dirichlet(data, clients, seed, alpha, min_samples)?,
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
mod tests {
    use super::*;
    use crate::data::digits;

    fn covers_everything_once(parts: &[Vec<usize>], examples: usize) {
        let mut all = parts.concat();
        all.sort_unstable();
        assert_eq!(all, (0..examples).collect::<Vec<_>>());
    }

    /// Mean over clients of the share of the client's commonest class.
    fn concentration(parts: &[Vec<usize>], data: &Dataset) -> f64 {
        let share = |part: &Vec<usize>| {
            let mut counts = [0; 10];
            part.iter().for_each(|&row| counts[data.label(row)] += 1);
            f64::from(counts.iter().copied().max().unwrap_or(0)) / part.len() as f64
        };
        parts.iter().map(share).sum::<f64>() / parts.len() as f64
    }

    #[test]
    fn iid_parts_differ_in_size_by_at_most_one_and_cover_everything() {
        let data = digits::load();
        let parts = Partition::Iid {}.divide(&data, 20, 3).unwrap();
        covers_everything_once(&parts, data.len());
        assert!(parts.iter().all(|part| part.len() == 89 || part.len() == 90));
        assert_eq!(parts, Partition::Iid {}.divide(&data, 20, 3).unwrap());
        assert_ne!(parts, Partition::Iid {}.divide(&data, 20, 4).unwrap());
        assert!(concentration(&parts, &data) < 0.25);
    }

    #[test]
    fn dirichlet_redraws_until_every_client_holds_the_minimum() {
        let data = digits::load();
        let partition = Partition::Dirichlet { alpha: 0.1, min_samples: 4 };
        for seed in 0..20 {
            let parts = partition.divide(&data, 16, seed).unwrap();
            covers_everything_once(&parts, data.len());
            assert!(parts.iter().all(|part| part.len() >= 4));
            assert_eq!(parts, partition.divide(&data, 16, seed).unwrap());
        }
    }

    #[test]
    fn a_smaller_alpha_gives_clients_fewer_classes() {
        let data = digits::load();
        let at = |alpha| {
            let partition = Partition::Dirichlet { alpha, min_samples: 1 };
            concentration(&partition.divide(&data, 16, 1).unwrap(), &data)
        };
        assert!(at(0.1) > at(0.5) + 0.1);
        assert!(at(0.5) > at(100.0) + 0.1);
    }

    #[test]
    fn what_cannot_be_divided_is_refused_with_numbers_and_a_fix() {
        let data = Dataset::new(vec![0.0; 10], vec![0, 1, 0, 1, 0, 1, 0, 1, 0, 1], 1, 2).unwrap();
        let message = |partition: Partition, clients| partition.divide(&data, clients, 0).unwrap_err().to_string();
        assert!(message(Partition::Iid {}, 11).contains("11 clients"));
        assert!(message(Partition::Iid {}, 0).contains("clients = 0"));
        assert!(message(Partition::Dirichlet { alpha: 1.0, min_samples: 6 }, 2).contains("need 12, but there are 10"));
        assert!(message(Partition::Dirichlet { alpha: 1.0, min_samples: usize::MAX }, 2).contains("but there are 10"));
        for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(message(Partition::Dirichlet { alpha, min_samples: 1 }, 2).contains("alpha ="));
        }
        let hopeless = message(Partition::Dirichlet { alpha: 1e-6, min_samples: 2 }, 5);
        assert!(hopeless.contains("raise alpha"), "{hopeless}");
    }

    #[test]
    fn the_configuration_is_strict_and_has_a_default_minimum() {
        let parsed: Partition = serde_json::from_str(r#"{"kind":"dirichlet","alpha":0.5}"#).unwrap();
        assert_eq!(parsed, Partition::Dirichlet { alpha: 0.5, min_samples: 4 });
        assert_eq!(serde_json::from_str::<Partition>(r#"{"kind":"iid"}"#).unwrap(), Partition::Iid {});
        assert!(serde_json::from_str::<Partition>(r#"{"kind":"iid","alpha":1}"#).is_err());
        assert!(serde_json::from_str::<Partition>(r#"{"kind":"dirichlet","alpha":1,"beta":2}"#).is_err());
    }
}
