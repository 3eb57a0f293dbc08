//! Runs a study into a folder.
//!
//! The one place of this crate with threads of its own and a clock; the clock decides when a checkpoint is written and
//! what `timing.csv` says, and no result.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::driver::Driver;
use super::results::{Finished, Outcome};
use super::store::{Store, StoreError};
use super::{Study, StudyRun, copy, manifest};
use crate::world::{Library, PartitionFile, Route, State, World, WorldError};

/// How a study is run; no result depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Threads.
    pub jobs: usize,
    /// Go on in a folder that holds results.
    pub resume: bool,
    /// A running run is checkpointed when this long has passed since the last time; zero: after each round.
    pub checkpoint_every: Duration,
    /// How rounds are driven.
    pub route: Route,
}

impl Default for Options {
    /// One thread, no resuming, a checkpoint every five seconds.
    fn default() -> Self {
        Self { jobs: 1, resume: false, checkpoint_every: Duration::from_secs(5), route: Route::Shortest }
    }
}

/// What a run tells while it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// So many rounds are over.
    Rounds(u64),
    /// A run is over.
    Finished,
}

/// Why a study stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A run.
    #[error("run {run}: {source}")]
    World {
        /// Which: its place in the list of runs, with what is special about it.
        run: String,
        /// Why.
        source: Box<WorldError>,
    },
    /// Asked to stop; finished runs and checkpoints are kept.
    #[error("stopped; finished runs are kept: go on with --resume")]
    Stopped,
    /// Threads could not be started.
    #[error("cannot start threads: {0}")]
    Threads(String),
}

impl RunError {
    /// Which run, if it is one run's.
    pub(super) fn run(&self) -> Option<&str> {
        match self {
            Self::World { run, .. } => Some(run),
            _ => None,
        }
    }
}

/// Runs what is not yet finished and writes the results. `stop` is looked at after every round.
///
/// # Errors
/// [`RunError`]: the first thing that went wrong. Whatever was finished is kept.
pub fn run(
    study: &Study,
    library: &Library,
    folder: &Path,
    options: Options,
    stop: &AtomicBool,
    observe: &(dyn Fn(Event) + Sync),
) -> Result<Outcome, RunError> {
    run_with(study, library, folder, options, stop, observe, None)
}

/// As [`run`], the rounds played by `driver`. Such a run is not checkpointed: stopped, it begins again.
///
/// # Errors
/// As [`run`].
pub fn run_with(
    study: &Study,
    library: &Library,
    folder: &Path,
    options: Options,
    stop: &AtomicBool,
    observe: &(dyn Fn(Event) + Sync),
    driver: Option<&dyn Driver>,
) -> Result<Outcome, RunError> {
    // Bad data are found before anything runs.
    let ids = identify(study, library)?;
    let (store, mut done) = Store::open(folder, options.resume)?;
    store.write("manifest.json", manifest::of(study, &ids, library)?.as_bytes())?;
    copy::write(study, library, &store)?;
    let todo: Vec<usize> = (0..study.runs.len()).filter(|&run| !done.contains_key(&ids[run])).collect();
    for run in (0..study.runs.len()).filter(|&run| done.contains_key(&ids[run])) {
        observe(Event::Rounds(study.runs[run].scenario.plan.rounds));
        observe(Event::Finished);
    }
    let work = Work { study, ids: &ids, library, store: &store, options, stop, observe, driver };
    for finished in work.all(&todo)? {
        done.insert(finished.id.clone(), finished);
    }
    let outcome = Outcome { study: study.clone(), finished: collect(&ids, &done) };
    super::figures::write(&outcome, &store)?;
    store.close()?;
    Ok(outcome)
}

/// Each run's id.
///
/// # Errors
/// Data that cannot be loaded or divided.
pub fn identify(study: &Study, library: &Library) -> Result<Vec<String>, RunError> {
    let mut ids = Vec::with_capacity(study.runs.len());
    for run in &study.runs {
        let failed = |source| RunError::World { run: name(study, run), source: Box::new(source) };
        let data = library.load(&run.scenario.plan.data).map_err(failed)?;
        library.prepare(&run.scenario.plan).map_err(failed)?;
        ids.push(run.scenario.id(&data.identity()));
    }
    Ok(ids)
}

/// About how long the study takes on so many threads: a few rounds of a few runs are timed.
///
/// # Errors
/// As [`identify`], and runs that cannot begin.
pub fn estimate(study: &Study, library: &Library, jobs: usize) -> Result<Duration, RunError> {
    const PROBES: usize = 4;
    const ROUNDS: u64 = 3;
    let (mut seconds, mut rounds) = (0.0, 0);
    let every = study.runs.len().div_ceil(PROBES).max(1);
    for run in study.runs.iter().step_by(every) {
        let failed = |source| RunError::World { run: name(study, run), source: Box::new(source) };
        let data = library.prepare(&run.scenario.plan).map_err(failed)?;
        let mut world = World::new(Arc::clone(&run.scenario), data, Route::Shortest).map_err(failed)?;
        let start = Instant::now();
        while !world.is_over() && world.state().round < ROUNDS {
            world.step().map_err(failed)?;
            rounds += 1;
        }
        seconds += start.elapsed().as_secs_f64();
    }
    let each = if rounds == 0 { 0.0 } else { seconds / rounds as f64 };
    Ok(Duration::from_secs_f64(each * study.rounds() as f64 / jobs.max(1) as f64))
}

/// What is special about a run.
pub fn name(study: &Study, run: &StudyRun) -> String {
    let labels: Vec<String> =
        study.axes.iter().zip(study.labels(run)).map(|(axis, label)| format!("{} = {label}", axis.key)).collect();
    let seed = format!("seed {}", run.scenario.plan.seed);
    [labels, vec![seed]].concat().join(", ")
}

/// One run from its start to its end, without a folder.
///
/// # Errors
/// Data that cannot be loaded, or a round that no engine takes.
pub fn once(study: &Study, run: &StudyRun, id: &str, library: &Library, route: Route) -> Result<Finished, RunError> {
    let failed = |source| RunError::World { run: name(study, run), source: Box::new(source) };
    let data = library.prepare(&run.scenario.plan).map_err(failed)?;
    let mut world = World::new(Arc::clone(&run.scenario), data, route).map_err(failed)?;
    while !world.is_over() {
        world.step().map_err(failed)?;
    }
    let (measured, classes) = (world.state().measured.clone(), world.class_accuracy());
    Ok(Finished { id: id.to_owned(), measured, classes, partition: String::new() })
}

fn collect(ids: &[String], done: &HashMap<String, Finished>) -> Vec<Finished> {
    ids.iter().filter_map(|id| done.get(id)).cloned().collect()
}

/// Why a run ended before its last round.
enum Stop {
    World(WorldError),
    Run(RunError),
}

impl From<WorldError> for Stop {
    fn from(error: WorldError) -> Self {
        Self::World(error)
    }
}

impl From<RunError> for Stop {
    fn from(error: RunError) -> Self {
        Self::Run(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Run(error.into())
    }
}

/// A division's file in the folder of results: its name and its text.
pub(super) fn partition_text(file: &PartitionFile) -> Result<(String, String), StoreError> {
    let text = serde_json::to_string(file)
        .map_err(|error| StoreError::Format { file: "partitions", what: error.to_string() })?;
    Ok((format!("partitions/{}.json", &hex::encode(Sha256::digest(text.as_bytes()))[..16]), text))
}

struct Work<'a> {
    study: &'a Study,
    ids: &'a [String],
    library: &'a Library,
    store: &'a Store,
    options: Options,
    stop: &'a AtomicBool,
    observe: &'a (dyn Fn(Event) + Sync),
    driver: Option<&'a dyn Driver>,
}

impl Work<'_> {
    /// Each thread takes the next run that nobody has; threads to spare work inside the runs.
    fn all(&self, todo: &[usize]) -> Result<Vec<Finished>, RunError> {
        let jobs = self.options.jobs.max(1);
        let workers = jobs.min(todo.len()).max(1);
        let inside = (jobs / workers).max(1);
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let results: Mutex<Vec<Finished>> = Mutex::new(Vec::new());
        let failure: Mutex<Option<RunError>> = Mutex::new(None);
        let pools = (0..workers)
            .map(|_| rayon::ThreadPoolBuilder::new().num_threads(inside).build())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| RunError::Threads(error.to_string()))?;
        let body = || {
            while !failed.load(Ordering::Relaxed) {
                let Some(&run) = todo.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                match self.one(run) {
                    Ok(finished) => results.lock().unwrap_or_else(PoisonError::into_inner).push(finished),
                    Err(error) => {
                        failed.store(true, Ordering::Relaxed);
                        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for pool in &pools {
                scope.spawn(|| pool.install(body));
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(results.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    fn one(&self, number: usize) -> Result<Finished, RunError> {
        let (run, id) = (&self.study.runs[number], &self.ids[number]);
        let failed = |source| RunError::World { run: name(self.study, run), source: Box::new(source) };
        let start = Instant::now();
        let data = self.library.prepare(&run.scenario.plan).map_err(failed)?;
        let partition = self.partition(run, &data)?;
        let mut world = World::new(Arc::clone(&run.scenario), data, self.options.route).map_err(failed)?;
        let played = match self.driver {
            Some(driver) => self.driven(driver, id, &mut world),
            None => self.in_process(id, &mut world),
        };
        played.map_err(|stop| match stop {
            Stop::World(error) => failed(error),
            Stop::Run(error) => error,
        })?;
        let classes = world.class_accuracy();
        let finished = Finished { id: id.clone(), measured: world.state().measured.clone(), classes, partition };
        self.store.finish(&finished, run.scenario.plan.rounds, start.elapsed().as_secs_f64())?;
        (self.observe)(Event::Finished);
        Ok(finished)
    }

    /// Rounds by the engine in this process, from the last checkpoint on.
    fn in_process(&self, id: &str, world: &mut World) -> Result<(), Stop> {
        // A damaged checkpoint costs time, not the result.
        let saved = self.store.checkpoint(id).and_then(|bytes| State::from_bytes(&bytes, id, world.state()).ok());
        if let Some(state) = saved {
            (self.observe)(Event::Rounds(state.round));
            world.restore(state);
        }
        let mut saved = Instant::now();
        while !world.is_over() {
            if self.stop.load(Ordering::Relaxed) {
                self.store.save_checkpoint(id, &world.state().to_bytes(id))?;
                return Err(RunError::Stopped.into());
            }
            world.step()?;
            (self.observe)(Event::Rounds(1));
            if saved.elapsed() >= self.options.checkpoint_every && !world.is_over() {
                self.store.save_checkpoint(id, &world.state().to_bytes(id))?;
                saved = Instant::now();
            }
        }
        Ok(())
    }

    /// Rounds by a driver, all of them.
    fn driven(&self, driver: &dyn Driver, id: &str, world: &mut World) -> Result<(), Stop> {
        let mut course = driver.open(id, world)?;
        let mut played = Ok(());
        while !world.is_over() && played.is_ok() {
            played = match self.stop.load(Ordering::Relaxed) {
                true => Err(RunError::Stopped.into()),
                false => course.step(world).map_err(Stop::World),
            };
            (self.observe)(Event::Rounds(u64::from(played.is_ok())));
        }
        course.finish();
        played
    }

    /// Writes who holds which examples, once per division; answers the file's name.
    fn partition(&self, run: &StudyRun, data: &crate::world::Prepared) -> Result<String, RunError> {
        let digest = self
            .library
            .load(&run.scenario.plan.data)
            .map_err(|source| RunError::World { run: name(self.study, run), source: Box::new(source) })?
            .digest;
        let (name, text) = partition_text(&data.partition_file(digest))?;
        if !self.store.folder().join(&name).exists() {
            self.store.write(&name, text.as_bytes())?;
        }
        Ok(name)
    }
}
