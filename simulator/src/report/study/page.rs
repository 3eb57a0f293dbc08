//! The page of a study: summary, worst cases, maps, curves, backdoors, verdicts, warnings, command.

use std::fmt::Write as _;

use super::super::html::escape;
use super::{Findings, Line, detector, noise, percent, tables};

const STYLE: &str = include_str!("../style.css");
const OWN_STYLE: &str = include_str!("study.css");

/// Facets whose maps and curves are shown; tables hold all.
const MOST_FACETS: usize = 6;

pub(super) fn page(findings: &Findings<'_>) -> String {
    let study = &findings.outcome.study;
    let title = escape(&study.name);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{STYLE}{OWN_STYLE}</style>\n</head>\n\
         <body>\n<main class=\"study\">\n<h1>{title}</h1>\n<section class=\"summary\">\n"
    );
    for paragraph in findings.summary() {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(page, "<p>{}</p>", escape(&paragraph));
    }
    page.push_str("</section>\n");
    worst(&mut page, findings);
    noise::section(&mut page, findings);
    maps(&mut page, findings);
    curves(&mut page, findings);
    backdoors(&mut page, findings);
    verdicts(&mut page, findings);
    detector::section(&mut page, findings);
    warnings(&mut page, findings);
    reproduce(&mut page, findings);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn worst(page: &mut String, findings: &Findings<'_>) {
    page.push_str("<section>\n<h2>Worst case per rule</h2>\n<p class=\"note\">Test accuracy in percent after the last round: mean over the seeds [95 % interval]. The bar shows what is left under the worst attack; the mark is the same rule without attack.</p>\n");
    let mut lines = findings.lines();
    lines.sort_by(|one, other| {
        let of = |line: &Line<'_>| line.worst_case().map_or(0.0, |interval| interval.mean);
        one.facet.cmp(&other.facet).then(of(other).total_cmp(&of(one)))
    });
    let named = !findings.facets.is_empty();
    page.push_str("<div class=\"wide\"><table class=\"worst\"><thead><tr><th>Rule</th>");
    if named {
        page.push_str("<th>Setting</th>");
    }
    page.push_str("<th class=\"number\">No attack</th><th>Worst attack</th><th class=\"number\">Under it</th><th>What is left</th><th class=\"number\">Worst seed</th></tr></thead><tbody>\n");
    for line in &lines {
        let _ = write!(page, "<tr><td>{}</td>", escape(&line.rule));
        if named {
            let _ = write!(page, "<td>{}</td>", escape(&findings.facet_name(&line.facet)));
        }
        let clean = line.clean.map_or_else(|| "–".to_owned(), |cell| percent(cell.last.mean));
        let worst = line.worst();
        let (attack, value, seed) = worst.map_or_else(
            || ("–".to_owned(), "–".to_owned(), "–".to_owned()),
            |cell| {
                let interval = cell.last;
                let value = format!(
                    "<b>{}</b> <small>[{}, {}]</small>",
                    percent(interval.mean),
                    percent(interval.low),
                    percent(interval.high)
                );
                (escape(&findings.attack_of(cell)), value, percent(interval.worst))
            },
        );
        let left = line.worst_case().map_or(0.0, |interval| interval.mean);
        let mark = line.clean.map(|cell| {
            format!("<line class=\"mark\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"0\" y2=\"14\"/>", cell.last.mean * 160.0)
        });
        let _ = writeln!(
            page,
            "<td class=\"number\">{clean}</td><td>{attack}</td><td class=\"number\">{value}</td><td><svg class=\"bar\" viewBox=\"0 0 160 14\" width=\"160\" height=\"14\" role=\"img\" aria-label=\"{}\"><rect class=\"rail\" width=\"160\" height=\"10\" y=\"2\"/><rect class=\"left\" width=\"{:.1}\" height=\"10\" y=\"2\"/>{}</svg></td><td class=\"number\">{seed}</td></tr>",
            percent(left),
            left * 160.0,
            mark.unwrap_or_default()
        );
    }
    page.push_str("</tbody></table></div>\n</section>\n");
}

fn maps(page: &mut String, findings: &Findings<'_>) {
    let facets = findings.facet_list();
    let mut html = String::new();
    for facet in facets.iter().take(MOST_FACETS) {
        let Some(matrix) = findings.by_attack(facet, |cell| Some(cell.last.mean)) else { continue };
        heading(&mut html, &findings.facet_name(facet));
        html.push_str(&matrix.html());
    }
    if !html.is_empty() {
        let _ = write!(
            page,
            "<section>\n<h2>Rule by attack</h2>\n<p class=\"note\">Final test accuracy in percent, mean over the seeds. Point at a cell for its interval.</p>\n{html}"
        );
        more(page, facets.len());
        page.push_str("</section>\n");
    }
    if let Some(matrix) = findings.worst_by_facet() {
        let _ = write!(page, "<section>\n<h2>Worst case by setting</h2>\n{}</section>\n", matrix.html());
    }
    for (rows, columns, title) in [
        ("rule.byzantine", "adversary.colluders", "Declared and real number of attackers"),
        ("adversary.colluders", "data.heterogeneity", "Number of attackers and heterogeneity"),
    ] {
        if let Some(matrix) = findings.by_keys(rows, columns) {
            let _ = write!(
                page,
                "<section>\n<h2>{title}</h2>\n<p class=\"note\">The least of everything else that was swept. Rows: {rows}; columns: {columns}.</p>\n{}</section>\n",
                matrix.html()
            );
        }
    }
}

fn curves(page: &mut String, findings: &Findings<'_>) {
    let facets = findings.facet_list();
    page.push_str("<section>\n<h2>Accuracy over the rounds</h2>\n<p class=\"legend\"><span><span class=\"key clean\"></span>without attack</span><span><span class=\"key attacked\"></span>under the rule's worst attack</span></p>\n<p class=\"note\">Means over the seeds; the bands are their 95 % intervals.</p>\n");
    for facet in facets.iter().take(MOST_FACETS) {
        let lines: Vec<Line<'_>> = findings.lines().into_iter().filter(|line| line.facet == *facet).collect();
        heading(page, &findings.facet_name(facet));
        page.push_str(&findings.curves(&lines));
    }
    more(page, facets.len());
    page.push_str("</section>\n");
}

fn backdoors(page: &mut String, findings: &Findings<'_>) {
    let mut html = String::new();
    for facet in findings.facet_list().iter().take(MOST_FACETS) {
        let success = |cell: &crate::study::results::Cell| cell.backdoor.map(|interval| interval.mean);
        let Some(matrix) = findings.by_attack(facet, success) else { continue };
        heading(&mut html, &findings.facet_name(facet));
        html.push_str(&matrix.html());
    }
    if !html.is_empty() {
        let _ = write!(
            page,
            "<section>\n<h2>Backdoor success</h2>\n<p class=\"note\">Percent of test examples with the trigger, whose true class is another, that are classified as the attacker wants: mean over the last rounds. Here high is bad.</p>\n<div class=\"inverted\">{html}</div></section>\n"
        );
    }
}

fn verdicts(page: &mut String, findings: &Findings<'_>) {
    let lines = findings.lines();
    if lines.iter().all(|line| line.attacked.is_empty()) {
        return;
    }
    page.push_str("<section>\n<h2>Verdicts</h2>\n<p class=\"note\">Share of updates that were mostly held back: rejected, over half of their coordinates cut, or shortened to less than half. Rules that select many reject honest updates by design; a median, which gives every row a say, holds back nobody by this count.</p>\n<div class=\"wide\"><table><thead><tr><th>Rule</th>");
    let named = !findings.facets.is_empty();
    if named {
        page.push_str("<th>Setting</th>");
    }
    page.push_str("<th class=\"number\">Attackers held back</th><th class=\"number\">Honest held back under attack</th><th class=\"number\">Honest held back without attack</th></tr></thead><tbody>\n");
    for line in &lines {
        let (attackers, honest) = tables::held_back(&line.attacked);
        let (_, clean) = line.clean.map_or((None, None), |cell| tables::held_back(&[cell]));
        let share = |share: Option<f64>| share.map_or_else(|| "–".to_owned(), |share| percent(share) + " %");
        let _ = write!(page, "<tr><td>{}</td>", escape(&line.rule));
        if named {
            let _ = write!(page, "<td>{}</td>", escape(&findings.facet_name(&line.facet)));
        }
        let _ = writeln!(
            page,
            "<td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td></tr>",
            share(attackers),
            share(honest),
            share(clean)
        );
    }
    page.push_str("</tbody></table></div>\n</section>\n");
}

fn warnings(page: &mut String, findings: &Findings<'_>) {
    let warnings = findings.warnings();
    if warnings.is_empty() {
        return;
    }
    page.push_str("<section>\n<h2>Read with care</h2>\n<ul class=\"warnings\">\n");
    for warning in warnings {
        let _ = writeln!(page, "<li>{}</li>", escape(&warning));
    }
    page.push_str("</ul>\n</section>\n");
}

fn reproduce(page: &mut String, findings: &Findings<'_>) {
    let _ = write!(
        page,
        "<section>\n<h2>Reproduce</h2>\n<p>This command on the file below gives the same numbers again, whatever the number of threads:</p>\n<pre><code>testudo simulate study.toml --out DIR</code></pre>\n<details><summary>study.toml</summary><pre><code>{}</code></pre></details>\n</section>\n",
        escape(&findings.outcome.study.text)
    );
}

fn heading(html: &mut String, name: &str) {
    if !name.is_empty() {
        let _ = writeln!(html, "<h3>{}</h3>", escape(name));
    }
}

fn more(page: &mut String, facets: usize) {
    if facets > MOST_FACETS {
        let _ = writeln!(page, "<p class=\"note\">{MOST_FACETS} of {facets} settings shown; tables.md holds all.</p>");
    }
}
