//! Generated tasks, with an optimum that is known: what a rule costs can be measured as a distance, not only guessed
//! from accuracies.

use serde::{Deserialize, Serialize};

use super::{DataError, Dataset};
use crate::random::{Purpose, Stream, stream};

/// What is generated. As configuration: `{ kind = "linear", examples = 1000, width = 20 }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Synthetic {
    /// Classes with Gaussian clouds around random centres; for `softmax` and `mlp` (logistic regression with two
    /// classes). The best possible accuracy follows from the separation.
    Mixture {
        /// Examples.
        examples: usize,
        /// Features.
        width: usize,
        /// Classes, from 2.
        classes: usize,
        /// Standard deviation of the centres' coordinates; that of the clouds is 1.
        #[serde(default = "one")]
        separation: f64,
    },
    /// Standard normal inputs and y = ⟨w, x⟩ + b + noise; for the workload `linear`. The target is the last feature;
    /// the label says in which of ten equally frequent ranges it lies, so that divisions by label work.
    Linear {
        /// Examples.
        examples: usize,
        /// Inputs, without the target.
        width: usize,
        /// Standard deviation of the noise.
        #[serde(default)]
        noise: f64,
    },
    /// Points around the centres of groups, which are their labels; for the workload `quadratic`, whose optimum is the
    /// mean of all points. With one group per client and `divide = extreme`, the groups' distance is heterogeneity.
    Points {
        /// Examples.
        examples: usize,
        /// Coordinates.
        width: usize,
        /// Groups, from 1.
        groups: usize,
        /// Standard deviation of the centres' coordinates around 1; that of the points around their centre is 1.
        #[serde(default = "one")]
        separation: f64,
    },
}

/// Ranges of the target of [`Synthetic::Linear`].
const RANGES: usize = 10;
/// Most features times examples.
const MOST_VALUES: usize = 1 << 28;

fn one() -> f64 {
    1.0
}

impl Synthetic {
    /// The examples of this seed, in random order.
    ///
    /// # Errors
    /// A count of zero or too large, or a number that is not finite and not negative.
    pub fn generate(&self, seed: u64) -> Result<Dataset, DataError> {
        self.check()?;
        let mut random = stream(seed, Purpose::Synthetic, 0, 0);
        match *self {
            Self::Mixture { examples, width, classes, separation }
            | Self::Points { examples, width, groups: classes, separation } => {
                let middle = if matches!(self, Self::Points { .. }) { 1.0 } else { 0.0 };
                let centre = |random: &mut Stream| middle + separation * random.normal();
                let centres: Vec<f64> = (0..classes * width).map(|_| centre(&mut random)).collect();
                let mut labels: Vec<u16> = (0..examples).map(|row| (row % classes) as u16).collect();
                random.shuffle(&mut labels);
                let mut features = Vec::with_capacity(examples * width);
                for label in &labels {
                    let centre = &centres[usize::from(*label) * width..][..width];
                    features.extend(centre.iter().map(|centre| (centre + random.normal()) as f32));
                }
                Dataset::new(features, labels, width, classes)
            }
            Self::Linear { examples, width, noise } => {
                let weights: Vec<f64> = (0..=width).map(|_| random.normal()).collect();
                let mut features = Vec::with_capacity(examples * (width + 1));
                let mut targets = Vec::with_capacity(examples);
                for _ in 0..examples {
                    let mut target = weights[width] + noise * random.normal();
                    for weight in &weights[..width] {
                        // Rounded first: the target belongs to the numbers that are kept.
                        let input = random.normal() as f32;
                        target += weight * f64::from(input);
                        features.push(input);
                    }
                    features.push(target as f32);
                    targets.push(target);
                }
                Dataset::new(features, ranges(&targets), width + 1, RANGES)
            }
        }
    }

    fn check(&self) -> Result<(), DataError> {
        let (examples, width, classes, number) = match *self {
            Self::Mixture { examples, width, classes, separation } => (examples, width, classes.max(1), separation),
            Self::Linear { examples, width, noise } => (examples, width, RANGES, noise),
            Self::Points { examples, width, groups, separation } => (examples, width, groups, separation),
        };
        let fits =
            width.checked_add(1).and_then(|width| width.checked_mul(examples)).is_some_and(|all| all <= MOST_VALUES);
        let classes_fit = (1..=1024).contains(&classes) && (classes > 1 || !matches!(self, Self::Mixture { .. }));
        if examples > 0 && width > 0 && fits && classes_fit && (0.0..=1e6).contains(&number) {
            return Ok(());
        }
        Err(DataError::Invalid {
            problem: format!("{self:?}"),
            fix:
                "give positive counts, at most 2^28 values, 2 to 1024 classes (1 to 1024 groups), numbers from 0 to 1e6"
                    .to_owned(),
        })
    }
}

/// For each value which of the equally frequent ranges it lies in.
fn ranges(values: &[f64]) -> Vec<u16> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut labels = vec![0; values.len()];
    for (rank, row) in order.into_iter().enumerate() {
        labels[row] = (rank * RANGES / values.len()) as u16;
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Partition;
    use crate::workload::{Scratch, WorkloadConfig};

    #[test]
    fn the_same_seed_gives_the_same_examples_and_another_seed_others() {
        for task in [
            Synthetic::Mixture { examples: 90, width: 5, classes: 3, separation: 2.0 },
            Synthetic::Linear { examples: 100, width: 5, noise: 0.1 },
            Synthetic::Points { examples: 100, width: 5, groups: 4, separation: 1.0 },
        ] {
            let data = task.generate(1).unwrap();
            assert_eq!(data, task.generate(1).unwrap());
            assert_ne!(data, task.generate(2).unwrap());
            let first = data.labels().iter().filter(|label| **label == 0).count();
            assert_eq!(first, data.len() / data.classes());
            Partition::Extreme {}.divide(&data, 4, 0).unwrap();
        }
    }

    #[test]
    fn the_known_optimum_is_where_the_gradient_vanishes() {
        for (task, workload) in [
            (Synthetic::Linear { examples: 200, width: 6, noise: 0.5 }, WorkloadConfig::Linear {}),
            (
                Synthetic::Points { examples: 200, width: 6, groups: 5, separation: 3.0 },
                WorkloadConfig::Quadratic { condition: 100 },
            ),
        ] {
            let data = task.generate(3).unwrap();
            let workload = workload.build::<f64>(data.width(), data.classes()).unwrap();
            let optimum = workload.optimum(&data).unwrap();
            let rows: Vec<usize> = (0..data.len()).collect();
            let mut gradient = vec![0.0; workload.dimension()];
            let least = workload.loss_and_gradient(&optimum, &data, &rows, &mut gradient, &mut Scratch::default());
            assert!(gradient.iter().all(|slope| slope.abs() < 1e-10), "{gradient:?}");
            let mut beside = optimum.clone();
            beside[2] += 0.01;
            assert!(workload.loss_and_gradient(&beside, &data, &rows, &mut gradient, &mut Scratch::default()) > least);
            let zero = vec![0.0; workload.dimension()];
            let (best, none) = (workload.evaluate(&optimum, &data), workload.evaluate(&zero, &data));
            assert!(best.accuracy > 0.5 && none.accuracy < best.accuracy, "{best:?} {none:?}");
        }
    }

    #[test]
    fn a_separated_mixture_can_be_learned() {
        let data = Synthetic::Mixture { examples: 300, width: 8, classes: 2, separation: 3.0 }.generate(1).unwrap();
        let workload = WorkloadConfig::Softmax {}.build::<f32>(8, 2).unwrap();
        let mut model = workload.initial(0);
        let training = crate::workload::LocalTraining { epochs: 5, ..Default::default() };
        let update = workload.local_sgd(&model, &data, &training, &mut stream(1, Purpose::Batch, 1, 0));
        model.iter_mut().zip(update).for_each(|(value, change)| *value += change);
        assert!(workload.accuracy(&model, &data) > 0.95);
    }

    #[test]
    fn impossible_tasks_are_refused_before_anything_is_allocated() {
        for task in [
            Synthetic::Mixture { examples: 0, width: 5, classes: 3, separation: 2.0 },
            Synthetic::Mixture { examples: 10, width: 5, classes: 1, separation: 2.0 },
            Synthetic::Linear { examples: usize::MAX, width: 5, noise: 0.1 },
            Synthetic::Linear { examples: 10, width: 5, noise: f64::NAN },
            Synthetic::Points { examples: 10, width: usize::MAX, groups: 1, separation: 0.0 },
        ] {
            assert!(task.generate(0).unwrap_err().to_string().contains("positive counts"), "{task:?}");
        }
    }
}
