//! Robust aggregation: statistics, a small decision, a combine.
//!
//! Every rule runs in three steps over *units*, fixed ranges of coordinates:
//!
//! 1. **observe** ([`observe_unit`]): additive statistics of the rows, per unit, summed in one fixed binary tree
//!    ([`StatisticsTree`]);
//! 2. **decide** ([`Rule::decide`]): a function of those n x n numbers that sees no coordinate and yields a [`Plan`];
//! 3. **combine** ([`combine_unit`]): the plan applied per unit.
//!
//! Rules that need no statistics skip the first step and read the rows once. The same plan runs on one thread, on all
//! cores, or out of core from a spool, with the same bits every time: neither the unit size, the number of threads nor
//! the order in which units finish can be seen in the result.
//!
//! ```
//! use testudo_aggregate::{RuleConfig, aggregate};
//!
//! let rule: RuleConfig = toml::from_str("kind = \"trimmed_mean\"\nbyzantine = 1")?;
//! let rows: [&[f32]; 4] = [&[1.0, 2.0], &[1.0, 4.0], &[3.0, 2.0], &[1e30, -1e30]];
//! let result = aggregate(rule.rule(), &rows, None, None)?;
//! assert_eq!(result.output, [2.0, 2.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod centre;
pub mod element;
pub mod fold;
pub mod mask;
pub mod mixing;
pub mod needs;
pub mod optimizer;
pub mod plan;
pub mod pre;
pub mod quantize;
pub mod rows;
pub mod rule;
pub mod rules;
pub mod statistics;
pub mod unit;
pub mod verdict;

mod aggregate;
mod catalogue;
mod combine;
mod composition;
mod dot;
mod eigen;
mod infinite;
mod kernel;
mod observe;
mod parameters;
mod range;
mod sampling;
mod scale;
mod series;
mod source;

pub use aggregate::{Aggregate, AggregateError, Inputs, aggregate, aggregate_inputs, mix_rows, pre_aggregate};
pub use catalogue::{ParameterInfo, RuleInfo};
pub use centre::{Centre, Even};
pub use combine::combine_unit;
pub use composition::RuleConfig;
pub use element::{DecodeError, Element};
pub use fold::{FoldError, fold, fold_all};
pub use kernel::finite::first_non_finite;
pub use mask::{Cipher, KeyStream, MOST_COORDINATES, Mask, MaskError, MaskKey, Sign, apply_masks};
pub use mixing::Mixing;
pub use needs::{Anchor, DistanceNeeds, Extras, Needs, Samples, Share};
pub use observe::observe_unit;
pub use optimizer::{OptimizerConfig, OptimizerError};
pub use parameters::ParameterError;
pub use plan::{Combine, Note, Plan};
pub use pre::{PreConfig, pre_catalogue};
pub use quantize::{MeanError, QuantizeError, Quantized, Quantizer, QuantizerError};
pub use range::MAX_PAIR_ROWS;
pub use rows::{Rows, RowsError, Weights, WeightsError};
pub use rule::{Decision, Rule, RuleError};
pub use rules::{RuleKind, catalogue};
pub use sampling::{RuleSpec, Sampled};
pub use source::{MOST_LOOKS, Source, Summary, Task, Work, Write, aggregate_source};
pub use statistics::{
    Distances, Observation, Refinement, RowStatistics, StatisticsError, StatisticsTree, UnitStatistics,
};
pub use unit::{BLOCK, UnitError, Units};
pub use verdict::{RowReason, Verdict};
