//! Evidence against a client that grows over the rounds.

use serde::{Deserialize, Serialize};

use super::signals::COUNT;
use crate::scalar::ln;

/// The logarithm of an e-process: the product over the rounds of the mean e-value of the signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence(f64);

/// Largest e-value of one round and signal: a single round convinces nobody.
const MOST: f64 = 10.0;

impl Evidence {
    /// Takes in the p-values of a round. Before, evidence M becomes max(M, 1)^memory: what spoke for a client is
    /// forgotten at once, what spoke against it slowly.
    pub fn add(&mut self, p: &[f64; COUNT], memory: f64) {
        let mean = p.iter().map(|p| e_value(*p)).sum::<f64>() / COUNT as f64;
        self.0 = memory * self.0.max(0.0) + ln(mean);
    }

    /// Whether it is at least `bound`, above 0.
    pub fn is_at_least(self, bound: f64) -> bool {
        self.0 >= ln(bound)
    }

    /// Its natural logarithm.
    pub fn logarithm(self) -> f64 {
        self.0
    }
}

/// ½/√p, at most 10: has mean at most 1 for a uniform p (Vovk and Wang 2021, calibrators).
pub fn e_value(p: f64) -> f64 {
    if p > 0.0 { (0.5 / p.sqrt()).min(MOST) } else { MOST }
}

/// The two-sided p-value of `value` by its rank among itself and the others, ties broken by `u` in [0, 1): uniform if all
/// are exchangeable. 1 without others.
pub fn two_sided(value: f64, others: impl Iterator<Item = f64>, u: f64) -> f64 {
    let (mut less, mut equal, mut count) = (0.0, 1.0, 1.0);
    for other in others {
        count += 1.0;
        less += f64::from(u8::from(other < value));
        equal += f64::from(u8::from(other == value));
    }
    if count < 2.0 {
        return 1.0;
    }
    let rank = (less + u * equal) / count;
    2.0 * rank.min(1.0 - rank)
}

/// Which of the evidences e-BH rejects at false discovery rate `q` (Wang and Ramdas 2022): the k largest, for the largest
/// k with M_(k) ≥ n/(qk).
pub fn e_bh(evidences: &[Evidence], q: f64) -> Vec<bool> {
    let n = evidences.len() as f64;
    let mut sorted: Vec<f64> = evidences.iter().map(|evidence| evidence.0).collect();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let within = |k: &usize| sorted[k - 1] >= ln(n / (q * *k as f64));
    let most = (1..=sorted.len()).rev().find(within);
    let bound = most.map_or(f64::INFINITY, |k| sorted[k - 1]);
    evidences.iter().map(|evidence| evidence.0 >= bound).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    #[test]
    fn p_values_of_exchangeable_values_are_uniform_and_their_e_values_average_to_one_at_most() {
        let mut random = stream(1, Purpose::Detection, 0, 0);
        let mut below = [0; 4];
        let mut sum = 0.0;
        for _ in 0..20_000 {
            let others: Vec<f64> = (0..9).map(|_| (random.uniform() * 4.0).floor()).collect();
            let value = (random.uniform() * 4.0).floor();
            let p = two_sided(value, others.into_iter(), random.uniform());
            for (count, bound) in below.iter_mut().zip([0.05, 0.25, 0.5, 0.9]) {
                *count += usize::from(p <= bound);
            }
            sum += e_value(p);
        }
        for (count, bound) in below.into_iter().zip([0.05, 0.25, 0.5, 0.9]) {
            assert!((count as f64 / 20_000.0 - bound).abs() < 0.012, "{bound}: {count}");
        }
        assert!(sum / 20_000.0 < 1.01, "{}", sum / 20_000.0);
        assert_eq!(two_sided(1.0, std::iter::empty(), 0.3), 1.0);
        assert!(two_sided(9.0, (0..9).map(f64::from), 0.5) < 0.11 + 1e-9);
    }

    #[test]
    fn an_honest_client_is_accused_as_rarely_as_ville_promises() {
        let accused = (0..400).filter(|&client| {
            let mut random = stream(2, Purpose::Detection, 0, client);
            let mut evidence = Evidence::default();
            (0..100).any(|_| {
                let p = std::array::from_fn(|_| random.uniform());
                evidence.add(&p, 1.0);
                evidence.is_at_least(100.0)
            })
        });
        // Forgetting what speaks for a client costs some of the promise of 1 %.
        let accused = accused.count();
        assert!(accused <= 20, "{accused}");
    }

    #[test]
    fn evidence_against_grows_and_is_forgotten() {
        let mut evidence = Evidence::default();
        (0..10).for_each(|_| evidence.add(&[0.01; COUNT], 0.98));
        assert!(evidence.is_at_least(1e4), "{evidence:?}");
        let top = evidence.logarithm();
        (0..50).for_each(|_| evidence.add(&[0.5; COUNT], 0.98));
        assert!(evidence.logarithm() < top / 10.0);
    }

    #[test]
    fn e_bh_rejects_the_largest_that_stand_together() {
        let of = |values: &[f64]| -> Vec<Evidence> { values.iter().map(|value| Evidence(ln(*value))).collect() };
        assert_eq!(e_bh(&of(&[399.0, 1.0, 1.0, 1.0]), 0.01), [false; 4]);
        assert_eq!(e_bh(&of(&[401.0, 1.0, 1.0, 1.0]), 0.01), [true, false, false, false]);
        // Two at n/(2q).
        assert_eq!(e_bh(&of(&[201.0, 1.0, 201.0, 1.0]), 0.01), [true, false, true, false]);
        assert!(e_bh(&[], 0.01).is_empty());
    }
}
