//! One training of the demo: a task on the server, its clients, and the accuracy after every round.

use super::{
    Learner, Show, WHAT,
    plan::Plan,
    secure::{View, Witness},
};
use crate::{
    commands::load::operator::Operator,
    exit::{Exit, Failure},
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use testudo_aggregate::RuleConfig;
use testudo_engine::{RecordedGroup, RoundRecord};
use testudo_proto::{v1::RoundInfo, verdict_from_wire};
use testudo_protocol::{Digest, Model, Reason, Verdict};
use testudo_simulator::report::{ClientReport, Outcome, RunReport, VerdictReport};
use tokio::task::JoinSet;

/// A training that is about to run.
#[derive(Debug)]
pub(super) struct Training<'a> {
    pub(super) plan: &'a Plan,
    pub(super) operator: &'a Operator,
    pub(super) learners: &'a [Learner],
    pub(super) show: &'a Show,
    pub(super) name: &'static str,
    /// Whether the poisoned clients attack.
    pub(super) attacked: bool,
    pub(super) rule: RuleConfig,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Trained {
    pub(super) report: RunReport,
    pub(super) rule: RuleConfig,
    /// Whether verdicts are hidden.
    private: bool,
    /// Groups that gave no row, over all rounds.
    pub(super) lost_groups: usize,
    /// Of the last released model.
    digest: Digest,
    /// Why it ended before its last round, if it did.
    pub(super) ended_early: Option<String>,
}

/// A training under way.
struct Course {
    report: RunReport,
    numbers: HashMap<String, usize>,
    model: Model,
    ended_early: Option<String>,
    lost_groups: usize,
    view: Option<View>,
}

impl Training<'_> {
    /// Creates the task, lets the clients train it, and measures the model after every round.
    ///
    /// # Errors
    /// A server or an honest client that fails.
    pub(super) async fn run(self) -> Result<(Trained, Option<View>, Vec<String>), Failure> {
        let (task, toml) = self.plan.task(self.name, &self.rule)?;
        let created = self.operator.create(toml, &self.plan.model).await?;
        let masks = self.plan.masks(self.name);
        if (masks && self.name == "defended") || self.plan.is_private(self.name) {
            let suite = if masks { testudo_protocol::secagg::SUITE } else { "none" };
            self.show.guarantees(&task, suite, self.plan.clients, &created.guarantees);
            if let Some(line) = self.plan.secure.as_ref().and_then(|secure| secure.vanishing(self.plan)) {
                self.show.line(&line);
            }
        }
        let witness = Arc::new(Witness::default());
        let mut rounds = self.operator.watch(&task).await?;
        let stopped = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for learner in self.learners {
            clients.spawn(learner.clone().take_part(
                (self.name, task.clone()),
                self.attacked,
                stopped.clone(),
                witness.clone(),
            ));
        }
        self.show.begin(self.name);
        let mut course = self.course();
        loop {
            tokio::select! {
                round = rounds.next() => {
                    let Some(round) = round? else { break };
                    if !self.follow(&task, &round, &witness, &mut course).await? {
                        stopped.store(true, Ordering::Relaxed);
                        self.operator.stop(&task).await?;
                    }
                }
                Some(client) = clients.join_next(), if !clients.is_empty() => taken_part(client)?,
            }
        }
        while let Some(client) = clients.join_next().await {
            taken_part(client)?;
        }
        self.show.end(self.name);
        let Course { report, model, ended_early, lost_groups, view, .. } = course;
        let private = self.plan.hides_verdicts(self.name);
        let digest = model.digest();
        let trained = Trained { report, rule: self.rule, private, lost_groups, digest, ended_early };
        Ok((trained, view, created.guarantees))
    }

    fn course(&self) -> Course {
        let plan = self.plan;
        let client = |number| {
            let attack = plan.population.attack(number).filter(|_| self.attacked);
            ClientReport { name: plan.name(number), attack: attack.map(ToString::to_string) }
        };
        let report = RunReport {
            name: self.name.into(),
            rule: self.rule.to_string(),
            description: match (self.attacked, self.name) {
                (false, _) => "nobody attacks".into(),
                (true, "poisoned") => "attackers, and a rule that trusts everybody".into(),
                (true, _) => "attackers, and a robust rule".into(),
            },
            accuracy: vec![(0, plan.workload.accuracy(plan.model.parameters(), &plan.test))],
            clients: (0..plan.clients).map(client).collect(),
            verdicts: Vec::new(),
        };
        let numbers = (0..plan.clients).map(|number| (plan.name(number), number)).collect();
        Course { report, numbers, model: plan.model.clone(), ended_early: None, lost_groups: 0, view: None }
    }

    /// Takes one ended round in; `false` if the training has to end with it.
    async fn follow(
        &self,
        task: &str,
        round: &RoundInfo,
        witness: &Witness,
        course: &mut Course,
    ) -> Result<bool, Failure> {
        let groups = serde_json::from_str::<RoundRecord>(&round.groups);
        course.lost_groups += groups.map_or(0, |record| record.groups.iter().filter(|g| g.lost.is_some()).count());
        let verdicts = self.verdicts(round, course)?;
        if round.state == "released" {
            let before = std::mem::replace(&mut course.model, self.operator.model(task, round.round).await?);
            if self.plan.masks(self.name) && round.round == self.plan.rounds {
                let moved = course.model.parameters().iter().zip(before.parameters());
                course.view = witness.view(round, &moved.map(|(after, before)| after - before).collect::<Vec<f32>>());
            }
            let accuracy = self.plan.workload.accuracy(course.model.parameters(), &self.plan.test);
            course.report.accuracy.push((round.round, accuracy));
            self.show.round(self.name, round.round, accuracy, &shown(round, verdicts));
            return Ok(true);
        }
        let why = format!("round {} was abandoned: {}", round.round, round.why);
        if !self.attacked {
            return Err(Failure::new(Exit::Internal, WHAT, why));
        }
        if course.ended_early.is_none() {
            self.show.ended_early(self.name, round.round, &round.why, &shown(round, verdicts));
            course.ended_early = Some(why);
        }
        Ok(false)
    }

    /// The round's verdicts by client name, also noted in the report.
    fn verdicts(&self, round: &RoundInfo, course: &mut Course) -> Result<Vec<(String, Verdict)>, Failure> {
        let mut verdicts = Vec::with_capacity(round.clients.len());
        for client in &round.clients {
            let wire = client.verdict.clone().unwrap_or_default();
            let verdict = verdict_from_wire(&wire).map_err(|reject| {
                Failure::new(Exit::Verification, WHAT, format!("verdict of {}: {reject}", client.client))
            })?;
            verdicts.push((client.client.clone(), verdict));
            let Some(&number) = course.numbers.get(&client.client) else { continue };
            let Some((outcome, reason)) = outcome(&verdict).filter(|_| !self.plan.hides_verdicts(self.name)) else {
                continue;
            };
            let round = round.round;
            course.report.verdicts.push(VerdictReport { round, client: number, outcome, reason });
        }
        verdicts.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(verdicts)
    }
}

impl Trained {
    /// Test accuracy of the last model, in 0..=1.
    pub(super) fn accuracy(&self) -> f64 {
        self.report.final_accuracy().unwrap_or(0.0)
    }

    /// For programs.
    pub(super) fn object(&self) -> Value {
        let rejected = self.report.verdicts.iter().filter(|verdict| verdict.outcome == Outcome::Rejected).count();
        let tally = self.report.tally();
        let unless_hidden = |number: usize| (!self.private).then_some(number);
        json!({
            "name": self.report.name,
            "rule": self.rule.kind(),
            "rule_parameters": self.rule.to_string(),
            "accuracy": self.accuracy(),
            "rejected": unless_hidden(rejected),
            "rejected_honest": unless_hidden(tally.honest_rejected),
            "verdicts_right": unless_hidden(tally.right()),
            "verdicts_wrong": unless_hidden(tally.wrong()),
            "accuracy_per_round": self.report.accuracy.iter().map(|(_, accuracy)| accuracy).collect::<Vec<_>>(),
            "model_digest": self.digest.to_string(),
            "ended_early": self.ended_early,
        })
    }
}

/// Verdicts as they are shown: in a masked round one for each group, which all its survivors share.
fn shown(round: &RoundInfo, verdicts: Vec<(String, Verdict)>) -> Vec<(String, Verdict)> {
    let Ok(record) = serde_json::from_str::<RoundRecord>(&round.groups) else { return verdicts };
    let verdict_of = |client: &str| verdicts.iter().find(|(name, _)| name == client).map(|(_, verdict)| *verdict);
    let row = |(number, group): (usize, &RecordedGroup)| {
        let member = if group.lost.is_some() { group.members.first() } else { group.survivors.first() };
        Some((format!("group {number}"), verdict_of(member?.as_str())?))
    };
    let rows = record.groups.iter().enumerate().filter_map(row);
    let gone = verdicts.iter().filter(|(_, verdict)| *verdict == Verdict::Dropout).cloned();
    rows.chain(gone).collect()
}

fn taken_part(client: Result<Result<(), Failure>, tokio::task::JoinError>) -> Result<(), Failure> {
    client.map_err(|error| Failure::new(Exit::Internal, "a client of the demo broke", error.to_string()))?
}

/// A verdict as the report has it; a dropout has sent nothing that could be judged.
fn outcome(verdict: &Verdict) -> Option<(Outcome, String)> {
    Some(match verdict {
        Verdict::Accepted => (Outcome::Accepted, String::new()),
        Verdict::Clipped { factor } => (Outcome::Clipped, format!("to {factor:.2}")),
        Verdict::Trimmed { .. } => (Outcome::Trimmed, "extreme values cut".into()),
        // What was lost with its group was not judged.
        Verdict::Rejected { reason: Reason::GroupLost } => return None,
        Verdict::Rejected { reason } => (Outcome::Rejected, reason.to_string()),
        Verdict::Dropout | Verdict::Pending => return None,
    })
}
