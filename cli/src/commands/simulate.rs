//! `testudo simulate`: a study from a file into a folder.

mod plan;
mod wire;

use crate::{
    cli::Signals,
    exit::{Exit, Failure},
    format::{Table, indented, plural},
    output::Output,
};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
pub(crate) use plan::Source;
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use testudo_engine::document::Problems;
use testudo_simulator::{
    attack::Info,
    attacks,
    study::{
        Outcome, Study,
        driver::Driver,
        preset,
        results::Cell,
        runner::{self, Event, Options, RunError},
    },
    world::Library,
};
use wire::Wire;

const WHAT: &str = "cannot run the study";

/// Most threads, for a sensible refusal.
const JOBS: u64 = 1024;

/// Cells listed on a terminal; files hold all.
const MOST_CELLS: usize = 40;

/// Options of `testudo simulate`.
#[derive(Debug, Args)]
#[command(after_help = "\
A study file says what is trained, by whom, under which attack and which rule, and what is swept. Its sections rule,
optimizer, cohort, encoding and examples are those of a task.toml and mean the same: the rounds are played by the engine
that runs in the server. docs/studies.md explains every key; --preset prints or runs published protocols.

DIR holds runs.csv (a line per run), rounds.parquet (a row per measurement), report.html, tables.md, tables.tex,
cells.json, manifest.json, who held which examples, and a journal of finished runs. A study that was stopped goes on with
--resume and ends with the same bytes. No number depends on --jobs.

Examples:
  testudo simulate --preset digits-quick --out quick
  testudo simulate study.toml --dry-run
  testudo simulate study.toml --out results --jobs 8
  testudo simulate study.toml --out results --resume
  testudo simulate study.toml --out rehearsal --wire
  testudo simulate --list-presets
  testudo simulate --list-attacks
  testudo study compare results other-results")]
pub(crate) struct Simulate {
    /// The study file
    #[arg(value_name = "STUDY", required_unless_present_any = ["preset", "list_presets", "list_attacks"])]
    study: Option<PathBuf>,
    /// A study that comes with the program instead of a file
    #[arg(long, value_name = "NAME", conflicts_with = "study")]
    preset: Option<String>,
    /// Names the presets, with what they need, and stops
    #[arg(long)]
    list_presets: bool,
    /// Names the attacks, with what they send and see, and stops
    #[arg(long, conflicts_with = "list_presets")]
    list_attacks: bool,
    /// The folder for the results; made if it is not there
    #[arg(long, value_name = "DIR", required_unless_present_any = ["dry_run", "list_presets", "list_attacks", "print"])]
    out: Option<PathBuf>,
    /// Threads; without it one per core. The results do not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=JOBS))]
    jobs: Option<u64>,
    /// Play the rounds on a real server with real clients over gRPC, and check every one against the same round in this
    /// process: accepted sets, verdicts and models have to agree bit for bit. Runs are played one after another
    #[arg(long, conflicts_with = "dry_run")]
    wire: bool,
    /// A running server for --wire, http://HOST:PORT, that takes this machine for an operator; without it one is started
    /// on the loopback
    #[arg(long, value_name = "URL", requires = "wire")]
    server: Option<String>,
    /// Go on with a study that was stopped
    #[arg(long)]
    resume: bool,
    /// List the runs and estimate the time; run and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the preset's study file, to change it
    #[arg(long, requires = "preset")]
    print: bool,
    /// Seconds between checkpoints of a run that goes on; 0 saves after every round
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    checkpoint: f64,
}

impl Simulate {
    /// Reads, checks, runs, reports.
    ///
    /// # Errors
    /// A study that is refused, data that cannot be read, a folder that cannot be written, a signal.
    pub(crate) async fn run(self, output: &Output) -> Result<(), Failure> {
        if self.list_presets {
            return output.result(presets(), preset_table);
        }
        if self.list_attacks {
            return output.result(json!({ "attacks": attacks::catalogue() }), attack_list);
        }
        let source = match (&self.preset, &self.study) {
            (Some(name), _) => Source::preset(name)?,
            (None, Some(path)) => Source::file(path)?,
            (None, None) => return Err(Failure::new(Exit::Usage, WHAT, "no study was named").next("name a file")),
        };
        if self.print {
            return output.line(source.text.trim_end());
        }
        if let Some(missing) = source.missing() {
            let object = json!({ "study": source.name, "status": "skipped", "missing": missing });
            return output.result(object, |_| format!("skipped {}: {missing}", source.name));
        }
        let study = Study::read(&source.name, &source.text).map_err(|problems| {
            Failure::new(Exit::Config, format!("{} is no study", source.name), problems.to_string())
        })?;
        let library = Library::new(&source.folder);
        let jobs = self.jobs.map_or_else(cores, |jobs| jobs as usize);
        if self.dry_run {
            return dry_run(study, source.name, library, jobs, output).await;
        }
        let Some(out) = self.out else { return Err(Failure::new(Exit::Usage, WHAT, "no folder was named")) };
        let checkpoint_every = Duration::try_from_secs_f64(self.checkpoint)
            .map_err(|_| Failure::new(Exit::Usage, WHAT, "--checkpoint is no number of seconds from 0"))?;
        let options = Options { jobs, resume: self.resume, checkpoint_every, ..Options::default() };
        let start = Instant::now();
        let outcome = match self.wire {
            false => until_signal(study, source.name, library, out.clone(), options, None, output).await?,
            true => {
                wire::check(&study)?;
                // Names of tasks that an earlier study on the same server has not taken.
                let label = format!("study-{:x}", nanoseconds());
                let (wire, own) = Wire::connect(self.server.as_deref(), label).await?;
                let options = Options { jobs: 1, ..options };
                let outcome = until_signal(study, source.name, library, out.clone(), options, Some(wire), output).await;
                if let Some(own) = own {
                    own.stop().await;
                }
                outcome?
            }
        };
        let seconds = start.elapsed().as_secs_f64();
        output.result(object(&outcome, &out, seconds), |output| table(&outcome, output))?;
        output.note(&format!(
            "{} in {seconds:.1} s; report: {}",
            plural(outcome.finished.len() as u64, "run"),
            out.join("report.html").display()
        ));
        Ok(())
    }
}

fn nanoseconds() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Runs the study on threads of its own; a signal lets every run save its checkpoint first.
async fn until_signal(
    study: Study,
    file: String,
    library: Library,
    out: PathBuf,
    options: Options,
    wire: Option<Wire>,
    output: &Output,
) -> Result<Outcome, Failure> {
    let mut signals = Signals::new()?;
    let stop = Arc::new(AtomicBool::new(false));
    let bar = progress(&study, output);
    let work = {
        let (stop, bar) = (Arc::clone(&stop), bar.clone());
        tokio::task::spawn_blocking(move || {
            let finished = std::sync::atomic::AtomicU64::new(0);
            let runs = study.runs.len();
            let observe = |event: Event| match event {
                Event::Rounds(rounds) => bar.inc(rounds),
                Event::Finished => {
                    let finished = finished.fetch_add(1, Ordering::Relaxed) + 1;
                    bar.set_message(format!("{finished}/{}", plural(runs as u64, "run")));
                }
            };
            let driver = wire.as_ref().map(|wire| wire as &dyn Driver);
            runner::run_with(&study, &library, &out, options, &stop, &observe, driver)
                .map_err(|error| (study.located(&file, &error), error))
        })
    };
    let mut work = std::pin::pin!(work);
    let mut signal = None;
    let result = loop {
        tokio::select! {
            result = &mut work => break result,
            exit = signals.next(), if signal.is_none() => {
                signal = Some(exit);
                stop.store(true, Ordering::Relaxed);
                output.note("stopping: saving checkpoints");
            }
        }
    };
    bar.finish_and_clear();
    let result = result.map_err(|error| Failure::new(Exit::Internal, WHAT, error.to_string()))?;
    result.map_err(|(located, error)| failure(located, &error, signal))
}

/// Says where in the study file the problem is, if a key of it is to blame.
fn failure(located: Option<Problems>, error: &RunError, signal: Option<Exit>) -> Failure {
    if let Some(problems) = located {
        return Failure::new(Exit::Config, WHAT, problems.to_string());
    }
    let exit = match error {
        RunError::Stopped => signal.unwrap_or(Exit::Interrupted),
        RunError::World { .. } => Exit::Config,
        RunError::Store(
            testudo_simulator::study::StoreError::Occupied(_) | testudo_simulator::study::StoreError::Locked(_),
        ) => Exit::Conflict,
        _ => Exit::Internal,
    };
    Failure::new(exit, WHAT, error.to_string())
}

fn progress(study: &Study, output: &Output) -> ProgressBar {
    let target = if output.watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let template = "{bar:30} {percent:>3} % {msg}, {eta} left";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::with_draw_target(Some(study.rounds()), target).with_style(style);
    bar.set_message(format!("0/{}", plural(study.runs.len() as u64, "run")));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

async fn dry_run(study: Study, file: String, library: Library, jobs: usize, output: &Output) -> Result<(), Failure> {
    let work = tokio::task::spawn_blocking(move || {
        let ids = runner::identify(&study, &library);
        let looked = ids.and_then(|ids| Ok((ids, runner::estimate(&study, &library, jobs)?)));
        match looked {
            Ok((ids, time)) => Ok((study, ids, time)),
            Err(error) => Err((study.located(&file, &error), error)),
        }
    });
    let (study, ids, time) = work
        .await
        .map_err(|error| Failure::new(Exit::Internal, WHAT, error.to_string()))?
        .map_err(|(located, error)| failure(located, &error, None))?;
    let seconds = time.as_secs_f64();
    let runs: Vec<Value> = (study.runs.iter().zip(&ids))
        .map(|(run, id)| json!({ "id": id, "labels": study.labels(run), "seed": run.scenario.plan.seed, "rounds": run.scenario.plan.rounds }))
        .collect();
    let object = json!({
        "study": study.name, "axes": study.axes.iter().map(|axis| &axis.key).collect::<Vec<_>>(), "runs": runs,
        "excluded": study.excluded, "skipped": study.skipped, "jobs": jobs, "estimated_seconds": seconds,
    });
    output.result(object, |_| {
        let mut text = String::new();
        for (run, id) in study.runs.iter().zip(&ids) {
            text.push_str(&format!("{}  {}\n", &id[..12], runner::name(&study, run)));
        }
        for excluded in &study.excluded {
            text.push_str(&format!("excluded      {excluded}\n"));
        }
        for (skipped, why) in &study.skipped {
            text.push_str(&format!("skipped       {skipped}: {why}\n"));
        }
        text.push_str(&format!(
            "{}, {}, about {} on {}",
            plural(study.runs.len() as u64, "run"),
            plural(study.rounds(), "round"),
            indicatif::HumanDuration(time),
            plural(jobs as u64, "thread")
        ));
        text
    })
}

fn object(outcome: &Outcome, out: &std::path::Path, seconds: f64) -> Value {
    let study = &outcome.study;
    let cell = |cell: &Cell| {
        let labels: Vec<&str> =
            study.axes.iter().zip(&cell.place).map(|(axis, &at)| axis.labels[at].as_str()).collect();
        json!({ "labels": labels, "accuracy": cell.last, "mean_of_last": cell.mean_of_last, "backdoor": cell.backdoor })
    };
    json!({
        "study": study.name, "status": "finished", "runs": outcome.finished.len(), "seconds": seconds,
        "axes": study.axes.iter().map(|axis| &axis.key).collect::<Vec<_>>(),
        "cells": outcome.cells().iter().map(cell).collect::<Vec<_>>(),
        "skipped": study.skipped, "out": out.display().to_string(),
    })
}

fn table(outcome: &Outcome, output: &Output) -> String {
    let study = &outcome.study;
    let mut header: Vec<&str> = study.axes.iter().map(|axis| axis.key.as_str()).collect();
    header.extend(["accuracy", "95 % interval", "worst seed"]);
    let mut table = Table::new(&header);
    let cells = outcome.cells();
    for cell in cells.iter().take(MOST_CELLS) {
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let mut row: Vec<String> =
            study.axes.iter().zip(&cell.place).map(|(axis, &at)| axis.labels[at].clone()).collect();
        let interval = format!("{:.1} to {:.1}", cell.last.low * 100.0, cell.last.high * 100.0);
        row.extend([percent(cell.last.mean), interval, percent(cell.last.worst)]);
        table.row(row);
    }
    let mut text = table.text(output.colour);
    if cells.len() > MOST_CELLS {
        text.push_str(&format!("\n{MOST_CELLS} of {} combinations shown; the files hold all", cells.len()));
    }
    text
}

fn presets() -> Value {
    let entry =
        |preset: &preset::Preset| json!({ "name": preset.name, "summary": preset.summary, "needs": needs(preset) });
    json!({ "presets": preset::PRESETS.iter().map(entry).collect::<Vec<_>>() })
}

fn preset_table(output: &Output) -> String {
    let mut table = Table::new(&["preset", "what it is", "what it needs"]);
    for preset in preset::PRESETS {
        let needs = needs(preset);
        let needs = if needs.is_empty() { "nothing".to_owned() } else { needs.join("; ") };
        table.row(vec![preset.name.to_owned(), preset.summary.to_owned(), needs]);
    }
    table.text(output.colour)
}

fn attack_list(_: &Output) -> String {
    let block = |info: &Info| {
        let keys: Vec<String> = info.parameters.iter().map(|one| format!("{} = {}", one.name, one.default)).collect();
        let keys = if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
        let lines = [
            format!("sends {}", info.formula),
            info.summary.to_owned(),
            format!("Sees {}. Parameters: {keys}.", info.knowledge),
        ];
        format!("{}\n{}", info.kind, lines.map(|line| indented(&line)).join("\n"))
    };
    attacks::catalogue().iter().map(|info| block(info)).collect::<Vec<_>>().join("\n\n")
}

/// Files and features that a preset asks for.
fn needs(preset: &preset::Preset) -> Vec<String> {
    let files = preset.files.iter().map(|file| format!("{} ({})", file.path, file.what));
    files.chain(preset.lacks.iter().map(|lack| (*lack).to_owned())).collect()
}
