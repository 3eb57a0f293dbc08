//! What a rule must know about the rows before it can decide.

use serde::{Deserialize, Serialize};

/// What a rule's `decide` must know about the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Needs {
    /// Squared distances.
    pub distances: DistanceNeeds,
    /// Per row the numbers of positive, zero and negative coordinates, over a share of all coordinates.
    pub signs: Option<Share>,
    /// Squared distances over random samples of the coordinates.
    pub samples: Option<Samples>,
    /// Rows besides the clients'.
    pub extras: Extras,
}

/// Which squared distances are needed; each includes those above it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DistanceNeeds {
    /// None.
    #[default]
    None,
    /// From the origin: the rows' lengths.
    Norms,
    /// From the origin and from one point.
    From(Anchor),
    /// Among all rows, and from the origin, each right to 1.1e-6: enough to compare and to add them.
    NearPairs,
    /// Among all rows, and from the origin, each as right as f64 allows: differences of distances keep digits.
    Pairs,
}

/// A point that distances are measured from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anchor {
    /// This row.
    Row(usize),
    /// This extra row, counted from 0.
    Extra(usize),
}

impl Anchor {
    /// Its index among the points, behind `rows` rows.
    #[must_use]
    pub fn point(self, rows: usize) -> usize {
        match self {
            Self::Row(row) => row,
            Self::Extra(extra) => rows + extra,
        }
    }
}

/// A share of the coordinates, chosen by the round's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Share {
    /// Chosen coordinates per million; a million takes all.
    pub per_million: u32,
}

/// Independent random samples of the coordinates, chosen by the round's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Samples {
    /// How many samples.
    pub count: usize,
    /// Expected coordinates in each; as many as there are or more takes all.
    pub coordinates: usize,
}

/// Rows a rule needs besides the clients' own; they follow the rows in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Extras {
    /// The task's last aggregate, zero before the first.
    pub last_aggregate: bool,
    /// A trusted update.
    pub reference: bool,
    /// Per row the sum of its client's earlier updates.
    pub history: bool,
}

impl Needs {
    /// Nothing but the number of rows: the rows are read once.
    pub const NOTHING: Self = Self {
        distances: DistanceNeeds::None,
        signs: None,
        samples: None,
        extras: Extras { last_aggregate: false, reference: false, history: false },
    };
    /// The rows' lengths: the rows are read twice.
    pub const NORMS: Self = Self { distances: DistanceNeeds::Norms, ..Self::NOTHING };
    /// Squared distances among all rows: the rows are read twice.
    pub const PAIR_DISTANCES: Self = Self { distances: DistanceNeeds::Pairs, ..Self::NOTHING };

    /// Squared distances among all rows, to be compared and added, never subtracted: the rows are read twice.
    pub const NEAR_PAIR_DISTANCES: Self = Self { distances: DistanceNeeds::NearPairs, ..Self::NOTHING };

    /// The rows' lengths and their distances from one point: the rows are read twice.
    #[must_use]
    pub const fn from_point(anchor: Anchor) -> Self {
        Self { distances: DistanceNeeds::From(anchor), ..Self::NOTHING }
    }

    /// Whether the observing pass can be left out.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.distances == DistanceNeeds::None && self.signs.is_none() && self.samples.is_none()
    }
}

impl DistanceNeeds {
    /// Whether all pairs are measured.
    #[must_use]
    pub fn are_pairs(self) -> bool {
        matches!(self, Self::NearPairs | Self::Pairs)
    }
}

impl Extras {
    /// Number of extra rows for `rows` rows.
    #[must_use]
    pub fn count(&self, rows: usize) -> usize {
        usize::from(self.last_aggregate) + usize::from(self.reference) + if self.history { rows } else { 0 }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Share {
    /// Whether the seed's `stream` chooses this coordinate.
    pub(crate) fn chooses(self, seed: u64, stream: u64, coordinate: usize) -> bool {
        self.per_million >= 1_000_000 || draw(seed, stream, coordinate) % 1_000_000 < u64::from(self.per_million)
    }
}

impl Samples {
    /// Whether sample `sample` of the seed holds this coordinate of `dimension`.
    #[allow(clippy::cast_possible_truncation, reason = "a product of two u64 shifted down by 64 bits")]
    pub(crate) fn choose(self, seed: u64, sample: usize, coordinate: usize, dimension: usize) -> bool {
        if self.coordinates >= dimension {
            return true;
        }
        // A uniform number below `dimension`.
        let drawn = (u128::from(draw(seed, 1 + sample as u64, coordinate)) * dimension as u128) >> 64;
        (drawn as u64) < self.coordinates as u64
    }
}

/// 64 bits by seed, stream and coordinate: two rounds of SplitMix64's finaliser (Steele et al. 2014). Not
/// cryptographic: the seed is secret until the updates are in.
pub(crate) fn draw(seed: u64, stream: u64, coordinate: usize) -> u64 {
    let mut z = seed ^ mix64(stream.wrapping_add(0x9E37_79B9_7F4A_7C15));
    z = z.wrapping_add((coordinate as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    mix64(mix64(z))
}

fn mix64(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_about_the_expected_size_and_differ() {
        let samples = Samples { count: 2, coordinates: 1000 };
        let chosen = |sample| -> Vec<usize> { (0..10_000).filter(|&c| samples.choose(7, sample, c, 10_000)).collect() };
        let (first, second) = (chosen(0), chosen(1));
        // Standard deviation 30: five of them.
        assert!((850..1150).contains(&first.len()), "{}", first.len());
        let common = first.iter().filter(|c| second.contains(c)).count();
        assert!((50..160).contains(&common), "{common}");
        assert!((0..10).all(|c| samples.choose(7, 0, c, 10)));
        let share = Share { per_million: 100_000 };
        let count = (0..10_000).filter(|&c| share.chooses(3, 0, c)).count();
        assert!((850..1150).contains(&count), "{count}");
    }
}
