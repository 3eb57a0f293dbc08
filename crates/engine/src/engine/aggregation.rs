//! From a round's fixed survivors to its aggregate: each part of the model is observed, decided and combined.

use crate::{
    Carry, TaskSpec,
    carry::History,
    job::{Combined, Extra, Job, Unit},
    part::{Part, Policy},
    row_set::{GroupRow, RowSet},
    spec::HISTORY_BYTES,
};
use std::{collections::BTreeMap, sync::Arc};
use testudo_aggregate::{
    BLOCK, Decision, MOST_LOOKS, Note, Observation, Plan, RowStatistics, Rule, RuleConfig, RuleError, StatisticsTree,
    UnitStatistics, Units, Verdict, Weights,
};
use testudo_protocol::{Abandon, ClientId};

/// A round that has its updates.
#[derive(Debug)]
pub(super) struct Aggregation {
    rows: Arc<RowSet>,
    weights: Weights,
    parts: Vec<Progress>,
    aggregate: Vec<f32>,
    /// Per row the sum of its client's updates, if the rule remembers it.
    history: Vec<Vec<f32>>,
    /// The rule, where too few rows have come for the declared one.
    lowered: Option<RuleConfig>,
}

/// How far a part is.
#[derive(Debug)]
struct Progress {
    part: Arc<Part>,
    /// The part's, or one of fewer byzantine rows.
    rule: Arc<dyn Rule>,
    extras: Arc<[Extra]>,
    units: Units,
    observation: Arc<Observation>,
    looks: usize,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Observing { tree: StatisticsTree, left: usize },
    Combining { plan: Arc<Plan>, trimmed: Vec<u64>, left: usize },
}

/// What became of each row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RowEnd {
    pub(super) verdict: Verdict,
    pub(super) score: Option<f64>,
    pub(super) weight: Option<f64>,
}

/// What came of the parts, apart from the aggregate itself.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) rows: Vec<RowEnd>,
    pub(super) notes: Vec<Note>,
    pub(super) memory: Vec<Option<f64>>,
    pub(super) history: BTreeMap<ClientId, History>,
}

impl Aggregation {
    /// The first jobs over the rows. `examples` weighs clients where the task says so; a group weighs as many as
    /// survived in it.
    pub(super) fn start(
        spec: &TaskSpec,
        parts: &[Arc<Part>],
        dimension: usize,
        seed: u64,
        carry: &Carry,
        rows: RowSet,
        examples: impl Fn(&ClientId) -> u64,
    ) -> Result<(Self, Vec<Job>), Abandon> {
        let rows = Arc::new(rows);
        let claims: Option<Vec<f64>> = match &*rows {
            RowSet::Clients(clients) => {
                spec.examples.weighted.then(|| clients.iter().map(|client| examples(client) as f64).collect())
            }
            RowSet::Groups { groups, .. } => (spec.examples.weighted || spec.rule.uses_weights()).then(|| {
                let weight = |group: &GroupRow| group.weight.map_or(group.survivors.len() as f64, f64::from);
                groups.iter().map(weight).collect()
            }),
        };
        let (rule, lowered) = spec.rule_for(rows.len());
        let weights = match claims {
            Some(claims) => Weights::for_rule(rule.as_ref(), &claims),
            None => Weights::equal(rows.len()),
        };
        let weights = weights.map_err(|error| Abandon::Rule { detail: error.to_string() })?;
        let aggregate = vec![0.0; dimension];
        let mut this = Self { rows, weights, parts: Vec::new(), aggregate, history: Vec::new(), lowered };
        if spec.rule.needs().extras.history {
            this.history = vec![vec![0.0; dimension]; this.rows.len()];
        }
        let mut jobs = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let memory = carry.memory.get(index).copied().flatten();
            let rule = if part.policy == Policy::Robust { &rule } else { &part.rule };
            let progress = Progress::new(part, rule, spec, &this.rows, carry, seed, memory)?;
            this.parts.push(progress);
            jobs.extend(this.first_jobs(index)?);
        }
        Ok((this, jobs))
    }

    /// Takes a unit's statistics; answers the jobs that follow.
    pub(super) fn observed(&mut self, unit: &Unit, statistics: UnitStatistics) -> Result<Vec<Job>, Abandon> {
        let Some(progress) = self.parts.get_mut(unit.part) else { return Ok(Vec::new()) };
        let Stage::Observing { tree, left } = &mut progress.stage else { return Ok(Vec::new()) };
        tree.insert(unit.index, statistics).map_err(|error| Abandon::Fault { detail: error.to_string() })?;
        *left -= 1;
        if *left > 0 {
            return Ok(Vec::new());
        }
        let tree = std::mem::replace(tree, StatisticsTree::new(0));
        let statistics =
            tree.finish(&progress.observation).map_err(|error| Abandon::Fault { detail: error.to_string() })?;
        self.decide(unit.part, statistics)
    }

    /// Takes a part's decision; answers the jobs that follow.
    pub(super) fn decided(&mut self, index: usize, decision: Result<Decision, RuleError>) -> Result<Vec<Job>, Abandon> {
        let Some(progress) = self.parts.get_mut(index) else { return Ok(Vec::new()) };
        match decision.map_err(|error| Abandon::Rule { detail: error.to_string() })? {
            Decision::Refine(refinement) if progress.looks < MOST_LOOKS => {
                progress.observation = Arc::new(progress.observation.refined(*refinement));
                Ok(self.look(index))
            }
            Decision::Refine(_) => Err(Abandon::Fault { detail: "the rule did not decide".into() }),
            Decision::Plan(plan) => {
                if let Some(why) = plan.degenerate {
                    return Err(Abandon::Rule { detail: why });
                }
                let plan = Arc::from(plan);
                let (trimmed, left) = (vec![0; self.rows.len()], progress.units.count());
                progress.stage = Stage::Combining { plan: Arc::clone(&plan), trimmed, left };
                let remember = !self.history.is_empty() && progress.part.policy == Policy::Robust;
                Ok(self.units(index).into_iter().map(|unit| Job::combine(unit, plan.clone(), remember)).collect())
            }
        }
    }

    /// Takes a combined unit; says whether it was the last of the last part.
    pub(super) fn combined(&mut self, combined: &Combined) -> bool {
        let Combined { unit, aggregate, trimmed, history } = combined;
        let Some(progress) = self.parts.get_mut(unit.part) else { return false };
        let Stage::Combining { trimmed: counts, left, .. } = &mut progress.stage else { return false };
        scatter(&mut self.aggregate, unit, aggregate);
        for (whole, piece) in self.history.iter_mut().zip(history) {
            scatter(whole, unit, piece);
        }
        for &(row, count) in trimmed {
            counts[row] += count;
        }
        *left -= 1;
        self.parts.iter().all(|part| matches!(part.stage, Stage::Combining { left: 0, .. }))
    }

    /// The aggregate, once all parts are combined.
    pub(super) fn take_aggregate(&mut self) -> Vec<f32> {
        std::mem::take(&mut self.aggregate)
    }

    /// The verdicts and what the rule remembers.
    pub(super) fn outcome(self, carry: &Carry) -> Outcome {
        let mut rows = Ends::new(self.rows.len());
        let lowered = self
            .lowered
            .map(|rule| Note { name: format!("lowered to {rule}; byzantine"), value: rule.byzantine() as f64 });
        let (mut notes, mut memory) = (Vec::from_iter(lowered), Vec::new());
        for progress in &self.parts {
            let Stage::Combining { plan, trimmed, .. } = &progress.stage else { continue };
            memory.push(plan.memory);
            if progress.part.policy == Policy::Robust {
                notes.extend(plan.notes.iter().cloned());
                rows.add(plan, trimmed, progress.part.dimension());
            }
        }
        let dimension = self.history.first().map_or(0, Vec::len);
        let clients = match &*self.rows {
            RowSet::Clients(clients) => clients.clone(),
            RowSet::Groups { .. } => Vec::new(),
        };
        let sums = clients.into_iter().zip(self.history);
        let history = remember(carry, sums.map(|(client, sum)| (client, Arc::new(sum))).collect(), dimension);
        Outcome { rows: rows.finish(), notes, memory, history }
    }

    /// What the rows are.
    pub(super) fn rows(&self) -> Arc<RowSet> {
        self.rows.clone()
    }

    fn first_jobs(&mut self, index: usize) -> Result<Vec<Job>, Abandon> {
        let observation = self.parts[index].observation.clone();
        if observation.needs.is_nothing() {
            return self.decide(index, observation.unobserved());
        }
        Ok(self.look(index))
    }

    fn look(&mut self, index: usize) -> Vec<Job> {
        let progress = &mut self.parts[index];
        let count = progress.units.count();
        progress.looks += 1;
        progress.stage = Stage::Observing { tree: StatisticsTree::new(count), left: count };
        let observation = progress.observation.clone();
        self.units(index).into_iter().map(|unit| Job::observe(unit, observation.clone())).collect()
    }

    fn decide(&self, index: usize, statistics: RowStatistics) -> Result<Vec<Job>, Abandon> {
        let Progress { part, rule, .. } = &self.parts[index];
        let weights = match part.policy {
            Policy::Robust => self.weights.clone(),
            _ => Weights::equal(self.rows.len()).map_err(|error| Abandon::Rule { detail: error.to_string() })?,
        };
        Ok(vec![Job::decide(index, rule.clone(), statistics, weights)])
    }

    fn units(&self, part: usize) -> Vec<Unit> {
        let progress = &self.parts[part];
        let unit = |(index, own): (usize, std::ops::Range<usize>)| Unit {
            part,
            index,
            places: progress.part.places(own.clone()),
            own,
            rows: self.rows.clone(),
            extras: progress.extras.clone(),
        };
        progress.units.iter().enumerate().map(unit).collect()
    }
}

impl Progress {
    fn new(
        part: &Arc<Part>,
        rule: &Arc<dyn Rule>,
        spec: &TaskSpec,
        rows: &RowSet,
        carry: &Carry,
        seed: u64,
        memory: Option<f64>,
    ) -> Result<Self, Abandon> {
        // Before any job: statistics of more rows than the rule takes could be larger than memory.
        rule.check(rows.len()).map_err(|error| Abandon::Rule { detail: error.to_string() })?;
        let needs = rule.needs();
        let mut extras = Vec::new();
        if needs.extras.last_aggregate {
            extras.push(carry.last_aggregate.clone().map_or(Extra::Zero, Extra::Vector));
        }
        if needs.extras.reference {
            extras.push(spec.reference.clone().map_or(Extra::Zero, Extra::Update));
        }
        if needs.extras.history {
            let history = |client| carry.history.get(client).map(|history| history.sum.clone());
            let clients = (0..rows.len()).flat_map(|row| rows.clients_of(row));
            extras.extend(clients.map(|client| history(client).map_or(Extra::Zero, Extra::Vector)));
        }
        let dimension = part.dimension();
        let length = match rows {
            RowSet::Clients(_) => unit_length(rows.len() + extras.len()),
            RowSet::Groups { .. } => masked_unit_length(rows.uploads()),
        };
        let units = Units::new(dimension, length).map_err(|error| Abandon::Fault { detail: error.to_string() })?;
        let observation = Arc::new(Observation::first(needs, rows.len(), dimension, seed).with_memory(memory));
        let stage = Stage::Observing { tree: StatisticsTree::new(0), left: 0 };
        Ok(Self { part: part.clone(), rule: rule.clone(), extras: extras.into(), units, observation, looks: 0, stage })
    }
}

/// Writes a unit's numbers to their places in the model's vector.
pub(super) fn scatter(whole: &mut [f32], unit: &Unit, piece: &[f32]) {
    let mut rest = piece;
    for place in &unit.places {
        let (here, later) = rest.split_at(place.len().min(rest.len()));
        whole[place.clone()].copy_from_slice(here);
        rest = later;
    }
}

/// The histories after this round; those of the clients longest unseen give way.
fn remember(carry: &Carry, now: Vec<(ClientId, Arc<Vec<f32>>)>, dimension: usize) -> BTreeMap<ClientId, History> {
    let aged = carry
        .history
        .iter()
        .map(|(client, old)| (client.clone(), History { sum: old.sum.clone(), age: old.age.saturating_add(1) }));
    let mut history: BTreeMap<ClientId, History> = aged.collect();
    history.extend(now.into_iter().map(|(client, sum)| (client, History { sum, age: 0 })));
    let most = HISTORY_BYTES as usize / 4 / dimension.max(1);
    while history.len() > most {
        let Some(oldest) = history.iter().max_by_key(|(_, history)| history.age).map(|(client, _)| client.clone())
        else {
            break;
        };
        history.remove(&oldest);
    }
    history
}

/// Merges what the parts say about each row.
struct Ends {
    parts: usize,
    total: usize,
    rows: Vec<RowEnd>,
    /// Coordinates that did not count.
    lost: Vec<f64>,
    /// Shortest clip factor.
    factor: Vec<f64>,
    reason: Vec<Option<testudo_aggregate::RowReason>>,
}

impl Ends {
    fn new(rows: usize) -> Self {
        let end = RowEnd { verdict: Verdict::Accepted, score: None, weight: None };
        Self {
            parts: 0,
            total: 0,
            rows: vec![end; rows],
            lost: vec![0.0; rows],
            factor: vec![1.0; rows],
            reason: vec![None; rows],
        }
    }

    fn add(&mut self, plan: &Plan, trimmed: &[u64], dimension: usize) {
        let verdicts = plan.final_verdicts(trimmed, dimension);
        let weights = plan.weights();
        self.parts += 1;
        self.total += dimension;
        for (row, verdict) in verdicts.into_iter().enumerate() {
            let end = &mut self.rows[row];
            end.verdict = verdict;
            end.score = plan.scores.as_ref().map(|scores| scores[row]);
            end.weight = weights.as_ref().map(|weights| weights[row]);
            match verdict {
                Verdict::Accepted => {}
                Verdict::Clipped { factor } => self.factor[row] = self.factor[row].min(factor),
                Verdict::Trimmed { share } => self.lost[row] += share * dimension as f64,
                Verdict::Rejected { reason } => {
                    self.lost[row] += dimension as f64;
                    self.reason[row] = self.reason[row].or(Some(reason));
                }
            }
        }
    }

    /// One part speaks for itself; of several the shares add up, and scores and weights mean nothing.
    fn finish(mut self) -> Vec<RowEnd> {
        if self.parts == 1 {
            return self.rows;
        }
        for (row, end) in self.rows.iter_mut().enumerate() {
            let share = if self.total == 0 { 0.0 } else { self.lost[row] / self.total as f64 };
            let verdict = match self.reason[row] {
                Some(reason) if share >= 1.0 => Verdict::Rejected { reason },
                _ if share > 0.0 => Verdict::Trimmed { share },
                _ if self.factor[row] < 1.0 => Verdict::Clipped { factor: self.factor[row] },
                _ => Verdict::Accepted,
            };
            *end = RowEnd { verdict, score: None, weight: None };
        }
        self.rows
    }
}

/// Coordinates of a unit of masked rows: its uploads take 32 MiB, so that the keys of all masks, which each unit sets up
/// anew, cost little beside their streams; never less than a block of each.
fn masked_unit_length(uploads: usize) -> usize {
    const MOST: usize = (32 << 20) / 4;
    const LONGEST: usize = 1 << 18;
    (1 << (MOST / uploads.max(1)).max(1).ilog2()).clamp(BLOCK, LONGEST)
}

/// Coordinates of a unit: its rows take 2 MiB, and stay in the cache while they are decoded and combined. Where that
/// would cut rows into pieces shorter than 64 KiB, which cost a read each, up to 8 MiB; but never less than one block
/// (16 KiB) per row, so that memory does not grow with clients times dimension. The result does not depend on it.
pub(super) fn unit_length(rows: usize) -> usize {
    const CACHED: usize = (2 << 20) / 4;
    const MOST: usize = (8 << 20) / 4;
    const LONG: usize = (64 << 10) / 4;
    const LONGEST: usize = 1 << 18;
    let rows = rows.max(1);
    let fitting = (CACHED / rows).max(LONG.min(MOST / rows)).max(1);
    (1 << fitting.ilog2()).clamp(BLOCK, LONGEST)
}
