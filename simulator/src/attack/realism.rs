//! How alike the colluders' updates are.

use serde::{Deserialize, Serialize};

use crate::random::Stream;

/// How alike the colluders' updates are: identical ones are trivially found as duplicates, dense ones by their zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Realism {
    /// Each forges its own.
    #[default]
    Own,
    /// The first one's update is sent by all.
    Identical,
    /// The first one's, each coordinate times 1 + σN(0, 1), drawn by each colluder for itself.
    Jitter(f64),
    /// As a jitter of 0.5, with the zero pattern of a random honest client.
    SupportMatched,
}

impl Realism {
    /// Makes one colluder's copy of the common update its own. `honest` lends its zeros to the support-matched mode.
    pub fn roughen(self, update: &mut [f32], honest: &[Vec<f32>], stream: &mut Stream) {
        let sigma = match self {
            Self::Own | Self::Identical => return,
            Self::Jitter(sigma) => sigma,
            Self::SupportMatched => 0.5,
        };
        for value in update.iter_mut() {
            *value = (f64::from(*value) * (1.0 + sigma * stream.normal())) as f32;
        }
        if self == Self::SupportMatched && !honest.is_empty() {
            let pattern = &honest[stream.below(honest.len())];
            update.iter_mut().zip(pattern).filter(|(_, pattern)| **pattern == 0.0).for_each(|(value, _)| *value = 0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    fn roughened(realism: Realism, client: u64) -> Vec<f32> {
        let mut update: Vec<f32> = (0..4_000).map(|i| if i % 2 == 0 { 1.0 } else { -2.0 }).collect();
        let honest = vec![(0..4_000).map(|i| if i % 4 == 0 { 0.0 } else { 1.0 }).collect()];
        realism.roughen(&mut update, &honest, &mut stream(3, Purpose::Attack, 1, client));
        update
    }

    #[test]
    fn jitter_is_relative_and_each_colluders_own() {
        let (first, second) = (roughened(Realism::Jitter(0.1), 1), roughened(Realism::Jitter(0.1), 2));
        assert_ne!(first, second);
        let sd = |scale: f32, parity: usize| {
            let relative = first.iter().skip(parity).step_by(2).map(|value| f64::from(value / scale - 1.0).powi(2));
            (relative.sum::<f64>() / 2_000.0).sqrt()
        };
        assert!((sd(1.0, 0) - 0.1).abs() < 0.01 && (sd(-2.0, 1) - 0.1).abs() < 0.01);
        assert_eq!(roughened(Realism::Identical, 1), roughened(Realism::Identical, 2));
        assert_eq!(roughened(Realism::Jitter(0.0), 1), roughened(Realism::Own, 2));
    }

    #[test]
    fn support_matched_colluders_have_the_zeros_of_an_honest_client() {
        let update = roughened(Realism::SupportMatched, 1);
        let zeros: Vec<usize> = (0..update.len()).filter(|&i| update[i] == 0.0).collect();
        assert_eq!(zeros, (0..4_000).step_by(4).collect::<Vec<_>>());
    }
}
