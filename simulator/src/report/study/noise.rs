//! What noise promises and costs: ε and δ of every setting beside its accuracy.

use std::fmt::Write as _;

use super::super::html::escape;
use super::{Findings, Line, percent, tables};
use crate::scenario::Scenario;

/// Columns after setting and rule.
const HEADER: [&str; 4] = ["ε", "δ", "Without attack", "Under the worst attack"];

/// What the table says of itself.
const NOTE: &str = "What the same tasks on a server would promise, ε rounded up; final test accuracy in percent.";

/// A line per rule and setting, if there is noise in any.
fn rows(findings: &Findings<'_>) -> Vec<[String; HEADER.len() + 2]> {
    if findings.outcome.study.runs.iter().all(|run| run.scenario.epsilon().is_none()) {
        return Vec::new();
    }
    let row = |line: &Line<'_>| {
        let accuracy = |cell: Option<&crate::study::results::Cell>| {
            cell.map_or_else(|| "–".to_owned(), |cell| percent(cell.last.mean))
        };
        [
            findings.facet_name(&line.facet),
            line.rule.clone(),
            range(findings, line, Scenario::epsilon, |epsilon| format!("{:.2}", (epsilon * 100.0).ceil() / 100.0)),
            range(findings, line, Scenario::delta, |delta| format!("{delta:.2e}")),
            accuracy(line.clean),
            accuracy(line.worst()),
        ]
    };
    findings.lines().iter().map(row).collect()
}

/// A figure of a line's runs: one value, the least and the largest, or that there is no noise.
fn range(
    findings: &Findings<'_>,
    line: &Line<'_>,
    figure: fn(&Scenario) -> Option<f64>,
    shown: fn(f64) -> String,
) -> String {
    let cells = line.clean.into_iter().chain(line.attacked.iter().copied());
    let mut values: Vec<Option<f64>> = cells.map(|cell| figure(findings.scenario_of(cell))).collect();
    values.sort_by(|one, other| one.unwrap_or(f64::INFINITY).total_cmp(&other.unwrap_or(f64::INFINITY)));
    let shown = |value: &Option<f64>| value.map_or_else(|| "no noise".to_owned(), shown);
    match (values.first(), values.last()) {
        (Some(least), Some(most)) if least == most => shown(most),
        (Some(least), Some(most)) => format!("{} to {}", shown(least), shown(most)),
        _ => String::new(),
    }
}

/// The page's section; nothing without noise.
pub(super) fn section(page: &mut String, findings: &Findings<'_>) {
    let rows = rows(findings);
    if rows.is_empty() {
        return;
    }
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        page,
        "<section>\n<h2>Privacy</h2>\n<p class=\"note\">{NOTE}</p>\n<div class=\"wide\"><table><thead><tr><th>Setting</th><th>Rule</th>"
    );
    HEADER.iter().for_each(|title| page.push_str(&format!("<th class=\"number\">{title}</th>")));
    page.push_str("</tr></thead><tbody>\n");
    for [setting, rule, figures @ ..] in rows {
        let _ = write!(page, "<tr><td>{}</td><td>{}</td>", escape(&setting), escape(&rule));
        figures.iter().for_each(|figure| page.push_str(&format!("<td class=\"number\">{figure}</td>")));
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n</section>\n");
}

/// The section as Markdown.
pub(super) fn markdown(text: &mut String, findings: &Findings<'_>) {
    let rows = rows(findings);
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n## Privacy\n\n{NOTE}\n");
    let header: Vec<String> = ["setting", "rule"].iter().chain(&HEADER).map(|title| title.to_lowercase()).collect();
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|row| row.map(|cell| tables::cell_text(&cell)).to_vec()).collect();
    tables::table(text, &header, &rows);
}

/// The section as LaTeX.
pub(super) fn latex(text: &mut String, findings: &Findings<'_>) {
    let rows = rows(findings);
    if rows.is_empty() {
        return;
    }
    let name = tables::escape(&findings.outcome.study.name);
    let note = NOTE.replace('ε', "$\\varepsilon$");
    let _ = writeln!(
        text,
        "\\begin{{table}}\n\\caption{{{name}. {note}}}\n\\begin{{tabular}}{{llrrrr}}\n\\toprule\nsetting & rule & $\\varepsilon$ & $\\delta$ & without attack & under the worst attack \\\\\n\\midrule"
    );
    for row in rows {
        let _ = writeln!(text, "{} \\\\", row.map(|cell| tables::escape(&cell).replace('–', "--")).join(" & "));
    }
    text.push_str("\\bottomrule\n\\end{tabular}\n\\end{table}\n");
}
