//! The same numbers for papers and notes.

use std::fmt::Write as _;

use super::{Findings, Line, percent};
use crate::study::results::Cell;

/// Columns of the table of worst cases.
const HEADER: [&str; 9] = [
    "rule",
    "setting",
    "without attack",
    "worst attack",
    "accuracy under it",
    "worst seed",
    "mean of last",
    "attackers held back",
    "honest held back",
];

impl Findings<'_> {
    /// The table of worst cases, a line per rule and facet.
    pub(super) fn worst_table(&self) -> Vec<[String; HEADER.len()]> {
        self.lines().iter().map(|line| self.row(line)).collect()
    }

    fn row(&self, line: &Line<'_>) -> [String; HEADER.len()] {
        let range = |cell: &Cell| {
            format!("{} [{}, {}]", percent(cell.last.mean), percent(cell.last.low), percent(cell.last.high))
        };
        let (attackers, honest) = held_back(&line.attacked);
        let share = |share: Option<f64>| share.map_or_else(|| "–".to_owned(), percent);
        let worst = line.worst();
        let of_worst = |text: &dyn Fn(&Cell) -> String| worst.map_or_else(|| "–".to_owned(), text);
        [
            line.rule.clone(),
            self.facet_name(&line.facet),
            line.clean.map_or_else(|| "–".to_owned(), range),
            of_worst(&|cell| self.attack_of(cell)),
            of_worst(&range),
            of_worst(&|cell| percent(cell.last.worst)),
            of_worst(&|cell| percent(cell.mean_of_last.mean)),
            share(attackers),
            share(honest),
        ]
    }
}

/// Shares of updates mostly held back over all attacks: the attackers', the honest clients'.
pub(super) fn held_back(cells: &[&Cell]) -> (Option<f64>, Option<f64>) {
    let summaries = || cells.iter().flat_map(|cell| &cell.seeds).map(|(_, one)| one);
    let share = |held: u64, judged: u64| (judged > 0).then(|| held as f64 / judged as f64);
    (
        share(
            summaries().map(|one| one.colluders.held_back).sum(),
            summaries().map(|one| one.colluders.judged()).sum(),
        ),
        share(summaries().map(|one| one.honest.held_back).sum(), summaries().map(|one| one.honest.judged()).sum()),
    )
}

pub(super) fn markdown(findings: &Findings<'_>) -> String {
    let study = &findings.outcome.study;
    let mut text = format!("# {}\n\n", cell_text(&study.name));
    for paragraph in findings.summary() {
        let _ = writeln!(text, "{paragraph}\n");
    }
    for warning in findings.warnings() {
        let _ = writeln!(text, "> {warning}\n");
    }
    text.push_str(
        "## Worst case per rule\n\nTest accuracy in percent, mean over the seeds with its 95 % interval.\n\n",
    );
    let rows: Vec<Vec<String>> =
        findings.worst_table().into_iter().map(|row| row.map(|cell| cell_text(&cell)).to_vec()).collect();
    table(&mut text, &HEADER.map(str::to_owned), &rows);
    for facet in findings.facet_list() {
        let Some(matrix) = findings.by_attack(&facet, |cell| Some(cell.last.mean)) else { continue };
        let name = findings.facet_name(&facet);
        let _ = writeln!(
            text,
            "\n## Rule and attack{}\n",
            if name.is_empty() { String::new() } else { format!(": {name}") }
        );
        let header: Vec<String> =
            std::iter::once("rule".to_owned()).chain(matrix.columns.iter().map(|name| cell_text(name))).collect();
        let rows: Vec<Vec<String>> = (matrix.rows.iter().zip(&matrix.values))
            .map(|(name, values)| {
                let value = |value: &Option<(f64, String)>| {
                    value.as_ref().map_or_else(|| "–".to_owned(), |(share, _)| percent(*share))
                };
                std::iter::once(cell_text(name)).chain(values.iter().map(value)).collect()
            })
            .collect();
        table(&mut text, &header, &rows);
    }
    super::noise::markdown(&mut text, findings);
    super::detector::markdown(&mut text, findings);
    text
}

pub(super) fn table(text: &mut String, header: &[String], rows: &[Vec<String>]) {
    let _ = writeln!(text, "| {} |\n|{}|", header.join(" | "), "---|".repeat(header.len()).trim_end_matches('|'));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
}

/// A bar would end the cell.
pub(super) fn cell_text(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

pub(super) fn latex(findings: &Findings<'_>) -> String {
    let mut text = String::from("% Needs the package booktabs.\n");
    for facet in findings.facet_list() {
        let Some(matrix) = findings.by_attack(&facet, |cell| Some(cell.last.mean)) else { continue };
        let caption = [findings.outcome.study.name.clone(), findings.facet_name(&facet)];
        let caption: Vec<String> = caption.iter().filter(|part| !part.is_empty()).map(|part| escape(part)).collect();
        let _ = writeln!(
            text,
            "\\begin{{table}}\n\\caption{{{}. Final test accuracy in percent, mean over seeds.}}\n\\begin{{tabular}}{{l{}}}\n\\toprule",
            caption.join(", "),
            "r".repeat(matrix.columns.len())
        );
        let names: Vec<String> = matrix.columns.iter().map(|name| escape(name)).collect();
        let _ = writeln!(text, "rule & {} \\\\\n\\midrule", names.join(" & "));
        for (name, values) in matrix.rows.iter().zip(&matrix.values) {
            let numbers: Vec<String> = values
                .iter()
                .map(|value| value.as_ref().map_or_else(|| "--".to_owned(), |(share, _)| percent(*share)))
                .collect();
            let _ = writeln!(text, "{} & {} \\\\", escape(name), numbers.join(" & "));
        }
        text.push_str("\\bottomrule\n\\end{tabular}\n\\end{table}\n");
    }
    super::noise::latex(&mut text, findings);
    text
}

pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' => safe.push_str("\\textbackslash{}"),
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => safe.extend(['\\', letter]),
            '~' => safe.push_str("\\textasciitilde{}"),
            '^' => safe.push_str("\\textasciicircum{}"),
            other => safe.push(other),
        }
    }
    safe
}
