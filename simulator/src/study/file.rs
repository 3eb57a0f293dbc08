//! The text of a study, before it is checked: every section a run can have, and those of the study itself.

use serde::Deserialize;

use super::OnInvalid;
use super::sweep::RawSweep;
use crate::detection::Detection;
use crate::scenario::{Adversary, Cohort, Examples, Network, Population, SourceData, Training, Uplink, Visibility};
use crate::workload::WorkloadConfig;

/// Reading this names an unknown or mistyped key with its line; the runs themselves are read from tables later.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "most fields are only there to be checked by serde")]
pub(super) struct RawStudy {
    pub(super) name: String,
    rounds: u64,
    pub(super) seeds: Option<toml::Value>,
    pub(super) on_invalid: Option<OnInvalid>,
    data: SourceData,
    workload: WorkloadConfig,
    training: Option<Training>,
    optimizer: Option<toml::Table>,
    population: Population,
    cohort: Option<Cohort>,
    visibility: Option<Visibility>,
    encoding: Option<Uplink>,
    examples: Option<Examples>,
    network: Option<Network>,
    rule: Option<toml::Table>,
    privacy: Option<toml::Table>,
    adversary: Option<Adversary>,
    detection: Option<Detection>,
    #[serde(default)]
    pub(super) report: RawReport,
    pub(super) sweep: Option<RawSweep>,
}

/// `[report]` of a study.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "most fields are only there to be checked by serde")]
pub(super) struct RawReport {
    evaluate_every: Option<u64>,
    pub(super) last: Option<u64>,
    pub(super) worst_over: Option<String>,
}
