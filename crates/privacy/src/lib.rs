//! Differential privacy: clipping, noise, accountants and the budget.
//!
//! Nothing is here yet. The integer pipeline, the sampler, the accountants and the ledger join as `clip.rs`,
//! `noise.rs`, `accountant/`, `budget.rs` and `sensitivity.rs`; until then a task with a `[privacy]` section is
//! refused, and guarantee reports say that no noise is added.
