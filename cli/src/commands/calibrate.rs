//! `testudo calibrate`: how often a detector accuses honest clients.

use crate::{
    commands::simulate::Source,
    exit::{Exit, Failure},
    format::Table,
    output::Output,
};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use testudo_simulator::{
    study::{
        Study,
        calibrate::{self, Calibrated},
    },
    world::Library,
};

const WHAT: &str = "cannot calibrate";

/// Options of `testudo calibrate`.
#[derive(Debug, Args)]
#[command(after_help = "\
The runs of the study are played without their attacks while the detector of its section [detection] watches. Every
client it accuses is honest: the share of those is the rate of false accusations, with an exact 95 % interval
(Clopper-Pearson). Automatic quarantine is acceptable where the upper end of that interval is within --target.

Exit code 7: it is not, in at least one setting.

Examples:
  testudo calibrate study.toml
  testudo calibrate --preset digits-detection --rounds 100 --target 0.05")]
pub(crate) struct Calibrate {
    /// The study file
    #[arg(value_name = "STUDY", required_unless_present = "preset")]
    study: Option<PathBuf>,
    /// A study that comes with the program instead of a file
    #[arg(long, value_name = "NAME", conflicts_with = "study")]
    preset: Option<String>,
    /// Rounds of each run; the study's unless told
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rounds: Option<u64>,
    /// Largest acceptable rate of false accusations, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    target: f64,
    /// Threads; without it one per core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    jobs: Option<u64>,
}

impl Calibrate {
    /// Plays the clean runs and says whether the detector may act.
    ///
    /// # Errors
    /// A study that is refused, data that cannot be read, a rate above the target.
    pub(crate) async fn run(self, output: &Output) -> Result<(), Failure> {
        if !(0.0..=1.0).contains(&self.target) {
            let why = format!("--target {} is no share from 0 to 1", self.target);
            return Err(Failure::new(Exit::Usage, WHAT, why).next("write for example --target 0.05"));
        }
        let source = match (&self.preset, &self.study) {
            (Some(name), _) => Source::preset(name)?,
            (None, Some(path)) => Source::file(path)?,
            (None, None) => return Err(Failure::new(Exit::Usage, WHAT, "no study was named").next("name a file")),
        };
        let study = Study::read(&source.name, &source.text).map_err(|problems| {
            Failure::new(Exit::Config, format!("{} is no study", source.name), problems.to_string())
        })?;
        let library = Library::new(&source.folder);
        let (rounds, target) = (self.rounds, self.target);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = self.jobs.map_or(cores, |jobs| jobs as usize);
        let file = source.name;
        let work = tokio::task::spawn_blocking(move || {
            calibrate::calibrate(&study, &library, rounds, jobs).map_err(|error| {
                study.located(&file, &error).map_or_else(|| error.to_string(), |problems| problems.to_string())
            })
        });
        let all = work
            .await
            .map_err(|error| Failure::new(Exit::Internal, WHAT, error.to_string()))?
            .map_err(|why| Failure::new(Exit::Config, WHAT, why))?;
        let above: Vec<&str> = all.iter().filter(|one| one.high > target).map(|one| one.setting.as_str()).collect();
        let object = json!({ "target": target, "settings": all, "quarantine_allowed": above.is_empty() });
        output.result(object, |output| table(&all, target, output))?;
        if above.is_empty() {
            return Ok(());
        }
        let why = format!("the upper bound is above {target} in: {}", above.join("; "));
        Err(Failure::new(Exit::Verification, "automatic quarantine is refused", why)
            .next("play more seeds or rounds, or lower detection.alpha and detection.q"))
    }
}

fn table(all: &[Calibrated], target: f64, output: &Output) -> String {
    let mut table =
        Table::new(&["setting", ">runs", ">rounds", ">clients", ">accused", "rate, 95 % bounds", "quarantine"]);
    for one in all {
        let percent = |share: f64| format!("{:.1}", 100.0 * share);
        let rate = one.flagged as f64 / one.clients.max(1) as f64;
        table.row(vec![
            one.setting.clone(),
            one.runs.to_string(),
            one.rounds.to_string(),
            one.clients.to_string(),
            one.flagged.to_string(),
            format!("{} % [{}, {}]", percent(rate), percent(one.low), percent(one.high)),
            if one.high <= target { "allowed" } else { "refused" }.to_owned(),
        ]);
    }
    table.text(output.colour)
}
