//! How far one client can move a rule's output: proved, or refused.
//!
//! Rows are clipped to C and *noise goes on the numerator*, which is computed in integers; the divisor is public and fixed
//! beforehand, like the number of rows and of those cut. Absent updates are rows of zeros.

use crate::error::ParameterError;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What "one client's data" may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Adjacency {
    /// One contribution becomes 0; the cohort's size is public. The default.
    ZeroOut,
    /// One client is there or not, and so is the cohort's size, which must be secret or noised.
    AddOrRemove,
    /// One contribution becomes another one.
    ReplaceOne,
}

/// Bounds of the rows that a rule combines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowBounds {
    /// How many rows, fixed beforehand.
    pub rows: u64,
    /// C: no row is longer.
    pub norm: f64,
    /// How far one client's data can move its row under zero-out: C, or C/g for means of planned groups of g.
    pub shift: f64,
}

impl RowBounds {
    /// One client a row, clipped to `clip`.
    #[must_use]
    pub fn clients(rows: u64, clip: f64) -> Self {
        Self { rows, norm: clip, shift: clip }
    }

    /// Means of groups of `size` clients, planned and divided by as fixed.
    #[must_use]
    pub fn groups(rows: u64, size: u64, clip: f64) -> Self {
        Self { rows, norm: clip, shift: clip / size.max(1) as f64 }
    }
}

/// A rule as far as its sensitivity goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Combination {
    /// Σ of clipped rows over a fixed divisor: mean with norm bounding.
    ClippedSum,
    /// Weighted Σ with *fixed public* weights in 0..=1, for instance from a public reference.
    PublicWeights,
    /// Per coordinate the `cut` largest and smallest are left out and the others added.
    TrimmedMean {
        /// k, per side.
        cut: u64,
    },
    /// One step of centred clipping to `radius` around a centre that is public. A client that is absent or zeroed out
    /// contributes the centre itself: no offset.
    CentredClipping {
        /// τ.
        radius: f64,
    },
    /// The mean of the `selected` rows with the best Krum scores.
    MultiKrum {
        /// m.
        selected: u64,
        /// The operator knows that the bound is that of one row alone.
        accept_large_sensitivity: bool,
    },
    /// Any other rule, by its kind.
    Other {
        /// The kind in `task.toml`.
        kind: &'static str,
    },
}

/// The L2 sensitivity of what gets the noise, and what it is divided by afterwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sensitivity {
    /// Δ of the numerator, in the units of C.
    pub numerator: f64,
    /// The fixed public divisor.
    pub divisor: f64,
}

/// Why a rule cannot be made private.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Refusal {
    /// The bound does not fall with the number of rows, or none is proved.
    #[error("rule {kind} cannot be used with [privacy]: {why}. {ALTERNATIVES}")]
    Unbounded {
        /// The rule.
        kind: &'static str,
        /// What goes wrong.
        why: &'static str,
    },
    /// A parameter makes no sense.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
}

/// What a refusal offers instead.
const ALTERNATIVES: &str = "Use mean with norm bounding (Δ = C/D), trimmed_mean (C/(n−2k)), centred clipping with a \
                            public centre (τ/D), or multi_krum with accept_large_sensitivity = true";

impl Combination {
    /// The sensitivity under `adjacency`.
    ///
    /// # Errors
    /// For every rule without a proved bound, with the reason.
    pub fn sensitivity(&self, rows: RowBounds, adjacency: Adjacency) -> Result<Sensitivity, Refusal> {
        check(rows)?;
        let count = rows.rows as f64;
        // Replacing a contribution moves it by twice what taking it out does.
        let times = if adjacency == Adjacency::ReplaceOne { 2.0 } else { 1.0 };
        if adjacency == Adjacency::AddOrRemove && !matches!(self, Self::ClippedSum) {
            let why = "add-or-remove changes the number of rows, for which only the clipped sum is bounded here";
            return Err(Refusal::Unbounded { kind: self.kind(), why });
        }
        match *self {
            Self::ClippedSum | Self::PublicWeights => {
                Ok(Sensitivity { numerator: (times * rows.shift).next_up(), divisor: count })
            }
            // Coordinate by coordinate the sum is a constant plus the client's value clamped between the others' k-th
            // smallest and largest: a projection onto a box, which is 1-Lipschitz in L2.
            Self::TrimmedMean { cut } => match rows.rows.checked_sub(2 * cut).filter(|kept| *kept > 0) {
                Some(kept) => Ok(Sensitivity { numerator: (times * rows.shift).next_up(), divisor: kept as f64 }),
                None => {
                    let fix = format!("give less than half of the {} rows", rows.rows);
                    Err(ParameterError::new("byzantine", cut, fix).into())
                }
            },
            // Projections onto a ball around a fixed centre: each lies within τ of it, and moves by no more than its row.
            Self::CentredClipping { radius } => {
                if !(radius > 0.0 && radius.is_finite()) {
                    return Err(ParameterError::new("radius", radius, "give a positive number").into());
                }
                // Zero-out replaces the projection of the row by the centre itself; within groups the row stays.
                let moved =
                    if rows.shift < rows.norm { (times * rows.shift).min(2.0 * radius) } else { times * radius };
                Ok(Sensitivity { numerator: moved.next_up(), divisor: count })
            }
            Self::MultiKrum { selected, accept_large_sensitivity } => {
                multi_krum(rows, selected, accept_large_sensitivity)
            }
            Self::Other { kind } => Err(Refusal::Unbounded { kind, why: reason(kind) }),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::ClippedSum => "mean",
            Self::PublicWeights => "weighted mean",
            Self::TrimmedMean { .. } => "trimmed_mean",
            Self::CentredClipping { .. } => "centered_clipping",
            Self::MultiKrum { .. } => "multi_krum",
            Self::Other { kind } => kind,
        }
    }
}

/// One row may change the selection: the new selection keeps at least m − 1 − (n − m) … of the old rows, so that at most
/// min(m, n−m+1) rows of norm C are exchanged for others: the sum moves by 2C·min(m, n−m+1), whatever the adjacency.
fn multi_krum(rows: RowBounds, selected: u64, accepted: bool) -> Result<Sensitivity, Refusal> {
    if selected == 0 || selected > rows.rows {
        let fix = format!("give 1 to {}", rows.rows);
        return Err(ParameterError::new("selected", selected, fix).into());
    }
    if !accepted {
        let why = "one client can change which rows are selected, so the bound is 2C·min(1, (n−m+1)/m) and hardly falls \
                   with n; accept_large_sensitivity = true takes it as it is";
        return Err(Refusal::Unbounded { kind: "multi_krum", why });
    }
    let exchanged = selected.min(rows.rows - selected + 1) as f64;
    Ok(Sensitivity { numerator: (2.0 * rows.norm * exchanged).next_up(), divisor: selected as f64 })
}

fn reason(kind: &str) -> &'static str {
    match kind {
        "median" => "one client can move the median by C (half of it for an even number of rows), however many rows",
        "krum" => "one client can change which row is selected: the output moves by up to 2C, however many rows",
        "geometric_median" | "smea" | "mda" => "one client can move it by up to 2C, and that is attained",
        "mean" | "fedavg" => "a mean over declared weights or true counts divides by private data: use a fixed divisor",
        "bulyan" | "flame" | "dnc" | "signguard" | "foolsgold" | "caf" | "cge" | "monna" => {
            "which rows count depends on all of them: only the trivial bound 2C is known"
        }
        "rlr" => "a sign vote can flip a coordinate's direction with one row: only the trivial bound 2C is known",
        "nnm" | "arc" | "bucketing" => "a pre-aggregation that looks at the rows destroys every bound",
        _ => "no sensitivity below the trivial 2C is proved for it",
    }
}

fn check(rows: RowBounds) -> Result<(), ParameterError> {
    if rows.rows == 0 {
        return Err(ParameterError::new("rows", rows.rows, "give at least one"));
    }
    let sound = rows.norm > 0.0 && rows.norm.is_finite() && rows.shift > 0.0 && rows.shift <= rows.norm;
    if !sound {
        return Err(ParameterError::new("clip_l2", rows.norm, "give a positive clip, and a shift no larger"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
