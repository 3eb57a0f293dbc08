//! A study's findings: for a board in plain words and pictures, for a paper in tables, for programs in JSON.

mod curves;
mod detector;
mod matrix;
mod noise;
mod page;
mod summary;
mod tables;

use serde_json::{Value, json};

use crate::scenario::Scenario;
use crate::study::results::{Cell, Outcome};
use crate::study::statistics::Interval;

/// A finished study, arranged by rule, attack and whatever else was swept.
#[derive(Debug)]
pub struct Findings<'a> {
    outcome: &'a Outcome,
    cells: Vec<Cell>,
    /// The cell's first run, and how many seeds follow.
    first: Vec<usize>,
    rule: Option<usize>,
    attack: Option<usize>,
    /// The other axes that have more than one value.
    facets: Vec<usize>,
}

/// One rule under one facet.
#[derive(Debug)]
struct Line<'a> {
    rule: String,
    facet: Vec<usize>,
    clean: Option<&'a Cell>,
    /// Under attack, in the order of the attacks.
    attacked: Vec<&'a Cell>,
}

impl<'a> Findings<'a> {
    /// Arranges the cells.
    pub fn new(outcome: &'a Outcome) -> Self {
        let study = &outcome.study;
        let cells = outcome.cells();
        let mut first = Vec::with_capacity(cells.len());
        let mut run = 0;
        for cell in &cells {
            first.push(run);
            run += cell.seeds.len();
        }
        let several = |axis: &usize| study.axes[*axis].labels.len() > 1;
        let rule = study.axis("rule").or_else(|| study.axes.iter().position(|axis| axis.key.starts_with("rule")));
        let attack = study.axis(&study.worst_over);
        let facets =
            (0..study.axes.len()).filter(|axis| Some(*axis) != rule && Some(*axis) != attack).filter(several).collect();
        Self { outcome, cells, first, rule, attack, facets }
    }

    /// The page: self-contained, loads nothing.
    pub fn html(&self) -> String {
        page::page(self)
    }

    /// The tables as Markdown.
    pub fn markdown(&self) -> String {
        tables::markdown(self)
    }

    /// The tables as LaTeX.
    pub fn latex(&self) -> String {
        tables::latex(self)
    }

    /// Every cell for programs.
    pub fn cells(&self) -> Value {
        let study = &self.outcome.study;
        let cell = |cell: &Cell| {
            let labels: Vec<&str> =
                study.axes.iter().zip(&cell.place).map(|(axis, &at)| axis.labels[at].as_str()).collect();
            let seeds: Vec<Value> =
                cell.seeds.iter().map(|(seed, one)| json!({ "seed": seed, "accuracy": one.last })).collect();
            json!({
                "labels": labels, "last": cell.last, "mean_of_last": cell.mean_of_last, "backdoor": cell.backdoor,
                "seeds": seeds,
            })
        };
        let axes: Vec<&str> = study.axes.iter().map(|axis| axis.key.as_str()).collect();
        json!({ "axes": axes, "cells": self.cells.iter().map(cell).collect::<Vec<_>>() })
    }

    fn label(&self, axis: usize, place: usize) -> &str {
        &self.outcome.study.axes[axis].labels[place]
    }

    /// What a cell's runs are, but for their seeds.
    fn scenario_of(&self, cell: &Cell) -> &Scenario {
        let at = self.cells.iter().position(|other| other.place == cell.place).unwrap_or(0);
        &self.outcome.study.runs[self.first[at]].scenario
    }

    /// Whether nobody attacks in a cell.
    fn is_clean(&self, cell: usize) -> bool {
        self.outcome.study.runs[self.first[cell]].scenario.plan.adversary.is_absent()
    }

    fn rule_of(&self, cell: &Cell) -> String {
        match self.rule {
            Some(axis) => self.label(axis, cell.place[axis]).to_owned(),
            None => self.outcome.study.runs[0].scenario.task.rule_config.to_string(),
        }
    }

    fn attack_of(&self, cell: &Cell) -> String {
        match self.attack {
            Some(axis) => self.label(axis, cell.place[axis]).to_owned(),
            None => self.outcome.study.runs[0].scenario.plan.adversary.attack.to_string(),
        }
    }

    fn facet_of(&self, cell: &Cell) -> Vec<usize> {
        self.facets.iter().map(|&axis| cell.place[axis]).collect()
    }

    /// For people; empty without facets.
    fn facet_name(&self, facet: &[usize]) -> String {
        let part = |(&axis, &place): (&usize, &usize)| {
            let key = self.outcome.study.axes[axis].key.rsplit('.').next().unwrap_or_default().to_owned();
            format!("{key} {}", self.label(axis, place))
        };
        self.facets.iter().zip(facet).map(part).collect::<Vec<_>>().join(", ")
    }

    /// Every rule under every facet, in the order of the cells.
    fn lines(&self) -> Vec<Line<'_>> {
        let mut lines: Vec<Line<'_>> = Vec::new();
        for (index, cell) in self.cells.iter().enumerate() {
            let (rule, facet) = (self.rule_of(cell), self.facet_of(cell));
            let at = lines.iter().position(|line| line.rule == rule && line.facet == facet).unwrap_or_else(|| {
                lines.push(Line { rule, facet, clean: None, attacked: Vec::new() });
                lines.len() - 1
            });
            if self.is_clean(index) {
                lines[at].clean = Some(cell);
            } else {
                lines[at].attacked.push(cell);
            }
        }
        lines
    }

    fn facet_list(&self) -> Vec<Vec<usize>> {
        let mut facets: Vec<Vec<usize>> = Vec::new();
        for cell in &self.cells {
            let facet = self.facet_of(cell);
            if !facets.contains(&facet) {
                facets.push(facet);
            }
        }
        facets
    }

    fn rounds(&self) -> u64 {
        self.outcome.study.runs.iter().map(|run| run.scenario.plan.rounds).max().unwrap_or(0)
    }
}

impl<'a> Line<'a> {
    /// The attack that leaves the least.
    fn worst(&self) -> Option<&'a Cell> {
        self.attacked.iter().copied().min_by(|one, other| one.last.mean.total_cmp(&other.last.mean))
    }

    /// Final accuracy under the worst attack, or without any if none was tried.
    fn worst_case(&self) -> Option<Interval> {
        self.worst().or(self.clean).map(|cell| cell.last)
    }
}

/// Percent with one digit.
fn percent(share: f64) -> String {
    format!("{:.1}", share * 100.0)
}
