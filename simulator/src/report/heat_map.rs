//! Verdicts as a grid: a row per client, a column per round.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::html::escape;
use super::{Outcome, RunReport, VerdictReport, is_wrong};
use crate::words::counted;

/// Beyond these the grid would say nothing to a reader and the page would grow without bound.
const MOST_CLIENTS: usize = 100;
const MOST_ROUNDS: usize = 300;
const LABEL_WIDTH: usize = 190;
const GRID_WIDTH: usize = 700;
const ROW_HEIGHT: usize = 18;
const HEADER_HEIGHT: usize = 22;

/// The grid of one run, poisoned clients first; a sentence if everything was accepted from honest clients; empty if
/// there are no verdicts.
pub(super) fn verdicts(run: &RunReport) -> String {
    let uneventful = |verdict: &VerdictReport| {
        verdict.outcome == Outcome::Accepted
            && run.clients.get(verdict.client).is_some_and(|client| client.attack.is_none())
    };
    if !run.verdicts.is_empty() && run.verdicts.iter().all(uneventful) {
        return format!(
            "<p>{} accepted, none rejected; no client was poisoned.</p>",
            counted(run.verdicts.len(), "update")
        );
    }
    let clients = shown_clients(run);
    let rounds = shown_rounds(run);
    if clients.is_empty() || rounds.is_empty() {
        return String::new();
    }
    let column = (GRID_WIDTH / rounds.len()).clamp(2, 26);
    let gap = if column > 6 { 2 } else { 0 };
    let (width, height) = (LABEL_WIDTH + column * rounds.len() + 4, HEADER_HEIGHT + ROW_HEIGHT * clients.len() + 4);
    let mut svg = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        svg,
        "<svg class=\"verdicts\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" \
         aria-label=\"Verdict for each client and round of run {}\">",
        escape(&run.name)
    );
    let every = rounds.len().div_ceil((column * rounds.len() / 44).max(1));
    for (position, round) in rounds.iter().enumerate().step_by(every) {
        let x = LABEL_WIDTH + position * column + (column - gap) / 2;
        let _ = write!(svg, "<text x=\"{x}\" y=\"14\" text-anchor=\"middle\">{round}</text>");
    }
    let position: BTreeMap<u64, usize> =
        rounds.iter().enumerate().map(|(position, round)| (*round, position)).collect();
    let mut cells: BTreeMap<usize, BTreeMap<usize, &VerdictReport>> = BTreeMap::new();
    for verdict in &run.verdicts {
        if let Some(position) = position.get(&verdict.round) {
            cells.entry(verdict.client).or_default().insert(*position, verdict);
        }
    }
    for (row, &client) in clients.iter().enumerate() {
        let y = HEADER_HEIGHT + row * ROW_HEIGHT;
        let report = &run.clients[client];
        let (class, label, full) = match &report.attack {
            Some(attack) => {
                let kind = attack.split_once(':').map_or(attack.as_str(), |(kind, _)| kind);
                (" class=\"poisoned\"", format!("{} · {kind}", report.name), format!("{} · {attack}", report.name))
            }
            None => ("", report.name.clone(), report.name.clone()),
        };
        let _ = write!(
            svg,
            "<text{class} x=\"{}\" y=\"{}\" text-anchor=\"end\">{}<title>{}</title></text>",
            LABEL_WIDTH - 8,
            y + 13,
            escape(&shortened(&label)),
            escape(&full)
        );
        for (position, verdict) in cells.get(&client).into_iter().flatten() {
            let wrong = if is_wrong(report, verdict.outcome) { " wrong" } else { "" };
            let reason = if verdict.reason.is_empty() { String::new() } else { format!(" ({})", verdict.reason) };
            let _ = write!(
                svg,
                "<rect class=\"{}{wrong}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>{}, round {}: {}{}</title></rect>",
                verdict.outcome.name(),
                LABEL_WIDTH + position * column,
                y + 1,
                column - gap,
                ROW_HEIGHT - 2,
                escape(&report.name),
                verdict.round,
                verdict.outcome.name(),
                escape(&reason)
            );
        }
    }
    svg.push_str("</svg>");
    if clients.len() < run.clients.len() {
        let _ = write!(
            svg,
            "<p class=\"note\">{} of {} clients shown, poisoned ones first.</p>",
            clients.len(),
            run.clients.len()
        );
    }
    let all = all_rounds(run).len();
    if rounds.len() < all {
        let _ = write!(svg, "<p class=\"note\">The last {} of {all} rounds shown.</p>", rounds.len());
    }
    svg
}

fn shown_clients(run: &RunReport) -> Vec<usize> {
    let mut clients: Vec<usize> = (0..run.clients.len()).collect();
    clients.sort_by_key(|&client| run.clients[client].attack.is_none());
    clients.truncate(MOST_CLIENTS);
    clients
}

fn all_rounds(run: &RunReport) -> BTreeSet<u64> {
    run.verdicts.iter().filter(|verdict| verdict.client < run.clients.len()).map(|verdict| verdict.round).collect()
}

fn shown_rounds(run: &RunReport) -> Vec<u64> {
    let all = all_rounds(run);
    let hidden = all.len().saturating_sub(MOST_ROUNDS);
    all.into_iter().skip(hidden).collect()
}

fn shortened(label: &str) -> String {
    const LONGEST: usize = 26;
    if label.chars().count() <= LONGEST {
        return label.to_owned();
    }
    let start: String = label.chars().take(LONGEST - 1).collect();
    format!("{start}…")
}
