//! What a study found in plain words, and what has to be said with it.

use super::{Findings, Line, percent};
use crate::attack::Knowledge;
use crate::scenario::{ColluderData, Realism, Scenario, Source};
use crate::words::counted;
use testudo_engine::Fewer;

impl Findings<'_> {
    /// The conclusion first.
    pub(super) fn summary(&self) -> Vec<String> {
        let study = &self.outcome.study;
        let mut text = Vec::new();
        for facet in self.facet_list() {
            let lines: Vec<Line<'_>> = self.lines().into_iter().filter(|line| line.facet == facet).collect();
            let within = if facet.is_empty() { String::new() } else { format!(" ({})", self.facet_name(&facet)) };
            text.extend(best_and_worst(self, &lines, &within));
        }
        let attacks = self.attack.map_or(1, |axis| study.axes[axis].labels.len());
        let rules = self.rule.map_or(1, |axis| study.axes[axis].labels.len());
        text.push(format!(
            "{} done: {}, {}, {}, up to {} each. Accuracy is measured on examples that no client trained on; an interval says where the mean over the seeds lies with 95 % confidence.",
            counted(study.runs.len(), "training"),
            counted(rules, "rule"),
            counted(attacks, "attack setting"),
            counted(study.seeds().len(), "seed"),
            counted(self.rounds() as usize, "round")
        ));
        text
    }

    /// What a reader must know before believing the numbers.
    pub(super) fn warnings(&self) -> Vec<String> {
        let study = &self.outcome.study;
        let mut warnings = Vec::new();
        let seeds = study.seeds().len();
        if seeds < 5 {
            warnings.push(format!("Only {seeds} of at least 5 seeds: intervals mean little."));
        }
        let attacked = || study.runs.iter().map(|run| &run.scenario.plan).filter(|plan| !plan.adversary.is_absent());
        if attacked().any(|plan| plan.adversary.realism == Realism::Identical) {
            warnings.push("Attackers send identical updates: looking for duplicates would find them at once, so detection looks better here than against a careful attacker.".to_owned());
        }
        if attacked().any(|plan| plan.adversary.realism != Realism::SupportMatched) {
            warnings.push("Forged updates need not have the zeros that honest ones have: their zero pattern alone would give many of them away. The realism support_matched removes that.".to_owned());
        }
        if attacked().any(|plan| plan.adversary.data == ColluderData::None) {
            warnings.push("Attackers hold no data of their own: all training data are with honest clients.".to_owned());
        }
        if attacked().any(|plan| plan.adversary.attack.attack().knowledge() == Knowledge::Omniscient) {
            warnings.push("Some attacks see every honest update and the deployed rule: an upper bound on what real attackers can do.".to_owned());
        }
        let mut told = attacked().filter(|plan| declared(plan) > 0).peekable();
        if told.peek().is_some() && !told.any(|plan| plan.adversary.colluders > declared(plan)) {
            warnings.push("No run has more attackers than the rule was told to expect: where each rule breaks was not looked for.".to_owned());
        }
        if let (Some(epsilon), Some(delta)) = (range_of(self, Scenario::epsilon), range_of(self, Scenario::delta)) {
            warnings.push(format!("Noise is drawn from the study's seeds, so it protects nobody here. The same tasks on a server would promise epsilon = {epsilon} over their rounds at delta = {delta}; the table of settings has both."));
        }
        if let Some(epsilon) = range_of(self, Scenario::unamplified_epsilon) {
            warnings.push(format!("Where clients are sampled in secret, the same tasks without amplification would promise epsilon = {epsilon}."));
        }
        if study.runs.iter().any(|run| run.scenario.task.cohort.fewer == Fewer::LowerByzantine) {
            warnings.push("Where fewer updates arrive than a rule needs for its byzantine clients, rounds go on with a lower number (fewer = \"lower_byzantine\"): a rule's name says what was declared, not what it was lowered to.".to_owned());
        }
        if study.runs.iter().any(|run| run.scenario.plan.data.source == Source::Digits) {
            let text = "Small data and a small model: the order of the rules carries over to larger ones, absolute accuracies do not.";
            warnings.push(text.to_owned());
        }
        if !study.skipped.is_empty() {
            warnings.push(format!(
                "{} skipped as impossible; the manifest lists them.",
                counted(study.skipped.len(), "combination")
            ));
        }
        let abandoned: u64 = self.cells.iter().flat_map(|cell| &cell.seeds).map(|(_, one)| one.abandoned).sum();
        if abandoned > 0 {
            warnings.push(format!("{} abandoned: the model stayed as it was.", counted(abandoned as usize, "round")));
        }
        warnings
    }
}

/// The least and the largest of a figure that some runs have, in words.
fn range_of(findings: &Findings<'_>, figure: fn(&Scenario) -> Option<f64>) -> Option<String> {
    let runs = &findings.outcome.study.runs;
    let mut values: Vec<f64> = runs.iter().filter_map(|run| figure(&run.scenario)).collect();
    values.sort_by(f64::total_cmp);
    let (least, most) = (values.first()?, values.last()?);
    Some(if least == most { format!("{most:.3e}") } else { format!("{least:.3e} to {most:.3e}") })
}

/// f as the rule declares it.
fn declared(plan: &crate::scenario::Plan) -> usize {
    plan.rule.get("byzantine").and_then(toml::Value::as_integer).and_then(|f| usize::try_from(f).ok()).unwrap_or(0)
}

fn best_and_worst(findings: &Findings<'_>, lines: &[Line<'_>], within: &str) -> Vec<String> {
    let mut text = Vec::new();
    let mut ranked: Vec<&Line<'_>> = lines.iter().filter(|line| line.worst().is_some()).collect();
    ranked.sort_by(|one, other| {
        let of = |line: &Line<'_>| line.worst_case().map_or(0.0, |interval| interval.mean);
        of(other).total_cmp(&of(one))
    });
    let (Some(best), Some(last)) = (ranked.first(), ranked.last()) else { return text };
    let describe = |line: &Line<'_>| {
        let worst = line.worst()?;
        let cost = line.clean.map(|clean| 100.0 * (clean.last.mean - worst.last.mean));
        let lost = match cost {
            Some(points) if points.abs() < 0.05 => ", as much as without any attack".to_owned(),
            Some(points) if points > 0.0 => format!(", {points:.1} points below the same rule without attack"),
            Some(points) => format!(", {:.1} points above the same rule without attack", -points),
            None => String::new(),
        };
        let attack = findings.attack_of(worst);
        Some(format!(
            "{} % [{}, {}] under its worst attack, {attack}{lost}",
            percent(worst.last.mean),
            percent(worst.last.low),
            percent(worst.last.high)
        ))
    };
    if let Some(best_text) = describe(best) {
        text.push(format!("The rule that holds best{within} is {}: it keeps {best_text}.", best.rule));
    }
    if ranked.len() > 1
        && let Some(last_text) = describe(last)
    {
        text.push(format!("The one that holds least{within} is {}: it is left with {last_text}.", last.rule));
    }
    text
}
