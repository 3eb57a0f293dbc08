//! `testudo study`: what to do with finished studies.

use crate::{
    exit::{Exit, Failure},
    format::{Table, plural},
    output::Output,
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::PathBuf;
use testudo_simulator::study::{
    compare::{Comparison, compare},
    verify,
};

/// Options of `testudo study`.
#[derive(Debug, Args)]
pub(crate) struct Study {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Shows which combinations changed between two studies, seed by seed
    #[command(after_help = "\
A combination counts as changed when the 95 % bootstrap interval of its paired differences leaves out zero.

Example:
  testudo study compare before after")]
    Compare {
        /// The folder of the first study
        #[arg(value_name = "A")]
        first: PathBuf,
        /// The folder of the second
        #[arg(value_name = "B")]
        second: PathBuf,
        /// Show unchanged combinations, too
        #[arg(long)]
        all: bool,
    },
    /// Runs some runs of a study again and compares every number
    #[command(after_help = "\
Example:
  testudo study verify results --sample 5")]
    Verify {
        /// The folder of the study
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// How many runs, spread over the study
        #[arg(long, value_name = "K", default_value_t = 3)]
        sample: usize,
        /// Where the study file's data are; divisions that it names are in its own folder
        #[arg(long, value_name = "DIR", default_value = ".")]
        data: PathBuf,
    },
}

impl Study {
    /// Does it.
    ///
    /// # Errors
    /// Folders without results; numbers that differ.
    pub(crate) async fn run(self, output: &Output) -> Result<(), Failure> {
        match self.action {
            Action::Compare { first, second, all } => {
                let comparison =
                    compare(&first, &second).map_err(|error| refused("cannot compare the studies", &error))?;
                let object = serde_json::to_value(&comparison)
                    .map_err(|error| Failure::new(Exit::Internal, "cannot write the comparison", error.to_string()))?;
                output.result(object, |output| table(&comparison, all, output))
            }
            Action::Verify { folder, sample, data } => {
                let what = "cannot verify the study";
                let checked = verify::verify(&folder, &data, sample).map_err(|error| refused(what, &error))?;
                let object: Value = json!({ "checked": checked.checked, "different": checked.different });
                output.result(object, |_| format!("{} done again", plural(checked.checked.len() as u64, "run")))?;
                if checked.different.is_empty() {
                    return Ok(());
                }
                Err(Failure::new(Exit::Verification, "runs gave other numbers", checked.different.join("\n")))
            }
        }
    }
}

/// A folder that is not there is another matter than one that is damaged.
fn refused(what: &'static str, error: &(dyn std::error::Error + 'static)) -> Failure {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    let absent = |error: &(dyn std::error::Error + 'static)| {
        error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    };
    let exit = if causes.any(absent) { Exit::NotFound } else { Exit::Usage };
    Failure::new(exit, what, error.to_string()).next("name the folder of a finished study: `testudo simulate --out`")
}

fn table(comparison: &Comparison, all: bool, output: &Output) -> String {
    let mut table = Table::new(&["combination", "first", "second", "change", "95 % interval"]);
    let mut cells: Vec<_> = comparison.cells.iter().filter(|cell| all || cell.separate).collect();
    cells.sort_by(|one, other| other.change.mean.abs().total_cmp(&one.change.mean.abs()));
    let shown = cells.len();
    for cell in cells {
        let points = |share: f64| format!("{:+.1}", share * 100.0);
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let interval = format!("{} to {}", points(cell.change.low), points(cell.change.high));
        table.row(vec![
            cell.cell.clone(),
            percent(cell.first),
            percent(cell.second),
            points(cell.change.mean),
            interval,
        ]);
    }
    let mut text = if shown == 0 { String::new() } else { table.text(output.colour) + "\n" };
    let identical = comparison.cells.iter().filter(|cell| cell.identical).count();
    let separate = comparison.cells.iter().filter(|cell| cell.separate).count();
    text.push_str(&format!(
        "{} in both: {separate} changed, {identical} identical in every seed",
        plural(comparison.cells.len() as u64, "combination")
    ));
    for (which, cells) in [("first", &comparison.only_first), ("second", &comparison.only_second)] {
        if !cells.is_empty() {
            text.push_str(&format!("\nonly in the {which}: {}", cells.join("; ")));
        }
    }
    text
}
