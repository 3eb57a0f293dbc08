//! What `testudo aggregate` prints.

use super::{Outcome, updates::Matrix};
use crate::{
    format::{self, Table},
    output::Output,
};
use serde_json::{Map, Value, json};
use testudo_aggregate::{Element, Note, RowReason, RuleConfig, Verdict};

/// Most rows in the table for people; `--json` has all.
const TABLE_ROWS: usize = 200;

/// Everything worth telling, one entry per row of the file.
#[derive(Debug)]
pub(super) struct Report {
    asked: RuleConfig,
    used: RuleConfig,
    kept: usize,
    columns: usize,
    names: Option<Vec<String>>,
    verdicts: Vec<Verdict>,
    weights: Option<Vec<Option<f64>>>,
    scores: Option<Vec<Option<f64>>>,
    selected: Vec<usize>,
    norm: f64,
    notes: Vec<Note>,
    memory: Option<f64>,
    degenerate: Option<String>,
    seconds: Vec<f64>,
    threads: usize,
}

impl Report {
    /// Gathers it.
    pub(super) fn new<T: Element>(
        asked: &RuleConfig,
        outcome: &Outcome<T>,
        matrix: &Matrix<T>,
        threads: usize,
    ) -> Self {
        let square = |value: &T| value.to_f64() * value.to_f64();
        Self {
            asked: asked.clone(),
            used: outcome.rule.clone(),
            kept: outcome.kept.len(),
            columns: matrix.columns,
            names: matrix.names.clone(),
            verdicts: outcome.verdicts(matrix.rows),
            weights: outcome.spread(outcome.summary.weights.as_ref(), matrix.rows, Some(0.0)),
            scores: outcome.spread(outcome.summary.scores.as_ref(), matrix.rows, None),
            selected: outcome.summary.selected.iter().map(|&row| outcome.kept[row]).collect(),
            norm: outcome.output.iter().map(square).sum::<f64>().sqrt(),
            notes: outcome.summary.notes.clone(),
            memory: outcome.summary.memory,
            degenerate: outcome.summary.degenerate.clone(),
            seconds: outcome.seconds.clone(),
            threads,
        }
    }

    /// For programs.
    pub(super) fn object(&self) -> Value {
        let words: Vec<&str> = self.verdicts.iter().map(word).collect();
        let values: Vec<Option<f64>> = self.verdicts.iter().map(value).collect();
        let values = values.iter().any(Option::is_some).then_some(values);
        json!({
            "rule": self.asked.kind(), "parameters": self.asked, "parameters_used": self.used,
            "byzantine": self.asked.rule().byzantine(), "byzantine_used": self.used.rule().byzantine(),
            "n": self.verdicts.len(), "n_used": self.kept, "d": self.columns,
            "names": self.names, "verdicts": words, "values": values, "weights": self.weights, "scores": self.scores,
            "selected": self.selected, "norm": self.norm.is_finite().then_some(self.norm),
            "notes": self.notes.iter().map(|note| (note.name.clone(), json!(note.value))).collect::<Map<_, _>>(),
            "memory": self.memory, "degenerate": self.degenerate, "seconds": self.seconds, "threads": self.threads,
        })
    }

    /// For people.
    pub(super) fn text(&self, output: &Output) -> String {
        let mut lines = vec![format!(
            "{} on {} of {}",
            self.used,
            format::plural(self.verdicts.len() as u64, "row"),
            format::plural(self.columns as u64, "coordinate")
        )];
        let rejected = self.verdicts.len() - self.kept;
        if rejected > 0 {
            lines.push(format!(
                "{} rejected before the rule: not finite; byzantine = {} of {} asked for",
                format::plural(rejected as u64, "row"),
                self.used.rule().byzantine(),
                self.asked.rule().byzantine()
            ));
        }
        let mut table = Table::new(&["row", "verdict", ">weight", ">score"]);
        let at = |list: &Option<Vec<Option<f64>>>, row: usize| format::maybe(list.as_ref().and_then(|list| list[row]));
        for (row, verdict) in self.verdicts.iter().enumerate().take(TABLE_ROWS) {
            let name = self.names.as_ref().map_or_else(|| row.to_string(), |names| names[row].clone());
            table.row([name, verdict.to_string(), at(&self.weights, row), at(&self.scores, row)]);
        }
        lines.push(table.text(output.colour));
        if self.verdicts.len() > TABLE_ROWS {
            lines.push(format!("… and {} more; --json has all", self.verdicts.len() - TABLE_ROWS));
        }
        if let Some(why) = &self.degenerate {
            lines.push(format!("the aggregate means nothing: {why}"));
        }
        lines.extend(self.notes.iter().map(|note| format!("{} {}", note.name, format::number(note.value))));
        let seconds: Vec<String> = self.seconds.iter().map(|seconds| format!("{seconds:.6}")).collect();
        lines.push(format!("norm of the aggregate {}", format::number(self.norm)));
        lines.push(format!("seconds on {}: {}", format::plural(self.threads as u64, "thread"), seconds.join(" ")));
        lines.join("\n")
    }
}

/// A verdict as one stable word, with the reason of a rejection.
fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Accepted => "accepted",
        Verdict::Clipped { .. } => "clipped",
        Verdict::Trimmed { .. } => "trimmed",
        Verdict::Rejected { reason: RowReason::NotSelected } => "rejected: not_selected",
        Verdict::Rejected { reason: RowReason::Magnitude } => "rejected: magnitude",
        Verdict::Rejected { reason: RowReason::NonFinite } => "rejected: non_finite",
        // Reasons may grow.
        Verdict::Rejected { .. } => "rejected",
    }
}

/// The clip factor or the trimmed share.
fn value(verdict: &Verdict) -> Option<f64> {
    match verdict {
        Verdict::Clipped { factor } => Some(*factor),
        Verdict::Trimmed { share } => Some(*share),
        _ => None,
    }
}
