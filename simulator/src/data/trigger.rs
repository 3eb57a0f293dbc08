//! Backdoor triggers: a pattern stamped on inputs, and what it is to make the model answer.

use serde::{Deserialize, Serialize};

use super::Dataset;
use crate::workload::Workload;

/// Which features a trigger sets. Data whose width is a square number are images, row by row; others are one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// The four corner pixels.
    #[default]
    Corners,
    /// The bottom right pixel.
    Corner,
    /// A square at the bottom right, an eighth of the side but at least two pixels wide.
    Square,
    /// The bottom row.
    Stripe,
}

impl Pattern {
    /// The numbers of the features, ascending and each once.
    pub fn features(self, width: usize) -> Vec<usize> {
        let root = width.isqrt();
        let (rows, columns) = if root * root == width { (root, root) } else { (1, width) };
        let mut features = match self {
            Self::Corners => vec![0, columns - 1, (rows - 1) * columns, rows * columns - 1],
            Self::Corner => vec![width - 1],
            Self::Square => {
                let side = (columns / 8).max(2);
                let within = |size: usize| size.saturating_sub(side)..size;
                within(rows).flat_map(|row| within(columns).map(move |column| row * columns + column)).collect()
            }
            Self::Stripe => ((rows - 1) * columns..rows * columns).collect(),
        };
        features.sort_unstable();
        features.dedup();
        features
    }
}

/// A pattern at full intensity that is to be answered with one label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trigger {
    pattern: Pattern,
    target: usize,
    part: (usize, usize),
    intensity: f32,
}

impl Trigger {
    /// The whole pattern at intensity 1.
    pub fn new(pattern: Pattern, target: usize) -> Self {
        Self { pattern, target, part: (0, 1), intensity: 1.0 }
    }

    /// The same at another intensity, for features that do not lie in 0..=1.
    #[must_use]
    pub fn with_intensity(self, intensity: f32) -> Self {
        Self { intensity, ..self }
    }

    /// Part `index` of `count` (distributed backdoors): every `count`-th feature from the `index`-th on.
    #[must_use]
    pub fn part(self, index: usize, count: usize) -> Self {
        Self { part: (index, count.max(1)), ..self }
    }

    /// The label that is to be answered.
    pub fn target(&self) -> usize {
        self.target
    }

    /// The numbers of the features it sets.
    pub fn features(&self, width: usize) -> Vec<usize> {
        let (index, count) = self.part;
        self.pattern.features(width).into_iter().skip(index).step_by(count).collect()
    }

    /// Stamps the examples `rows` and gives them the target label.
    ///
    /// # Panics
    /// If a row is not below `data.len()`, or the target not below `data.classes()`.
    pub fn poison(&self, data: &mut Dataset, rows: &[usize]) {
        let features = self.features(data.width());
        for &row in rows {
            for &feature in &features {
                data.set_feature(row, feature, self.intensity);
            }
            data.set_label(row, self.target);
        }
    }

    /// Every example of another class than the target, stamped and with the target label: the accuracy on these is the
    /// attack's success rate. `None` if the target is no class of the data.
    pub fn probe(&self, test: &Dataset) -> Option<Dataset> {
        if self.target >= test.classes() {
            return None;
        }
        let rows: Vec<usize> = (0..test.len()).filter(|&row| test.label(row) != self.target).collect();
        let mut probe = test.subset(&rows);
        self.poison(&mut probe, &(0..rows.len()).collect::<Vec<_>>());
        Some(probe)
    }

    /// Share of the test examples of other classes that `parameters` classify as the target once triggered, in 0..=1;
    /// 0 without such examples. To measure often, keep the [`probe`](Self::probe).
    pub fn success(&self, workload: &dyn Workload, parameters: &[f32], test: &Dataset) -> f64 {
        self.probe(test).map_or(0.0, |probe| workload.accuracy(parameters, &probe))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::digits;
    use crate::workload::WorkloadConfig;

    #[test]
    fn patterns_are_where_they_are_said_to_be() {
        assert_eq!(Pattern::Corners.features(64), [0, 7, 56, 63]);
        assert_eq!(Pattern::Corner.features(64), [63]);
        assert_eq!(Pattern::Square.features(64), [54, 55, 62, 63]);
        assert_eq!(Pattern::Square.features(784).len(), 9);
        assert_eq!(Pattern::Stripe.features(64), (56..64).collect::<Vec<_>>());
        // No image: one row, whose corners are its ends.
        assert_eq!(Pattern::Corners.features(5), [0, 4]);
        assert_eq!(Pattern::Corners.features(1), [0]);
    }

    #[test]
    fn the_parts_of_a_trigger_make_up_the_whole() {
        let whole = Trigger::new(Pattern::Corners, 0);
        let mut parts: Vec<usize> = (0..4).flat_map(|index| whole.part(index, 4).features(64)).collect();
        parts.sort_unstable();
        assert_eq!(parts, whole.features(64));
    }

    #[test]
    fn success_counts_other_classes_alone() {
        let test = digits::load();
        let trigger = Trigger::new(Pattern::Corners, 3);
        let probe = trigger.probe(&test).unwrap();
        let of_target = test.labels().iter().filter(|label| **label == 3).count();
        assert_eq!(probe.len(), test.len() - of_target);
        assert!(
            (0..probe.len()).all(|row| probe.label(row) == 3 && probe.row(row)[0] == 1.0 && probe.row(row)[63] == 1.0)
        );
        let workload = WorkloadConfig::parse("softmax").unwrap().build::<f32>(64, 10).unwrap();
        let mut always = vec![0.0; workload.dimension()];
        always[640 + 3] = 1.0;
        assert_eq!(trigger.success(workload.as_ref(), &always, &test), 1.0);
        always[640 + 4] = 2.0;
        assert_eq!(trigger.success(workload.as_ref(), &always, &test), 0.0);
        assert!(Trigger::new(Pattern::Corners, 10).probe(&test).is_none());
    }
}
