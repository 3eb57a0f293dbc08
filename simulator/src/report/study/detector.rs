//! Whom a detector found, for the page and for notes.

use std::fmt::Write as _;

use super::super::html::escape;
use super::{Findings, percent};
use crate::study::results::Cell;
use crate::world::Standing;

/// Columns after the combination's name.
const HEADER: [&str; 6] = [
    "Attackers found",
    "Median rounds until then",
    "Honest accused",
    "Attackers in quarantine",
    "Honest in quarantine",
    "Seeds",
];

/// A line per combination that was watched: its name, and the columns.
pub(super) fn rows(findings: &Findings<'_>) -> Vec<(String, [String; HEADER.len()])> {
    findings.cells.iter().filter_map(|cell| Some((name(findings, cell), row(cell)?))).collect()
}

fn name(findings: &Findings<'_>, cell: &Cell) -> String {
    let facet = findings.facet_name(&findings.facet_of(cell));
    let parts = [facet, findings.rule_of(cell), findings.attack_of(cell)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

fn row(cell: &Cell) -> Option<[String; HEADER.len()]> {
    let all: Vec<Standing> = cell.seeds.iter().filter_map(|(_, one)| one.standing).collect();
    if all.is_empty() {
        return None;
    }
    let sum = |of: fn(&Standing) -> u64| all.iter().map(of).sum::<u64>();
    let share = |part: u64, whole: u64| {
        if whole == 0 { "–".to_owned() } else { percent(part as f64 / whole as f64) + " %" }
    };
    let (honest, colluders) = (sum(|one| one.honest.clients), sum(|one| one.colluders.clients));
    let delays: Vec<f64> = all.iter().filter_map(|one| one.delay).collect();
    let delay = (!delays.is_empty()).then(|| crate::attack::estimate::median(delays));
    Some([
        share(sum(|one| one.colluders.flagged), colluders),
        delay.map_or_else(|| "–".to_owned(), |delay| format!("{delay:.0}")),
        share(sum(|one| one.honest.flagged), honest),
        share(sum(|one| one.colluders.quarantined), colluders),
        share(sum(|one| one.honest.quarantined), honest),
        all.len().to_string(),
    ])
}

/// The page's section; nothing where nobody watched.
pub(super) fn section(page: &mut String, findings: &Findings<'_>) {
    let rows = rows(findings);
    if rows.is_empty() {
        return;
    }
    page.push_str("<section>\n<h2>Detection</h2>\n<p class=\"note\">Clients that the detector held suspect at some time, all seeds together, and how many rounds of attack that took. It acts on nobody.</p>\n<div class=\"wide\"><table><thead><tr><th>Combination</th>");
    for title in HEADER {
        // Writing to a String cannot fail, here and below.
        let _ = write!(page, "<th class=\"number\">{title}</th>");
    }
    page.push_str("</tr></thead><tbody>\n");
    for (name, row) in rows {
        let _ = write!(page, "<tr><td>{}</td>", escape(&name));
        for value in row {
            let _ = write!(page, "<td class=\"number\">{value}</td>");
        }
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
    text.push_str("\n## Detection\n\nClients held suspect at some time, all seeds together.\n\n");
    let mut header = vec!["combination".to_owned()];
    header.extend(HEADER.map(str::to_owned));
    let cells: Vec<Vec<String>> =
        rows.into_iter().map(|(name, row)| [vec![super::tables::cell_text(&name)], row.to_vec()].concat()).collect();
    super::tables::table(text, &header, &cells);
}
