//! Heat maps: numbers in coloured cells, so that neither colour alone nor numbers alone must be read.

use std::fmt::Write as _;

use super::super::html::escape;
use super::{Findings, percent};
use crate::study::results::Cell;
use crate::words::counted;

/// From destroyed to unharmed; light in the middle, so that both ends stand out without telling red from green.
const STOPS: [(f64, [f64; 3]); 5] = [
    (0.0, [110.0, 20.0, 60.0]),
    (0.4, [214.0, 96.0, 77.0]),
    (0.7, [247.0, 222.0, 180.0]),
    (0.88, [146.0, 197.0, 222.0]),
    (1.0, [33.0, 102.0, 172.0]),
];

/// A map of shares in 0..=1.
#[derive(Debug)]
pub(super) struct Matrix {
    /// What a row is.
    pub(super) rows_are: String,
    /// Names of the rows.
    pub(super) rows: Vec<String>,
    /// Names of the columns.
    pub(super) columns: Vec<String>,
    /// Share and a longer text for each place; `None`: not run.
    pub(super) values: Vec<Vec<Option<(f64, String)>>>,
}

impl Matrix {
    /// An HTML table.
    pub(super) fn html(&self) -> String {
        let mut html =
            format!("<div class=\"wide\"><table class=\"heat\"><thead><tr><th>{}</th>", escape(&self.rows_are));
        for column in &self.columns {
            let _ = write!(html, "<th class=\"slanted\"><span>{}</span></th>", escape(column));
        }
        html.push_str("</tr></thead><tbody>\n");
        for (row, values) in self.rows.iter().zip(&self.values) {
            let _ = write!(html, "<tr><th>{}</th>", escape(row));
            for value in values {
                match value {
                    None => html.push_str("<td class=\"none\">–</td>"),
                    Some((share, text)) => {
                        let [red, green, blue] = colour(*share);
                        let dark = 0.299 * red + 0.587 * green + 0.114 * blue < 140.0;
                        let _ = write!(
                            html,
                            "<td style=\"background:rgb({red:.0},{green:.0},{blue:.0});color:{}\" title=\"{}\">{}</td>",
                            if dark { "#fff" } else { "#111" },
                            escape(text),
                            percent(*share)
                        );
                    }
                }
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody></table></div>\n");
        html
    }

    fn is_worth_showing(&self) -> bool {
        self.rows.len() > 1 || self.columns.len() > 1
    }
}

fn colour(share: f64) -> [f64; 3] {
    let share = share.clamp(0.0, 1.0);
    for pair in STOPS.windows(2) {
        let ((from, low), (to, high)) = (pair[0], pair[1]);
        if share <= to {
            let part = (share - from) / (to - from);
            return std::array::from_fn(|channel| low[channel] + part * (high[channel] - low[channel]));
        }
    }
    STOPS[STOPS.len() - 1].1
}

impl Findings<'_> {
    /// Rule × attack of one facet, by a value of the cell.
    pub(super) fn by_attack(&self, facet: &[usize], value: impl Fn(&Cell) -> Option<f64>) -> Option<Matrix> {
        let attack = self.attack?;
        let mut rows: Vec<String> = Vec::new();
        let columns = self.outcome.study.axes[attack].labels.clone();
        let mut values: Vec<Vec<Option<(f64, String)>>> = Vec::new();
        for cell in self.cells.iter().filter(|cell| self.facet_of(cell) == facet) {
            let rule = self.rule_of(cell);
            let row = rows.iter().position(|row| *row == rule).unwrap_or_else(|| {
                rows.push(rule);
                values.push(vec![None; columns.len()]);
                rows.len() - 1
            });
            values[row][cell.place[attack]] = value(cell).map(|share| (share, self.told(cell)));
        }
        let matrix = Matrix { rows_are: "rule".to_owned(), rows, columns, values };
        (matrix.is_worth_showing() && matrix.values.iter().flatten().any(Option::is_some)).then_some(matrix)
    }

    /// Worst case over everything else, by two keys.
    pub(super) fn by_keys(&self, row_key: &str, column_key: &str) -> Option<Matrix> {
        let study = &self.outcome.study;
        let (row, column) = (study.axis(row_key)?, study.axis(column_key)?);
        let (rows, columns) = (study.axes[row].labels.clone(), study.axes[column].labels.clone());
        let mut values = vec![vec![None; columns.len()]; rows.len()];
        for cell in &self.cells {
            let at: &mut Option<(f64, String)> = &mut values[cell.place[row]][cell.place[column]];
            if at.as_ref().is_none_or(|(share, _)| cell.last.mean < *share) {
                *at = Some((cell.last.mean, self.told(cell)));
            }
        }
        let matrix = Matrix { rows_are: row_key.to_owned(), rows, columns, values };
        matrix.is_worth_showing().then_some(matrix)
    }

    /// Worst case per rule and facet.
    pub(super) fn worst_by_facet(&self) -> Option<Matrix> {
        let facets = self.facet_list();
        if facets.len() < 2 {
            return None;
        }
        let lines = self.lines();
        let mut rows: Vec<String> = Vec::new();
        for line in &lines {
            if !rows.contains(&line.rule) {
                rows.push(line.rule.clone());
            }
        }
        let columns = facets.iter().map(|facet| self.facet_name(facet)).collect();
        let place = |rule: &String, facet: &Vec<usize>| {
            let line = lines.iter().find(|line| line.rule == *rule && line.facet == *facet)?;
            let cell = line.worst().or(line.clean)?;
            Some((cell.last.mean, self.told(cell)))
        };
        let values = rows.iter().map(|rule| facets.iter().map(|facet| place(rule, facet)).collect()).collect();
        Some(Matrix { rows_are: "rule".to_owned(), rows, columns, values })
    }

    /// One cell in a sentence.
    fn told(&self, cell: &Cell) -> String {
        format!(
            "{} under {}: {} % [{}, {}], worst seed {}, {}",
            self.rule_of(cell),
            self.attack_of(cell),
            percent(cell.last.mean),
            percent(cell.last.low),
            percent(cell.last.high),
            percent(cell.last.worst),
            counted(cell.last.count, "seed")
        )
    }
}
