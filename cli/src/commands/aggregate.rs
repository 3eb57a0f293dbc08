//! `testudo aggregate`: a rule on a file, without a server.

mod inputs;
mod npy;
mod report;
mod rule_text;
mod updates;

use crate::{
    exit::{Exit, Failure},
    file,
    output::Output,
};
use clap::Args;
use inputs::{ExtraFiles, Inputs};
use ndarray_npy::{WritableElement, WriteNpyExt as _};
use report::Report;
use std::{
    path::{Path, PathBuf},
    time::Instant,
};
use testudo_aggregate::{
    Element, RowReason, Rule as _, RuleConfig, Summary, Task, Verdict, aggregate_source, first_non_finite,
};
use updates::{Matrix, Updates};

/// Most threads, for a sensible refusal.
const THREADS: u64 = 1024;
/// Most repetitions.
const REPEAT: u64 = 10_000;

/// Options of `testudo aggregate`.
#[derive(Debug, Args)]
#[command(after_help = "`testudo rules` lists the rules and pre-aggregations with their parameters.
UPDATES is an n x d array of f32 or f64 in .npy, or a .safetensors file whose tensors are the rows, by name.
Rows with NaN or infinity are rejected first; if fewer rows remain than the rule needs for its `byzantine`, that is
lowered to the largest possible and reported. Seconds are of the rule alone, without reading and writing.

Examples:
  testudo aggregate --rule 'kind = \"krum\"\\nbyzantine = 2' --updates updates.npy --out agg.npy
  testudo aggregate --rule krum --byzantine 2 --updates updates.npy --repeat 5 --json
  testudo aggregate --rule trimmed_mean --byzantine 2 --pre arc,nnm --updates updates.npy
  testudo aggregate --rule fltrust --reference trusted.npy --updates updates.npy
  testudo aggregate --rule median --updates larger-than-memory.npy --out-of-core --out agg.npy
  testudo aggregate --rule mean --weights examples.npy --updates updates.safetensors
  testudo aggregate --rule @rule.toml --updates updates.npy --threads 1")]
pub(crate) struct Aggregate {
    /// The rule as TOML (`\n` or `;` ends a line), @FILE, or a kind
    #[arg(long, value_name = "TOML|@FILE|KIND")]
    rule: String,
    /// Adds `byzantine = F` to the rule
    #[arg(long, value_name = "F")]
    byzantine: Option<u64>,
    /// Pre-aggregations by kind, in this order; with parameters write them into the rule's `pre`
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pre: Vec<String>,
    /// The updates: .npy or .safetensors
    #[arg(long, value_name = "FILE")]
    updates: PathBuf,
    /// One weight per row, for rules that use weights: .npy
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    extras: ExtraFiles,
    /// Seed of the rules that draw samples or permutations
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// What the rule's last aggregate asked to remember, as its JSON said
    #[arg(long, value_name = "X")]
    memory: Option<f64>,
    /// Leave the updates in the file and read them a unit at a time: memory is then bounded. Seconds include reading
    #[arg(long)]
    out_of_core: bool,
    /// Where to write the aggregate: .npy of the updates' type; overwritten if it is there
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Threads; without it one per core. The result does not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=THREADS))]
    threads: Option<u64>,
    /// How often to compute it, for timing
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=REPEAT))]
    repeat: u64,
}

/// The rows a rule may see, and what it made of them.
struct Outcome<T> {
    rule: RuleConfig,
    kept: Vec<usize>,
    output: Vec<T>,
    summary: Summary,
    seconds: Vec<f64>,
}

impl Aggregate {
    /// Reads, computes, writes, reports.
    ///
    /// # Errors
    /// A rule, file or combination of both that is refused.
    pub(crate) async fn run(self, output: &Output) -> Result<(), Failure> {
        if let Some(out) = self.out.as_ref().filter(|out| self.is_input(out)) {
            let what = format!("{} is an input", out.display());
            return Err(
                Failure::new(Exit::Usage, what, "the aggregate would be written over it").next("name another --out")
            );
        }
        let rule = rule_text::read(&self.rule, self.byzantine, &self.pre)?;
        let mut updates = updates::read(&self.updates, self.out_of_core)?;
        let weights = self.weights.as_ref().map(|path| updates::read_weights(path, updates.rows())).transpose()?;
        let threads = self.threads.map_or(0, |threads| threads as usize);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .map_err(|error| Failure::new(Exit::Internal, "cannot start the threads", error.to_string()))?;
        let report = match &mut updates {
            Updates::F32(matrix) => self.compute(&rule, matrix, weights.as_deref(), &pool)?,
            Updates::F64(matrix) => self.compute(&rule, matrix, weights.as_deref(), &pool)?,
        };
        output.result(report.object(), |output| report.text(output))?;
        if let Some(path) = &self.out {
            output.note(&format!("wrote {}", path.display()));
        }
        Ok(())
    }

    /// Whether a file is one of those that are read.
    fn is_input(&self, file: &Path) -> bool {
        let same = |other: &Path| match (file.canonicalize(), other.canonicalize()) {
            (Ok(file), Ok(other)) => file == other,
            _ => false,
        };
        let inputs = [Some(&self.updates), self.weights.as_ref()];
        inputs.into_iter().flatten().chain(self.extras.files()).any(|input| same(input))
    }

    fn compute<T: Element + WritableElement>(
        &self,
        rule: &RuleConfig,
        matrix: &mut Matrix<T>,
        weights: Option<&[f64]>,
        pool: &rayon::ThreadPool,
    ) -> Result<Report, Failure> {
        let outcome = pool.install(|| self.apply(rule, matrix, weights))?;
        if let Some(path) = &self.out {
            let mut bytes = Vec::new();
            ndarray::aview1(&outcome.output)
                .write_npy(&mut bytes)
                .map_err(|error| Failure::new(Exit::Internal, "cannot write the aggregate", error.to_string()))?;
            file::write(path, &bytes, true)?;
        }
        Ok(Report::new(rule, &outcome, matrix, pool.current_num_threads()))
    }

    fn apply<T: Element>(
        &self,
        rule: &RuleConfig,
        matrix: &mut Matrix<T>,
        weights: Option<&[f64]>,
    ) -> Result<Outcome<T>, Failure> {
        let kept = finite_rows(matrix)?;
        let refused = |why: String| {
            let failure = Failure::new(Exit::Config, format!("{rule} cannot be applied"), why);
            match matrix.rows - kept.len() {
                0 => failure,
                rejected => failure.next(format!(
                    "{rejected} of {} rows are not finite and were rejected: find out why they are",
                    matrix.rows
                )),
            }
        };
        // With every row finite the rule must hold as it was asked for; only rejected rows lower `byzantine`.
        let fitted = match kept.len() == matrix.rows {
            true => rule.clone(),
            false => rule.fit(kept.len()).map_err(|error| refused(error.to_string()))?,
        };
        let extras = self.extras.read(fitted.needs().extras, matrix, &kept)?;
        let weights: Option<Vec<f64>> = weights.map(|weights| kept.iter().map(|&row| weights[row]).collect());
        let task = Task {
            rows: kept.len(),
            dimension: matrix.columns,
            weights: weights.as_deref(),
            seed: self.seed,
            memory: self.memory,
            unit_len: None,
        };
        let mut seconds = Vec::with_capacity(self.repeat as usize);
        let mut output = vec![T::ZERO; matrix.columns];
        let mut summary = None;
        for _ in 0..self.repeat {
            let start = Instant::now();
            let mut inputs = Inputs { matrix: &mut *matrix, kept: &kept, extras: &extras };
            let result = aggregate_source(&fitted, &task, &mut inputs, &mut |range, unit| {
                output[range].copy_from_slice(unit);
                Ok(())
            });
            seconds.push(start.elapsed().as_secs_f64());
            summary = Some(result);
        }
        let refused = |why: String| Failure::new(Exit::Config, format!("{rule} cannot be applied"), why);
        // `repeat` is at least 1; clap has held it to its range.
        let Some(summary) = summary else { return Err(refused("nothing was computed".into())) };
        let summary = summary.map_err(|error| refused(error.to_string()))?;
        Ok(Outcome { rule: fitted, kept, output, summary, seconds })
    }
}

/// The rows without NaN and infinity. A file that stays on disk is read once for it.
fn finite_rows<T: Element>(matrix: &mut Matrix<T>) -> Result<Vec<usize>, Failure> {
    let all: Vec<usize> = (0..matrix.rows).collect();
    let mut finite = vec![true; matrix.rows];
    let step = (SCAN_BYTES / (T::BYTES * matrix.rows)).max(1);
    for start in (0..matrix.columns).step_by(step) {
        let range = start..matrix.columns.min(start + step);
        let scanned = matrix.unit::<String>(&all, range, &mut |rows| {
            for (finite, row) in finite.iter_mut().zip(rows) {
                *finite &= first_non_finite(row).is_none();
            }
            Ok(())
        });
        scanned.map_err(|why| Failure::new(Exit::Internal, "cannot read the updates", why))?;
    }
    Ok(all.into_iter().filter(|&row| finite[row]).collect())
}

/// Bytes looked at together.
const SCAN_BYTES: usize = 64 << 20;

impl<T> Outcome<T> {
    /// The verdicts of all rows, those rejected before the rule included.
    fn verdicts(&self, rows: usize) -> Vec<Verdict> {
        let mut verdicts = vec![Verdict::Rejected { reason: RowReason::NonFinite }; rows];
        for (&row, verdict) in self.kept.iter().zip(&self.summary.verdicts) {
            verdicts[row] = *verdict;
        }
        verdicts
    }

    /// Spreads numbers of the kept rows over all rows.
    fn spread(&self, numbers: Option<&Vec<f64>>, rows: usize, rejected: Option<f64>) -> Option<Vec<Option<f64>>> {
        let numbers = numbers?;
        let mut all = vec![rejected; rows];
        for (&row, number) in self.kept.iter().zip(numbers) {
            all[row] = number.is_finite().then_some(*number);
        }
        Some(all)
    }
}
