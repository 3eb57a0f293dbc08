//! The ranges of n and f that rules require.

use crate::rule::RuleError;

/// Most rows a rule that compares every pair may take: n² distances in f64 are then 256 MiB.
pub const MAX_PAIR_ROWS: usize = 8192;

/// n ≥ a·f + b.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    /// In words.
    text: &'static str,
    /// a.
    per_byzantine: usize,
    /// b.
    beyond: usize,
    /// Whether pairs of rows are compared.
    pairs: bool,
}

/// 2f < n.
pub(crate) const MINORITY: Range = Range::new("2f < n", 2, 1);
/// 2f < n, for rules that compare pairs of rows.
pub(crate) const MINORITY_OF_PAIRS: Range = MINORITY.of_pairs();
/// n ≥ 2f+3, for rules that compare pairs of rows.
pub(crate) const KRUM: Range = Range::new("n ≥ 2f+3", 2, 3).of_pairs();
/// n ≥ 4f+3, for rules that compare pairs of rows.
pub(crate) const BULYAN: Range = Range::new("n ≥ 4f+3", 4, 3).of_pairs();
/// n ≥ 1.
pub(crate) const ANY: Range = Range::new("n ≥ 1", 0, 1);

impl Range {
    pub(crate) const fn new(text: &'static str, per_byzantine: usize, beyond: usize) -> Self {
        Self { text, per_byzantine, beyond, pairs: false }
    }

    /// The same with at most [`MAX_PAIR_ROWS`] rows.
    pub(crate) const fn of_pairs(self) -> Self {
        Self { pairs: true, ..self }
    }

    fn min_rows(self, byzantine: usize) -> Option<usize> {
        let least = self.per_byzantine.checked_mul(byzantine)?.checked_add(self.beyond)?;
        (!self.pairs || least <= MAX_PAIR_ROWS).then_some(least)
    }

    /// Largest valid f for `rows` rows; `None` also where every f is.
    fn largest(self, rows: usize) -> Option<usize> {
        rows.checked_sub(self.beyond)?.checked_div(self.per_byzantine)
    }

    pub(crate) fn check(self, kind: &'static str, rows: usize, byzantine: usize) -> Result<(), RuleError> {
        if self.pairs && rows > MAX_PAIR_ROWS {
            return Err(RuleError::TooManyRows { kind, rows, limit: MAX_PAIR_ROWS });
        }
        let min_rows = self.min_rows(byzantine);
        if min_rows.is_some_and(|least| rows >= least) {
            return Ok(());
        }
        let largest = self.largest(rows);
        Err(RuleError::Range { kind, rows, byzantine, range: self.text, min_rows, largest })
    }
}
