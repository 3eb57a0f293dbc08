//! What every attack file uses.

pub(super) use serde::{Deserialize, Serialize};

pub(super) use super::auto::Choice;
pub(super) use super::{Formula, forge_by_formula, replace_evenly};
pub(super) use crate::attack::response::Response;
pub(super) use crate::attack::{
    Attack, AttackError, Colluder, Info, Knowledge, Lesson, Parameter, Replayed, Step, Tamper, View, Wishes,
    check_range, estimate,
};
pub(super) use crate::data::{Dataset, Pattern, Trigger};
pub(super) use crate::random::Stream;
pub(super) use crate::scalar::{Scalar, ln};
