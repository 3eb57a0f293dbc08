//! What a study was made with.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Study;
use super::runner::RunError;
use super::store::StoreError;
use crate::scenario;
use crate::world::Library;

/// `manifest.json`: the study's runs, versions, data, rules, attacks and the processor it ran on.
///
/// # Errors
/// Data that cannot be loaded.
pub fn of(study: &Study, ids: &[String], library: &Library) -> Result<String, RunError> {
    let mut digests = BTreeMap::new();
    for run in &study.runs {
        let data = &run.scenario.plan.data;
        let generated = || data.task.map(|task| format!("{task:?}, seed {}", data.task_seed));
        let name = data.path.clone().or_else(generated);
        let name = name.unwrap_or_else(|| format!("{:?}", data.source).to_lowercase());
        let failed = |source| RunError::World { run: super::runner::name(study, run), source: Box::new(source) };
        digests.insert(name, library.load(data).map_err(failed)?.digest);
    }
    let runs: Vec<Value> = study
        .runs
        .iter()
        .zip(ids)
        .map(|(run, id)| json!({ "id": id, "labels": study.labels(run), "seed": run.scenario.plan.seed }))
        .collect();
    let first = study.runs.first().map(|run| run.scenario.canonical());
    let value = json!({
        "schema_version": 1,
        "study": study.name,
        "program": { "name": "testudo", "version": env!("CARGO_PKG_VERSION"), "scenario_version": scenario::VERSION },
        "rules": testudo_aggregate::catalogue().iter().map(|info| info.kind).collect::<Vec<_>>(),
        "attacks": crate::attacks::catalogue().iter().map(|info| info.kind).collect::<Vec<_>>(),
        "data": digests,
        "processor": { "architecture": std::env::consts::ARCH, "features": features() },
        "system": std::env::consts::OS,
        "axes": study.axes.iter().map(|axis| json!({ "key": axis.key, "labels": axis.labels })).collect::<Vec<_>>(),
        "first_run": first.and_then(|text| serde_json::from_str::<Value>(text).ok()),
        "runs": runs,
        "excluded": study.excluded,
        "skipped": study.skipped,
    });
    serde_json::to_string_pretty(&value)
        .map(|text| text + "\n")
        .map_err(|error| StoreError::Format { file: "manifest.json", what: error.to_string() }.into())
}

/// What the processor can do that the kernels may use. Results do not depend on it; speed does.
#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    let known = [
        ("sse4.2", std::arch::is_x86_feature_detected!("sse4.2")),
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("sha", std::arch::is_x86_feature_detected!("sha")),
        ("aes", std::arch::is_x86_feature_detected!("aes")),
    ];
    known.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<&'static str> {
    Vec::new()
}
