//! Stratified division into training and test examples.

use crate::random::{Purpose, stream};

use super::Dataset;

/// Numbers of the examples in each part, both in increasing order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Examples to train on.
    pub train: Vec<usize>,
    /// Held-out examples.
    pub test: Vec<usize>,
}

/// Why a data set cannot be split.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("test = {test} of {examples} examples leaves one part empty; choose 1 to {}", examples.saturating_sub(1))]
pub struct SplitError {
    /// What was asked for.
    pub test: usize,
    /// What there is.
    pub examples: usize,
}

impl Split {
    /// Holds out `test` examples with each class in proportion (largest remainders, ties to the lower class), chosen by
    /// `seed`.
    ///
    /// # Errors
    /// If either part would be empty.
    pub fn stratified(data: &Dataset, test: usize, seed: u64) -> Result<Self, SplitError> {
        let examples = data.len();
        if test == 0 || test >= examples {
            return Err(SplitError { test, examples });
        }
        let mut classes = rows_by_class(data.labels(), data.classes());
        // Class c holds out floor(size * test / examples) or one more. 128 bits: the product may pass 64.
        let share = |rows: &Vec<usize>| rows.len() as u128 * test as u128;
        let mut counts: Vec<usize> = classes.iter().map(|rows| (share(rows) / examples as u128) as usize).collect();
        let mut order: Vec<usize> = (0..classes.len()).collect();
        order.sort_by_key(|&class| std::cmp::Reverse(share(&classes[class]) % examples as u128));
        let missing = test - counts.iter().sum::<usize>();
        for &class in order.iter().take(missing) {
            counts[class] += 1;
        }
        let (mut train, mut held_out) = (Vec::with_capacity(examples - test), Vec::with_capacity(test));
        for (class, rows) in classes.iter_mut().enumerate() {
            stream(seed, Purpose::Split, class as u64, 0).shuffle(rows);
            let (first, rest) = rows.split_at(counts[class]);
            held_out.extend_from_slice(first);
            train.extend_from_slice(rest);
        }
        train.sort_unstable();
        held_out.sort_unstable();
        Ok(Self { train, test: held_out })
    }

    /// The two parts as data sets: training, then test.
    pub fn apply(&self, data: &Dataset) -> (Dataset, Dataset) {
        (data.subset(&self.train), data.subset(&self.test))
    }
}

/// For each class the numbers of its examples in increasing order.
pub(crate) fn rows_by_class(labels: &[u16], classes: usize) -> Vec<Vec<usize>> {
    let mut rows = vec![Vec::new(); classes];
    for (row, label) in labels.iter().enumerate() {
        rows[usize::from(*label)].push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::digits;

    #[test]
    fn the_digits_split_into_1437_and_360_with_every_class_in_proportion() {
        let data = digits::load();
        let split = Split::stratified(&data, digits::TEST_EXAMPLES, 7).unwrap();
        assert_eq!((split.train.len(), split.test.len()), (1_437, 360));
        let mut all = [split.train.clone(), split.test.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..1_797).collect::<Vec<_>>());
        let (train, test) = split.apply(&data);
        for class in 0..10 {
            let count = |part: &Dataset| part.labels().iter().filter(|label| usize::from(**label) == class).count();
            let expected = (count(&train) + count(&test)) as f64 * 360.0 / 1_797.0;
            assert!((count(&test) as f64 - expected).abs() < 1.0, "{class}");
        }
    }

    #[test]
    fn the_seed_decides_and_nothing_else() {
        let data = digits::load();
        let first = Split::stratified(&data, 360, 1).unwrap();
        assert_eq!(first, Split::stratified(&data, 360, 1).unwrap());
        assert_ne!(first, Split::stratified(&data, 360, 2).unwrap());
    }

    #[test]
    fn an_empty_part_is_refused() {
        let data = Dataset::new(vec![0.0; 4], vec![0, 1, 0, 1], 1, 2).unwrap();
        for test in [0, 4, 5] {
            let error = Split::stratified(&data, test, 0).unwrap_err();
            assert!(error.to_string().contains("choose 1 to 3"), "{error}");
        }
        assert_eq!(Split::stratified(&data, 3, 0).unwrap().train.len(), 1);
    }
}
