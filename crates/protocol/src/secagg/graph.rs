//! Who masks against whom, how many neighbours each client needs, and how many shares rebuild a secret.
//!
//! Up to [`COMPLETE_LIMIT`] clients everybody is everybody's neighbour (Bonawitz et al. 2017). Larger groups use the
//! Harary graph on the group's random order, with the degree and threshold of Bell et al. 2020.

use crate::secagg::hypergeometric::{Probability, Tails};

/// Largest group with a complete graph.
pub const COMPLETE_LIMIT: u32 = 100;
/// σ: the probability that secrecy fails is at most 2^−σ.
pub const SECRECY_BITS: f64 = 40.0;
/// η: the probability that the sum is lost is at most 2^−η.
pub const CORRECTNESS_BITS: f64 = 20.0;
/// Bound on γ + 2δ.
pub const RATE_LIMIT: f64 = 0.9;
/// More than decimal rates and their sums lose when they are rounded to binary. Always used towards more safety.
const ROUNDING: f64 = 1e-9;
/// Values this much less likely than the mode are left out: together they are below 2^−120 of any bound used here.
const NEGLIGIBLE_BITS: u32 = 220;

/// Why there is no such graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no graph of {count} clients has degree {degree}: it must be even, at least 2 and less than the clients")]
pub struct BadGraph {
    /// Clients.
    pub count: u32,
    /// The degree asked for.
    pub degree: u32,
}

/// The neighbours in a group. Clients are named by their place in the group's roster, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Graph {
    count: u32,
    /// How far neighbours reach on either side of the ring; `None` when everybody is a neighbour.
    reach: Option<u32>,
}

impl Graph {
    /// Everybody is everybody's neighbour.
    pub fn complete(count: u32) -> Self {
        Self { count, reach: None }
    }

    /// The Harary graph: the nearest `degree / 2` on either side of the ring.
    ///
    /// # Errors
    /// [`BadGraph`] unless the degree is even, at least 2 and less than the number of clients.
    pub fn harary(count: u32, degree: u32) -> Result<Self, BadGraph> {
        if degree < 2 || !degree.is_multiple_of(2) || degree >= count {
            return Err(BadGraph { count, degree });
        }
        Ok(Self { count, reach: Some(degree / 2) })
    }

    /// Number of clients.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Neighbours of each client.
    pub fn degree(&self) -> u32 {
        self.reach.map_or(self.count.saturating_sub(1), |reach| 2 * reach)
    }

    /// The neighbours of a client in ascending order; none of a client beyond the last.
    pub fn neighbours(&self, index: u32) -> Vec<u32> {
        if index >= self.count {
            return Vec::new();
        }
        let Some(reach) = self.reach else {
            return (0..self.count).filter(|&other| other != index).collect();
        };
        let on_the_ring = |offset: u32| ((u64::from(index) + u64::from(offset)) % u64::from(self.count)) as u32;
        let mut neighbours: Vec<u32> =
            (1..=reach).flat_map(|step| [step, self.count - step]).map(on_the_ring).collect();
        neighbours.sort_unstable();
        neighbours
    }

    /// Whether two clients are neighbours. Nobody is its own.
    pub fn are_neighbours(&self, one: u32, other: u32) -> bool {
        if one >= self.count || other >= self.count || one == other {
            return false;
        }
        let distance = one.abs_diff(other);
        self.reach.is_none_or(|reach| distance.min(self.count - distance) <= reach)
    }
}

/// Whom the parameters protect against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Adversary {
    /// A server that follows the protocol and colludes with clients.
    HonestButCurious,
    /// A server that does as it likes and colludes with clients.
    Malicious,
}

/// Why no degree will do.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Infeasible {
    /// A rate is not a share of the clients.
    #[error("{name} = {rate} must be at least 0 and less than 1")]
    Rate {
        /// Which rate.
        name: &'static str,
        /// Its value.
        rate: f64,
    },
    /// Too many colluders and dropouts together.
    #[error("colluders + 2 x dropouts = {0} must be less than {RATE_LIMIT}: declare fewer of either")]
    Rates(f64),
    /// Too few clients for these rates.
    #[error("no degree is enough for {count} clients with these rates: use a larger group or declare lower rates")]
    Degree {
        /// Clients in the group.
        count: u32,
    },
}

/// Degree and threshold of a sparse graph (Bell et al. 2020, with σ = [`SECRECY_BITS`], η = [`CORRECTNESS_BITS`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Parameters {
    /// Neighbours of each client, even.
    pub degree: u32,
    /// Shares that rebuild a secret.
    pub threshold: u32,
}

impl Parameters {
    /// The smallest even degree, with its threshold, for `count` clients of which a share γ colludes and a share δ
    /// drops out, such that
    ///
    /// 1. the honest survivors stay connected but for 2^−(σ+1);
    /// 2. no honest client has more than t₁ colluding neighbours but for 2^−(σ+1);
    /// 3. every client keeps t₂ neighbours but for 2^−η;
    /// 4. the threshold that t₁ demands is at most t₂.
    ///
    /// # Errors
    /// [`Infeasible`] when γ + 2δ ≥ 0.9, when a rate is not in [0, 1), or when no degree below `count` will do.
    pub fn find(count: u32, gamma: f64, delta: f64, model: Adversary) -> Result<Self, Infeasible> {
        for (name, rate) in [("the share of colluders", gamma), ("the share of dropouts", delta)] {
            if !(0.0..1.0).contains(&rate) {
                return Err(Infeasible::Rate { name, rate });
            }
        }
        if gamma + 2.0 * delta >= RATE_LIMIT - ROUNDING {
            return Err(Infeasible::Rates(gamma + 2.0 * delta));
        }
        let group = Group { count, colluders: part(gamma, count), dropouts: part(delta, count), model };
        let mut isolated = Probability::ONE;
        for degree in (2..count).step_by(2) {
            isolated = group.all_lost(isolated, degree);
            if let Some(threshold) = group.threshold(degree, isolated) {
                return Ok(Self { degree, threshold });
            }
        }
        Err(Infeasible::Degree { count })
    }
}

/// Why a configured threshold is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("threshold {threshold} is above the group size {group_size}: no group could reach it")]
pub struct BadThreshold {
    /// The configured threshold.
    pub threshold: u32,
    /// The configured group size.
    pub group_size: u32,
}

/// Shares that rebuild a secret in a complete graph of `members` clients: ⌊2n/3⌋ + 1, or what the operator configured
/// for groups of `group_size`, scaled to this group, if that is more.
///
/// # Errors
/// [`BadThreshold`] when the configured threshold is above the group size.
pub fn complete_threshold(members: u32, group_size: u32, configured: Option<u32>) -> Result<u32, BadThreshold> {
    let least = 2 * u64::from(members) / 3 + 1;
    let Some(threshold) = configured else {
        return Ok(narrow(least));
    };
    if threshold > group_size {
        return Err(BadThreshold { threshold, group_size });
    }
    let scaled = (u64::from(threshold) * u64::from(members)).div_ceil(u64::from(group_size.max(1)));
    Ok(narrow(least.max(scaled)))
}

/// A sparse group with the numbers behind its rates.
struct Group {
    count: u32,
    colluders: u32,
    dropouts: u32,
    model: Adversary,
}

impl Group {
    /// C(A+D, k) / C(n, k), the probability that all k neighbours of a client are lost, from its value for k − 2.
    fn all_lost(&self, before: Probability, degree: u32) -> Probability {
        let lost = self.colluders.saturating_add(self.dropouts);
        [degree - 2, degree - 1].iter().fold(before, |product, &taken| {
            product * (f64::from(lost.saturating_sub(taken)) / f64::from(self.count - taken))
        })
    }

    /// The threshold of a degree, if it satisfies all conditions.
    fn threshold(&self, degree: u32, all_lost: Probability) -> Option<u32> {
        let clients = f64::from(self.count);
        let cuts = clients * f64::from(self.count - degree - 1) / 2.0;
        if (all_lost * cuts).log2() >= -(SECRECY_BITS + 1.0) {
            return None;
        }
        let (count, neighbours) = (u64::from(self.count), u64::from(degree));
        let colluding = Tails::hypergeometric_to(count, u64::from(self.colluders), neighbours, NEGLIGIBLE_BITS);
        let corrupt = colluding.quantile_above(-(SECRECY_BITS + 1.0) - clients.log2());
        let surviving =
            Tails::hypergeometric_to(count, u64::from(self.count - self.dropouts), neighbours, NEGLIGIBLE_BITS);
        let alive = surviving.quantile_below(-CORRECTNESS_BITS - clients.log2());
        let threshold = match self.model {
            // ⌈(t₁ + k − 1.25) / 2⌉ + 1 in whole numbers.
            Adversary::Malicious => (corrupt + neighbours) / 2 + 1,
            Adversary::HonestButCurious => (corrupt + 1).max(2),
        };
        (threshold <= alive).then(|| narrow(threshold))
    }
}

/// ⌊rate·count⌋ of a decimal rate: the nudge undoes its rounding to binary (0.29·100 is 28.999…), towards more.
fn part(rate: f64, count: u32) -> u32 {
    (rate * f64::from(count) + ROUNDING).floor() as u32
}

fn narrow(threshold: u64) -> u32 {
    u32::try_from(threshold).expect("thresholds do not exceed the number of clients by more than one")
}

#[cfg(test)]
mod tests;
