//! The page: summary, results, curves, verdicts, settings, command.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::chart::{PALETTE, accuracy_curves};
use super::heat_map;
use super::{Outcome, Report, RunReport};

const STYLE: &str = include_str!("style.css");

/// Rows of the table of reasons.
const MOST_REASONS: usize = 20;

/// The whole document. Loads nothing: its policy forbids even trying.
pub(super) fn page(report: &Report) -> String {
    let title = escape(&report.title);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<h1>{title}</h1>\n"
    );
    summary(&mut page, report);
    results(&mut page, report);
    curves(&mut page, report);
    verdicts(&mut page, report);
    settings(&mut page, report);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// Makes text safe between tags and inside quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

fn percent(share: Option<f64>) -> String {
    match share {
        Some(share) if share.is_finite() => format!("{:.1} %", share * 100.0),
        Some(_) => "destroyed".to_owned(),
        None => "–".to_owned(),
    }
}

fn summary(page: &mut String, report: &Report) {
    if !report.summary.is_empty() {
        page.push_str("<section class=\"summary\">\n");
        for paragraph in &report.summary {
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(page, "<p>{}</p>", escape(paragraph));
        }
        page.push_str("</section>\n");
    }
    if report.runs.is_empty() {
        return;
    }
    page.push_str("<section class=\"cards\">\n");
    for (index, run) in report.runs.iter().enumerate() {
        let _ = writeln!(
            page,
            "<div class=\"card s{}\"><span class=\"name\">{}</span><span class=\"figure\">{}</span>\
             <span class=\"rule\">{}</span></div>",
            index % PALETTE,
            escape(&run.name),
            percent(run.final_accuracy()),
            escape(&run.rule)
        );
    }
    page.push_str("</section>\n");
}

fn results(page: &mut String, report: &Report) {
    if report.runs.is_empty() {
        return;
    }
    page.push_str(
        "<section>\n<h2>Results</h2>\n<div class=\"wide\"><table>\n<thead><tr><th>Run</th><th>Rule</th>\
         <th class=\"number\">Test accuracy</th><th class=\"number\">Verdicts right</th>\
         <th class=\"number\">Verdicts wrong</th><th class=\"number\">Poisoned updates held back</th>\
         <th class=\"number\">Honest updates rejected</th></tr></thead>\n<tbody>\n",
    );
    for (index, run) in report.runs.iter().enumerate() {
        let tally = run.tally();
        let of = |part: usize, whole: usize| if whole == 0 { "–".to_owned() } else { format!("{part} of {whole}") };
        let _ = writeln!(
            page,
            "<tr><td><span class=\"swatch s{}\"></span>{}</td><td><code>{}</code></td><td class=\"number\"><b>{}</b></td>\
             <td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td>\
             <td class=\"number\">{}</td></tr>",
            index % PALETTE,
            escape(&run.name),
            escape(&run.rule),
            percent(run.final_accuracy()),
            tally.right(),
            tally.wrong(),
            of(tally.poisoned_held_back, tally.poisoned),
            of(tally.honest_rejected, tally.honest)
        );
    }
    page.push_str(
        "</tbody>\n</table></div>\n<p class=\"note\">A verdict is right when a poisoned update was not accepted as it is, \
         or an honest one was not rejected. Accuracy is measured on examples that no client trained on.</p>\n</section>\n",
    );
}

fn curves(page: &mut String, report: &Report) {
    let Some(svg) = accuracy_curves(&report.runs) else { return };
    page.push_str("<section>\n<h2>Accuracy over the rounds</h2>\n<p class=\"legend\">");
    for (index, run) in report.runs.iter().enumerate() {
        let marker = ["●", "▲", "✕"][index % 3];
        let _ = write!(
            page,
            "<span><span class=\"marker s{}\">{marker}</span>{} <small>{}</small></span>",
            index % PALETTE,
            escape(&run.name),
            escape(&run.rule)
        );
    }
    let _ = writeln!(page, "</p>\n<div class=\"chart\">{svg}</div>\n</section>");
}

fn verdicts(page: &mut String, report: &Report) {
    let grids: Vec<(usize, String)> = report
        .runs
        .iter()
        .enumerate()
        .map(|(index, run)| (index, heat_map::verdicts(run)))
        .filter(|(_, grid)| !grid.is_empty())
        .collect();
    if grids.is_empty() {
        return;
    }
    page.push_str("<section>\n<h2>Verdicts, round by round</h2>\n<p class=\"legend\">");
    for outcome in Outcome::ALL {
        let _ = write!(page, "<span><span class=\"key {0}\"></span>{0}</span>", outcome.name());
    }
    page.push_str(
        "<span><span class=\"key frame\"></span>wrong verdict</span></p>\n<p class=\"note\">One row per client, poisoned \
         clients first and in colour; one column per round. An empty cell: no update. Point at a cell for the reason.</p>\n",
    );
    for (index, grid) in grids {
        let run = &report.runs[index];
        let _ = writeln!(
            page,
            "<h3><span class=\"swatch s{}\"></span>{} <small>{}</small></h3>",
            index % PALETTE,
            escape(&run.name),
            escape(&run.rule)
        );
        if !run.description.is_empty() {
            let _ = writeln!(page, "<p>{}</p>", escape(&run.description));
        }
        let _ = writeln!(page, "<div class=\"wide\">{grid}</div>");
        reasons(page, run);
    }
    page.push_str("</section>\n");
}

/// How often each reason was given, to whom.
fn reasons(page: &mut String, run: &RunReport) {
    let mut counts: BTreeMap<(Outcome, &str), (usize, usize)> = BTreeMap::new();
    for verdict in &run.verdicts {
        let Some(client) = run.clients.get(verdict.client) else { continue };
        if verdict.outcome == Outcome::Accepted {
            continue;
        }
        let (poisoned, honest) = counts.entry((verdict.outcome, &verdict.reason)).or_default();
        *if client.attack.is_some() { poisoned } else { honest } += 1;
    }
    if counts.is_empty() {
        return;
    }
    let mut rows: Vec<_> = counts.into_iter().collect();
    rows.sort_by_key(|(_, (poisoned, honest))| std::cmp::Reverse(poisoned + honest));
    page.push_str(
        "<table class=\"reasons\">\n<thead><tr><th>Verdict</th><th>Reason</th><th class=\"number\">Poisoned updates</th>\
         <th class=\"number\">Honest updates</th></tr></thead>\n<tbody>\n",
    );
    let hidden = rows.len().saturating_sub(MOST_REASONS);
    for ((outcome, reason), (poisoned, honest)) in rows.into_iter().take(MOST_REASONS) {
        let _ = writeln!(
            page,
            "<tr><td><span class=\"key {0}\"></span>{0}</td><td>{1}</td><td class=\"number\">{poisoned}</td>\
             <td class=\"number\">{honest}</td></tr>",
            outcome.name(),
            if reason.is_empty() { "–".to_owned() } else { escape(reason) }
        );
    }
    page.push_str("</tbody>\n</table>\n");
    if hidden > 0 {
        let _ = writeln!(page, "<p class=\"note\">{hidden} rarer reasons not shown.</p>");
    }
}

fn settings(page: &mut String, report: &Report) {
    if !report.settings.is_empty() {
        page.push_str("<section>\n<h2>Settings</h2>\n<table class=\"settings\">\n<tbody>\n");
        for (name, value) in &report.settings {
            let _ = writeln!(page, "<tr><th>{}</th><td>{}</td></tr>", escape(name), escape(value));
        }
        page.push_str("</tbody>\n</table>\n</section>\n");
    }
    if !report.command.is_empty() {
        let _ = writeln!(
            page,
            "<section>\n<h2>Reproduce</h2>\n<p>{}:</p>\n<pre><code>{}</code></pre>\n</section>",
            match report.is_repeatable {
                true => "This command gives the same numbers again",
                false =>
                    "This command gives numbers a little different each time, as keys, groups or noise are drawn at random",
            },
            escape(&report.command)
        );
    }
}
