//! `testudo simulate --wire`: the rounds of a study on a real server, with real clients.

mod client;
mod course;

use crate::{
    commands::load::operator::{Certificates, Operator},
    exit::{Exit, Failure, chain},
};
use course::WireCourse;
use testudo_server::{Config, Server};
use testudo_simulator::{
    scenario::{Placement, Scenario},
    study::{
        Study,
        driver::{Course, Driver},
    },
    world::{World, WorldError},
};

/// A server, of this process or another, that plays the runs.
#[derive(Debug)]
pub(super) struct Wire {
    url: String,
    operator: Operator,
    runtime: tokio::runtime::Handle,
    /// Makes task names of this study unlike those of an earlier one on the same server.
    label: String,
}

/// A server of this process.
pub(super) struct Own(Server);

impl Wire {
    /// Connects to `server`, or starts a server on the loopback.
    ///
    /// # Errors
    /// No server there, or none that can be started.
    pub(super) async fn connect(server: Option<&str>, label: String) -> Result<(Self, Option<Own>), Failure> {
        let own = match server {
            Some(_) => None,
            None => {
                let server = Server::start(Config::ephemeral()).await.map_err(|error| {
                    let failure = Failure::new(Exit::Unavailable, super::WHAT, chain(&error));
                    failure.next("`testudo doctor` may help")
                })?;
                Some(Own(server))
            }
        };
        let url = match (server, &own) {
            (Some(server), _) => server.to_owned(),
            (None, Some(Own(server))) => format!("http://{}", server.address()),
            (None, None) => return Err(Failure::new(Exit::Internal, super::WHAT, "no server")),
        };
        let operator = Operator::connect(&url, &Certificates::default()).await?;
        Ok((Self { url, operator, runtime: tokio::runtime::Handle::current(), label }, own))
    }
}

impl Own {
    pub(super) async fn stop(self) {
        self.0.stop().await;
    }
}

impl Driver for Wire {
    fn open(&self, id: &str, world: &World) -> Result<Box<dyn Course>, WorldError> {
        let name = format!("{}-{}", self.label, &id[..id.len().min(16)]);
        Ok(Box::new(WireCourse::open(self, &name, world)?))
    }
}

/// Refuses runs that a server cannot play as the study means them.
///
/// # Errors
/// The first such run: key, problem, fix.
pub(super) fn check(study: &Study) -> Result<(), Failure> {
    for run in &study.runs {
        if let Some((key, what, fix)) = unlike(&run.scenario) {
            let name = testudo_simulator::study::runner::name(study, run);
            let failure = Failure::new(Exit::Config, super::WHAT, format!("{key}: {what} ({name})"));
            return Err(failure.next(fix));
        }
    }
    Ok(())
}

fn unlike(scenario: &Scenario) -> Option<(&'static str, String, &'static str)> {
    let plan = &scenario.plan;
    let partial = scenario.selected() < plan.population.clients;
    if plan.training.weight_decay != 0.0 {
        let what = format!("{} shrinks the model on the server, and servers do not", plan.training.weight_decay);
        return Some(("training.weight_decay", what, "write weight_decay = 0 for --wire"));
    }
    if plan.privacy.is_some() {
        let what = "a server draws noise that nobody can repeat, so its models cannot be compared".to_owned();
        return Some(("privacy", what, "remove the section, or run the study without --wire"));
    }
    if plan.visibility.group_size > 1 {
        let what = format!("{} needs masks, and --wire sends updates in clear", plan.visibility.group_size);
        return Some(("visibility.group_size", what, "write group_size = 1, or see testudo demo --secure"));
    }
    if partial && plan.adversary.placement == Placement::PerRound {
        let what = "per_round chooses cohorts, and under --wire the server does".to_owned();
        return Some(("adversary.placement", what, "write placement = \"pool\", or leave out cohort.size"));
    }
    None
}
