//! The text of a `task.toml`, before it is checked.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTask {
    pub(super) name: String,
    pub(super) rounds: u64,
    pub(super) model: RawModel,
    pub(super) cohort: RawCohort,
    #[serde(default)]
    pub(super) visibility: RawVisibility,
    #[serde(default)]
    pub(super) encoding: RawEncoding,
    #[serde(default)]
    pub(super) examples: RawExamples,
    pub(super) rule: toml::Table,
    #[serde(default)]
    pub(super) tensors: toml::Table,
    pub(super) reference: Option<RawReference>,
    #[serde(default)]
    pub(super) optimizer: toml::Table,
    pub(super) privacy: Option<RawPrivacy>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawModel {
    pub(super) initial: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawReference {
    pub(super) client: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCohort {
    pub(super) size: u64,
    #[serde(default = "one")]
    pub(super) over_selection: f64,
    pub(super) minimum: Option<u64>,
    #[serde(default = "abandon")]
    pub(super) fewer: String,
    #[serde(default = "ten_minutes")]
    pub(super) phase_limit_s: f64,
    #[serde(default)]
    pub(super) gather_s: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawVisibility {
    pub(super) masking: String,
    pub(super) group_size: Option<u64>,
    pub(super) threshold: Option<u64>,
    pub(super) step_limit_s: Option<f64>,
    pub(super) colluders: Option<f64>,
    pub(super) byzantine: Option<f64>,
    pub(super) dropout: Option<f64>,
    pub(super) authority: Option<String>,
    pub(super) accept_weak_guarantee: Option<String>,
}

impl Default for RawVisibility {
    fn default() -> Self {
        Self {
            masking: "none".into(),
            group_size: None,
            threshold: None,
            step_limit_s: None,
            colluders: None,
            byzantine: None,
            dropout: None,
            authority: None,
            accept_weak_guarantee: None,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawEncoding {
    pub(super) max_l2: Option<f64>,
    pub(super) accept: Vec<String>,
    pub(super) clip_l2: Option<f64>,
    pub(super) kappa: Option<f64>,
    pub(super) bits: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawExamples {
    pub(super) max: Option<u64>,
    pub(super) weighted: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPrivacy {
    pub(super) mechanism: String,
    #[serde(default = "central")]
    pub(super) trust: String,
    pub(super) population: String,
    pub(super) clients: Option<u64>,
    pub(super) noise_multiplier: f64,
    pub(super) budget_epsilon: f64,
    pub(super) delta: Option<f64>,
    pub(super) adjacency: Option<String>,
    #[serde(default = "none")]
    pub(super) sampling: String,
    #[serde(default = "grid")]
    pub(super) sampler: String,
    pub(super) registered: Option<u64>,
    pub(super) release_step_s: Option<f64>,
    pub(super) grid_bits: Option<u64>,
    #[serde(default)]
    pub(super) accept_large_sensitivity: bool,
    pub(super) honest: Option<u64>,
    pub(super) adaptive_clip: Option<RawAdaptiveClip>,
    pub(super) participations: Option<u64>,
    pub(super) separation: Option<u64>,
    pub(super) bands: Option<u64>,
    pub(super) coefficients: Option<Vec<f64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table such as { quantile = 0.5 }")]
pub(super) struct RawAdaptiveClip {
    pub(super) quantile: Option<f64>,
    pub(super) learning_rate: Option<f64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) bits_noise: Option<f64>,
}

fn central() -> String {
    "central".into()
}

fn none() -> String {
    "none".into()
}

fn grid() -> String {
    "grid".into()
}

fn abandon() -> String {
    "abandon".into()
}

fn one() -> f64 {
    1.0
}

fn ten_minutes() -> f64 {
    600.0
}
