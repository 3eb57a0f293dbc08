//! From a private round's fixed survivors to its noised aggregate, in integers.
//!
//! Rows are measured, those of a rule that selects are looked at, then all are clipped and added, and noise goes on the
//! sums. Nothing about a single row leaves this file: every survivor is accepted, whatever it sent.

use super::{
    Action, Engine, Stage as EngineStage,
    aggregation::{scatter, unit_length},
};
use crate::{
    Carry, Privacy, TaskSpec,
    job::{Extra, Factors, Found, Job, Shared, Step, Unit},
    part::Part,
    privacy::ClipStep,
    row_set::RowSet,
};
use std::sync::Arc;
use testudo_aggregate::{Decision, Observation, RuleError, StatisticsTree, Units, Weights};
use testudo_privacy::{
    clip::{ATTEMPTS, ClippedSum, Grid},
    noise::{NoiseSeed, NoiseStream},
};
use testudo_protocol::{Abandon, ClientId, Digest};

/// The unit whose noise the bits of an adaptive clip get: no block of coordinates has its number.
pub(super) const BITS_UNIT: u64 = u64::MAX;

/// A private round that has its updates.
#[derive(Debug)]
pub(super) struct PrivateSum {
    shared: Arc<Shared>,
    part: Arc<Part>,
    rows: Arc<RowSet>,
    extras: Arc<[Extra]>,
    units: Units,
    stage: Stage,
    aggregate: Vec<f32>,
    /// Sum of the clients' bits in grid steps, not private; 0 with a fixed clip.
    bits: i64,
}

#[derive(Debug)]
enum Stage {
    /// Sums of squares by unit, row and block.
    Measuring {
        squares: Vec<Vec<Vec<f64>>>,
        left: usize,
    },
    /// Distances for a rule that selects.
    Looking {
        factors: Factors,
        observation: Arc<Observation>,
        tree: StatisticsTree,
        left: usize,
    },
    /// The rule is at work.
    Deciding {
        factors: Factors,
    },
    /// Integer sums by unit, not private, and Σq² by row.
    Clipping {
        factors: Factors,
        attempt: u32,
        sums: Vec<Vec<ClippedSum>>,
        energy: Vec<u128>,
        left: usize,
    },
    Noising {
        left: usize,
    },
}

/// What a step leads to.
#[derive(Debug)]
pub(super) enum Next {
    Jobs(Vec<Job>),
    /// The aggregate is complete.
    Done,
}

impl PrivateSum {
    /// The first jobs over the updates of `survivors`, which are sorted.
    pub(super) fn start(
        spec: &TaskSpec,
        shared: Shared,
        part: &Arc<Part>,
        dimension: usize,
        carry: &Carry,
        survivors: Vec<ClientId>,
    ) -> Result<(Self, Vec<Job>), Abandon> {
        let fault = |detail: String| Abandon::Fault { detail };
        if survivors.len() > spec.cohort.selected {
            return Err(fault(format!("{} updates, more than were planned for", survivors.len())));
        }
        let rows = Arc::new(RowSet::Clients(survivors));
        let mut extras = Vec::new();
        if shared.privacy.is_centred() {
            extras.push(carry.last_aggregate.clone().map_or(Extra::Zero, Extra::Vector));
        }
        // A rule that selects looks at every planned row, the absent ones as zeros.
        let looked_at = if shared.privacy.selects() { rows.len().max(shared.privacy.rows) } else { rows.len() };
        let units = Units::new(part.dimension(), unit_length(looked_at)).map_err(|error| fault(error.to_string()))?;
        let stage = Stage::Measuring { squares: vec![Vec::new(); units.count()], left: units.count() };
        let (shared, part, extras) = (Arc::new(shared), part.clone(), extras.into());
        let this = Self { shared, part, rows, extras, units, stage, aggregate: vec![0.0; dimension], bits: 0 };
        let jobs = this.jobs(|_| Step::Measure);
        Ok((this, jobs))
    }

    /// Takes a unit's result; answers what follows.
    pub(super) fn found(&mut self, unit: &Unit, found: Found) -> Result<Next, Abandon> {
        let fault = |detail: &str| Abandon::Fault { detail: detail.into() };
        match (&mut self.stage, found) {
            (Stage::Measuring { squares, left }, Found::Measured(measured)) => {
                *squares.get_mut(unit.index).ok_or_else(|| fault("a unit that is not there"))? = measured;
                *left -= 1;
                if *left > 0 { Ok(Next::Jobs(Vec::new())) } else { self.measured() }
            }
            (Stage::Looking { tree, left, .. }, Found::Looked(statistics)) => {
                tree.insert(unit.index, statistics).map_err(|error| fault(&error.to_string()))?;
                *left -= 1;
                if *left > 0 { Ok(Next::Jobs(Vec::new())) } else { self.looked() }
            }
            (Stage::Clipping { sums, energy, left, .. }, Found::Clipped { sums: unit_sums, energy: more }) => {
                *sums.get_mut(unit.index).ok_or_else(|| fault("a unit that is not there"))? = unit_sums;
                energy.iter_mut().zip(more).for_each(|(energy, more)| *energy += more);
                *left -= 1;
                if *left > 0 { Ok(Next::Jobs(Vec::new())) } else { self.clipped() }
            }
            (Stage::Noising { left }, Found::Noised(values)) => {
                *left -= 1;
                let last = *left == 0;
                scatter(&mut self.aggregate, unit, &values);
                Ok(if last { Next::Done } else { Next::Jobs(Vec::new()) })
            }
            _ => Err(fault("a private sum's job came at another step")),
        }
    }

    /// Takes the selection of a rule that selects.
    pub(super) fn decided(&mut self, decision: Result<Decision, RuleError>) -> Result<Next, Abandon> {
        let Stage::Deciding { factors } = &self.stage else {
            return Err(Abandon::Fault { detail: "a private sum's decision came at another step".into() });
        };
        let plan = match decision.map_err(|error| Abandon::Rule { detail: error.to_string() })? {
            Decision::Plan(plan) => plan,
            Decision::Refine(_) => return Err(Abandon::Fault { detail: "the rule did not decide".into() }),
        };
        if let Some(detail) = plan.degenerate {
            return Err(Abandon::Rule { detail });
        }
        let chosen = |row: &usize| plan.selected.contains(row);
        let factors: Vec<Option<f64>> =
            factors.iter().enumerate().map(|(row, factor)| factor.filter(|_| chosen(&row))).collect();
        Ok(Next::Jobs(self.clip(factors.into(), 0)))
    }

    /// The aggregate, once it is complete.
    pub(super) fn take_aggregate(&mut self) -> Vec<f32> {
        std::mem::take(&mut self.aggregate)
    }

    /// Where an adaptive clip goes from here: the noised sum of bits is released like any other coordinate.
    pub(super) fn clip_step(&self) -> Result<Option<ClipStep>, Abandon> {
        let Shared { privacy, seed, manifests } = &*self.shared;
        let (Some(clipping), Some(manifest)) = (&privacy.adaptive, manifests.last()) else { return Ok(None) };
        let fault = |detail: String| Abandon::Fault { detail };
        let key = seed.key(manifest, privacy.grid.sigma(), BITS_UNIT);
        let mut sum = [self.bits];
        let table = privacy.noise_table().map_err(fault)?;
        NoiseStream::new(table, &key).add_to(&mut sum).map_err(|error| fault(error.to_string()))?;
        Ok(Some(clipping.step(privacy.grid.clip(), sum[0])))
    }

    /// Every row's factor, from the sums of squares in the order of blocks.
    fn measured(&mut self) -> Result<Next, Abandon> {
        let Stage::Measuring { squares, .. } = &self.stage else { return Ok(Next::Jobs(Vec::new())) };
        let norm = |row: usize| {
            let blocks = squares.iter().filter_map(|unit| unit.get(row)).flatten();
            blocks.fold(0.0, |sum, square| sum + square).sqrt()
        };
        let Privacy { grid, adaptive, .. } = &self.shared.privacy;
        let norms: Vec<f64> = (0..self.rows.len()).map(norm).collect();
        if let Some(clipping) = adaptive {
            self.bits = norms.iter().map(|norm| clipping.steps_of(*norm, grid.clip())).sum();
        }
        let factors: Factors = norms.iter().map(|norm| grid.factor_of_norm(*norm)).collect();
        if !self.shared.privacy.selects() {
            return Ok(Next::Jobs(self.clip(factors, 0)));
        }
        let needs = self.part.rule.needs();
        let planned = self.shared.privacy.rows;
        let observation = Arc::new(Observation::first(needs, planned, self.part.dimension(), 0));
        let count = self.units.count();
        let step = |_| Step::Look { factors: factors.clone(), observation: observation.clone() };
        let jobs = self.jobs(step);
        self.stage = Stage::Looking { factors, observation, tree: StatisticsTree::new(count), left: count };
        Ok(Next::Jobs(jobs))
    }

    fn looked(&mut self) -> Result<Next, Abandon> {
        let idle = Stage::Noising { left: 0 };
        let Stage::Looking { factors, observation, tree, .. } = std::mem::replace(&mut self.stage, idle) else {
            return Ok(Next::Jobs(Vec::new()));
        };
        let statistics = tree.finish(&observation).map_err(|error| Abandon::Fault { detail: error.to_string() })?;
        let weights = Weights::equal(observation.rows).map_err(|error| Abandon::Rule { detail: error.to_string() })?;
        self.stage = Stage::Deciding { factors };
        Ok(Next::Jobs(vec![Job::decide(0, self.part.rule.clone(), statistics, weights)]))
    }

    /// The proof's one condition, Σq² ≤ 2^{2s} for every row; rows that break it are scaled down and all is added again.
    fn clipped(&mut self) -> Result<Next, Abandon> {
        let idle = Stage::Noising { left: self.units.count() };
        let Stage::Clipping { factors, attempt, sums, energy, .. } = std::mem::replace(&mut self.stage, idle) else {
            return Ok(Next::Jobs(Vec::new()));
        };
        let most = self.shared.privacy.grid.most_energy();
        if energy.iter().any(|energy| *energy > most) {
            let again = |(factor, energy): (&Option<f64>, &u128)| match factor {
                Some(factor) if *energy > most => (attempt < ATTEMPTS).then(|| Grid::smaller(*factor)),
                factor => *factor,
            };
            let factors: Factors = factors.iter().zip(&energy).map(again).collect();
            return Ok(Next::Jobs(self.clip(factors, attempt + 1)));
        }
        let units = self.units().into_iter().zip(sums);
        let job = |(unit, sums)| Job::private(unit, self.shared.clone(), Step::Noise { sums });
        Ok(Next::Jobs(units.map(job).collect()))
    }

    fn clip(&mut self, factors: Factors, attempt: u32) -> Vec<Job> {
        let jobs = self.jobs(|_| Step::Clip { factors: factors.clone() });
        let sums = (0..self.units.count()).map(|_| Vec::new()).collect();
        let (energy, left) = (vec![0; self.rows.len()], self.units.count());
        self.stage = Stage::Clipping { factors, attempt, sums, energy, left };
        jobs
    }

    fn jobs(&self, step: impl Fn(usize) -> Step) -> Vec<Job> {
        let job = |unit: Unit| {
            let step = step(unit.index);
            Job::private(unit, self.shared.clone(), step)
        };
        self.units().into_iter().map(job).collect()
    }

    fn units(&self) -> Vec<Unit> {
        let unit = |(index, own): (usize, std::ops::Range<usize>)| Unit {
            part: 0,
            index,
            places: self.part.places(own.clone()),
            own,
            rows: self.rows.clone(),
            extras: self.extras.clone(),
        };
        self.units.iter().enumerate().map(unit).collect()
    }
}

impl Engine {
    /// Gives a private round the seed of its noise, before its survivors are [`Sealed`](super::EngineInput::Sealed) or it
    /// is [resumed](Engine::resume_closed): fresh from the operating system, kept with the survivors until the round ends.
    pub fn set_noise_seed(&mut self, seed: NoiseSeed) {
        self.noise = Some(seed);
    }

    /// The same for a round of a correlated run: the run's seed, and the [manifests](Engine::step_manifest) of its steps
    /// up to this one.
    pub fn set_noise_run(&mut self, seed: NoiseSeed, manifests: Vec<[u8; 32]>) {
        self.noise = Some(seed);
        self.steps = manifests;
    }

    /// What a step of a correlated run adds up, counted from 1: kept with the survivors until the run ends, so that later
    /// steps can draw this one's noise again.
    #[must_use]
    pub fn step_manifest(&self, step: u64, survivors: &[ClientId]) -> [u8; 32] {
        let mut bytes = b"testudo step 1".to_vec();
        bytes.extend(step.to_le_bytes());
        bytes.extend(self.manifest(survivors));
        Digest::of(&bytes).0
    }

    /// Adds up a private round's updates.
    pub(super) fn add_privately(&mut self, survivors: Vec<ClientId>) -> Vec<Action> {
        let (Some(privacy), Some(seed)) = (self.privacy(), self.noise.take()) else {
            return self.abandon(Abandon::Fault { detail: "a private round has no seed for its noise".into() });
        };
        let manifests = match &privacy.correlated {
            None => vec![self.manifest(&survivors)],
            Some(_) => {
                let steps = std::mem::take(&mut self.steps);
                if steps.last() != Some(&self.step_manifest(steps.len() as u64, &survivors)) {
                    return self.abandon(Abandon::Fault { detail: "a run's newest step is not this sum".into() });
                }
                steps
            }
        };
        let layout = self.base.layout();
        let Some(part) = self.spec.parts(layout).into_iter().next() else {
            return self.abandon(Abandon::Rule { detail: "no tensor is left for the rule".into() });
        };
        let shared = Shared { privacy, seed, manifests };
        match PrivateSum::start(&self.spec, shared, &part, layout.dimension(), &self.carry, survivors) {
            Ok((sum, jobs)) => {
                self.stage = EngineStage::Adding(Box::new(sum));
                jobs.into_iter().map(Action::Run).collect()
            }
            Err(why) => self.abandon(why),
        }
    }

    pub(super) fn found(&mut self, unit: &Unit, found: Found) -> Vec<Action> {
        let EngineStage::Adding(sum) = &mut self.stage else { return Vec::new() };
        let next = sum.found(unit, found);
        self.privately(next)
    }

    pub(super) fn privately(&mut self, next: Result<Next, Abandon>) -> Vec<Action> {
        match next {
            Ok(Next::Jobs(jobs)) => jobs.into_iter().map(Action::Run).collect(),
            Ok(Next::Done) => {
                let EngineStage::Adding(sum) = &mut self.stage else { return Vec::new() };
                let aggregate = sum.take_aggregate();
                let clip = match sum.clip_step() {
                    Ok(clip) => clip,
                    Err(why) => return self.abandon(why),
                };
                self.stage = EngineStage::FinishingPrivately(clip);
                vec![Action::Run(Job::finish(&self.spec, self.base.clone(), self.carry.clone(), aggregate))]
            }
            Err(why) => self.abandon(why),
        }
    }

    /// The task's privacy with the clip that this round has.
    fn privacy(&self) -> Option<Privacy> {
        let privacy = self.spec.privacy.as_ref()?;
        match self.carry.clip.filter(|_| privacy.adaptive.is_some()) {
            // What was carried was checked when it was read.
            Some(clip) => privacy.at(clip).ok(),
            None => Some(privacy.clone()),
        }
    }

    /// What is added up: another set of updates, another rule or clip gives other noise. Round and base need not be in it:
    /// the seed is of one round alone.
    pub(super) fn manifest(&self, survivors: &[ClientId]) -> [u8; 32] {
        let mut bytes = b"testudo sum 1".to_vec();
        let mut put = |part: &[u8]| {
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(part);
        };
        put(self.spec.name.as_str().as_bytes());
        put(self.spec.rule_config.to_string().as_bytes());
        if let Some(privacy) = self.privacy() {
            put(&privacy.grid.clip().to_le_bytes());
            put(&privacy.charge.sensitivity_grid.to_le_bytes());
            put(&privacy.divisor.to_le_bytes());
        }
        for client in survivors {
            put(client.as_str().as_bytes());
            put(self.uploads.get(client).map_or(&[], |upload| upload.digest.as_bytes()));
        }
        Digest::of(&bytes).0
    }
}
