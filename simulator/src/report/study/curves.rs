//! Accuracy over the rounds, one small chart per rule: without attack and under its worst attack, each with its band.

use std::fmt::Write as _;

use super::super::html::escape;
use super::{Findings, Line};
use crate::study::results::Cell;
use crate::study::statistics::interval;

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 38.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;

/// (round, mean, low, high).
type Curve = Vec<(u64, f64, f64, f64)>;

impl Findings<'_> {
    /// The charts of one facet.
    pub(super) fn curves(&self, lines: &[Line<'_>]) -> String {
        let mut html = String::from("<div class=\"panels\">\n");
        for line in lines {
            let worst = line.worst();
            let attack = worst.map(|cell| self.attack_of(cell)).unwrap_or_default();
            // Writing to a String cannot fail, here and below.
            let _ = write!(html, "<figure class=\"panel\"><figcaption>{}", escape(&line.rule));
            if !attack.is_empty() {
                let _ = write!(html, " <small>worst: {}</small>", escape(&attack));
            }
            html.push_str("</figcaption>");
            let clean = line.clean.map(|cell| self.curve(cell)).unwrap_or_default();
            let attacked = worst.map(|cell| self.curve(cell)).unwrap_or_default();
            html.push_str(&chart(&line.rule, &clean, &attacked));
            html.push_str("</figure>\n");
        }
        html.push_str("</div>\n");
        html
    }

    fn curve(&self, cell: &Cell) -> Curve {
        let index = self.cells.iter().position(|other| other.place == cell.place).unwrap_or(0);
        let runs = &self.outcome.finished[self.first[index]..self.first[index] + cell.seeds.len()];
        let Some(first) = runs.first() else { return Vec::new() };
        let at = |step: usize| {
            let values: Vec<f64> = runs.iter().filter_map(|run| Some(run.measured.get(step)?.accuracy)).collect();
            let interval = interval(&values);
            (first.measured[step].round, interval.mean, interval.low, interval.high)
        };
        (0..first.measured.len()).map(at).collect()
    }
}

fn chart(name: &str, clean: &Curve, attacked: &Curve) -> String {
    let last = clean.iter().chain(attacked).map(|point| point.0).max().unwrap_or(1).max(1);
    let x = |round: u64| LEFT + (WIDTH - LEFT - RIGHT) * round as f64 / last as f64;
    let y = |share: f64| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - share.clamp(0.0, 1.0));
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Accuracy over the rounds, {}\">",
        escape(name)
    );
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{1:.1}\" y2=\"{1:.1}\"/><text x=\"{2:.1}\" y=\"{3:.1}\" text-anchor=\"end\">{4:.0}%</text>",
            WIDTH - RIGHT,
            y(tick),
            LEFT - 5.0,
            y(tick) + 3.5,
            tick * 100.0
        );
    }
    for (round, anchor) in [(0, "start"), (last / 2, "middle"), (last, "end")] {
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{round}</text>",
            x(round),
            HEIGHT - 8.0
        );
    }
    for (class, curve) in [("clean", clean), ("attacked", attacked)] {
        if curve.is_empty() {
            continue;
        }
        let upper = curve.iter().map(|&(round, _, _, high)| format!("{:.1},{:.1}", x(round), y(high)));
        let lower = curve.iter().rev().map(|&(round, _, low, _)| format!("{:.1},{:.1}", x(round), y(low)));
        let band: Vec<String> = upper.chain(lower).collect();
        let line: Vec<String> =
            curve.iter().map(|&(round, mean, ..)| format!("{:.1},{:.1}", x(round), y(mean))).collect();
        let _ = write!(
            svg,
            "<polygon class=\"band {class}\" points=\"{}\"/><polyline class=\"curve {class}\" points=\"{}\"/>",
            band.join(" "),
            line.join(" ")
        );
    }
    svg.push_str("</svg>");
    svg
}
