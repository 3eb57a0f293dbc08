//! How often a detector accuses honest clients, measured on clean runs of a study.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::runner::{RunError, name};
use super::{Study, StudyRun};
use crate::detection::bounds::clopper_pearson;
use crate::scenario::Scenario;
use crate::world::{Library, Route, World, WorldError};

/// Confidence of the bounds.
pub const CONFIDENCE: f64 = 0.95;

/// What came of all seeds of one setting, nobody attacking.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibrated {
    /// The swept values that are left without an attack.
    pub setting: String,
    /// Runs, one for each seed.
    pub runs: usize,
    /// Rounds of each.
    pub rounds: u64,
    /// Honest clients, over all runs.
    pub clients: u64,
    /// Of these, suspect at some time.
    pub flagged: u64,
    /// In quarantine at the end.
    pub quarantined: u64,
    /// Lower bound of the rate of false accusations (Clopper–Pearson, 95 %). Clients of one run share their rounds, so
    /// the true confidence is lower than that where a study has few seeds.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

/// Plays every run of the study without its attack and with the detector watching, each different one once. `rounds`
/// replaces the study's.
///
/// # Errors
/// A run that cannot be, or data that cannot be loaded.
pub fn calibrate(
    study: &Study,
    library: &Library,
    rounds: Option<u64>,
    jobs: usize,
) -> Result<Vec<Calibrated>, RunError> {
    let mut clean: BTreeMap<String, (String, Arc<Scenario>)> = BTreeMap::new();
    for run in &study.runs {
        let scenario = without_attack(run, rounds).map_err(|error| failed(study, run, error))?;
        clean.entry(scenario.canonical().to_owned()).or_insert_with(|| (setting(study, run), Arc::new(scenario)));
    }
    let clean: Vec<(String, Arc<Scenario>)> = clean.into_values().collect();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(vec![None; clean.len()]);
    let body = || {
        while let Some((number, (_, scenario))) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|number| Some((number, clean.get(number)?)))
        {
            let played = play(scenario, library);
            results.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(played);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, clean.len().max(1)) {
            scope.spawn(body);
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut all: Vec<Calibrated> = Vec::new();
    for ((setting, scenario), result) in clean.iter().zip(results.into_iter().flatten()) {
        let (clients, flagged, quarantined) = result.map_err(|detail| RunError::World {
            run: setting.clone(),
            source: Box::new(WorldError::Round { round: 0, detail }),
        })?;
        let at = all.iter().position(|one| one.setting == *setting).unwrap_or_else(|| {
            let rounds = scenario.plan.rounds;
            let (setting, runs, low, high) = (setting.clone(), 0, 0.0, 1.0);
            all.push(Calibrated { setting, runs, rounds, clients: 0, flagged: 0, quarantined: 0, low, high });
            all.len() - 1
        });
        let one = &mut all[at];
        one.runs += 1;
        one.clients += clients;
        one.flagged += flagged;
        one.quarantined += quarantined;
        (one.low, one.high) = clopper_pearson(one.flagged, one.clients, CONFIDENCE);
    }
    Ok(all)
}

fn failed(study: &Study, run: &StudyRun, error: crate::scenario::ScenarioError) -> RunError {
    let detail = error.to_string();
    RunError::World { run: name(study, run), source: Box::new(WorldError::Round { round: 0, detail }) }
}

fn without_attack(run: &StudyRun, rounds: Option<u64>) -> Result<Scenario, crate::scenario::ScenarioError> {
    let mut plan = run.scenario.plan.clone();
    plan.adversary = crate::scenario::Adversary::default();
    plan.detection.get_or_insert_default();
    plan.rounds = rounds.unwrap_or(plan.rounds);
    // Nothing but the end is measured.
    plan.report.evaluate_every = plan.rounds.clamp(1, 1_000_000);
    Scenario::new(plan)
}

/// The swept values that do not belong to the adversary.
fn setting(study: &Study, run: &StudyRun) -> String {
    let labels = study.axes.iter().zip(study.labels(run));
    let kept = labels.filter(|(axis, _)| !axis.key.starts_with("adversary."));
    let parts: Vec<String> = kept.map(|(axis, label)| format!("{} = {label}", axis.key)).collect();
    if parts.is_empty() { study.name.clone() } else { parts.join(", ") }
}

fn play(scenario: &Arc<Scenario>, library: &Library) -> Result<(u64, u64, u64), String> {
    let said = |error: WorldError| error.to_string();
    let data = library.prepare(&scenario.plan).map_err(said)?;
    let mut world = World::new(Arc::clone(scenario), data, Route::Shortest).map_err(said)?;
    while !world.is_over() {
        world.step().map_err(said)?;
    }
    let standing = world.state().measured.last().and_then(|measured| measured.standing).unwrap_or_default();
    Ok((standing.honest.clients, standing.honest.flagged, standing.honest.quarantined))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_played_once_without_its_attacks() {
        let text = "name = \"small\"\nrounds = 3\nseeds = [1, 2]\n[data]\nsource = \"digits\"\ntest = 360\n[workload]\n\
                    kind = \"softmax\"\n[population]\nclients = 9\n[adversary]\ncolluders = 2\n[sweep.grid]\n\
                    rule = [{ kind = \"mean\" }, { kind = \"median\", byzantine = 2 }]\n\
                    \"adversary.attack\" = [{ kind = \"none\" }, { kind = \"gaussian\" }]\n";
        let study = Study::read("s.toml", text).unwrap();
        let all = calibrate(&study, &Library::default(), Some(4), 2).unwrap();
        let settings: Vec<&str> = all.iter().map(|one| one.setting.as_str()).collect();
        assert_eq!(settings.len(), 2);
        assert!(settings.contains(&"rule = mean") && settings.contains(&"rule = median"), "{settings:?}");
        for one in &all {
            assert_eq!((one.runs, one.rounds, one.clients), (2, 4, 18));
            assert!(one.low <= one.flagged as f64 / 18.0 && one.flagged as f64 / 18.0 <= one.high);
        }
    }
}
