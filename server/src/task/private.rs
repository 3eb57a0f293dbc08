//! What a private task asks of the ledger: its plan, every round's reservation and the seed of its noise.

use super::{
    Driver,
    driver::{random, with_retries},
};
use crate::{
    clock,
    store::{PrivacyPlan, RunNoise, TaskState},
};
use testudo_engine::{Engine, TaskSpec};
use testudo_privacy::{budget::Charge, noise::NoiseSeed};
use testudo_proto::OwnNoise;
use testudo_protocol::ClientId;
use zeroize::Zeroizing;

/// What the task will cost, and whose budget pays; `None` for one without differential privacy.
pub(crate) fn plan(spec: &TaskSpec) -> Option<PrivacyPlan> {
    let budget = spec.budget()?;
    // The specification holds it below.
    let releases = u32::try_from(budget.charges(spec.rounds)).unwrap_or(u32::MAX);
    let run = spec.privacy.as_ref().and_then(|privacy| privacy.correlated.as_ref());
    Some(PrivacyPlan {
        population: budget.population,
        epsilon: budget.epsilon,
        delta: budget.delta,
        charge: budget.charge,
        releases,
        gate: budget.gate,
        limit: run.map(|run| run.limit),
    })
}

/// What a closing round's noise is drawn from.
#[derive(Debug)]
pub(super) enum Noise {
    None,
    /// Of the round alone.
    Round(NoiseSeed),
    /// Of a whole run.
    Run(RunNoise),
}

impl Noise {
    /// Hands it to the round.
    pub(super) fn give(self, engine: &mut Engine) {
        match self {
            Self::None => {}
            Self::Round(seed) => engine.set_noise_seed(seed),
            Self::Run(run) => engine.set_noise_run(NoiseSeed::new(run.seed), run.manifests.clone()),
        }
    }
}

impl Driver {
    /// What a round's release will cost, to be reserved before clients train.
    pub(super) fn reserve(&self, step: Option<u64>) -> Option<Charge> {
        match &self.spec.privacy {
            Some(privacy) => Some(privacy.charge_of(step.unwrap_or(1))),
            None => self.spec.budget().map(|budget| budget.charge),
        }
    }

    /// What every client adds to its own update, as it is told.
    pub(super) fn own_noise(&self) -> Option<OwnNoise> {
        let local = self.spec.local.as_ref()?;
        let clip_l2 = local.noise.grid().clip();
        Some(OwnNoise { clip_l2, grid_bits: local.grid_bits(), sigma_grid: local.budget.charge.sigma_grid })
    }

    /// Fixes a round's survivors. A private round's noise has the seed that is kept from here on, whoever drew it.
    pub(super) async fn close(&self, round: u64, survivors: &[ClientId]) -> Result<Noise, String> {
        let step = self.current.as_ref().and_then(|current| Some((current, current.step?)));
        if let Some((current, step)) = step {
            let manifest = current.engine.step_manifest(step, survivors);
            let (store, task) = (&self.services.store, &self.row.name);
            let close = || store.close_step(task, round, survivors, manifest, clock::now());
            return with_retries(close).await.map(Noise::Run);
        }
        let fresh = self.spec.privacy.is_some().then(|| Zeroizing::new(random::<32>()));
        let (store, task) = (&self.services.store, &self.row.name);
        // How long the last updates took to write would tell that there were some.
        let deadline =
            self.current.as_ref().filter(|_| self.is_secret()).map(|current| current.engine.params().deadline());
        let at = deadline.unwrap_or_else(clock::now);
        let close = || store.close_round(task, round, survivors, fresh.clone(), at);
        match with_retries(close).await? {
            None if self.spec.privacy.is_some() => Err("the ledger kept no seed for the round's noise".into()),
            kept => Ok(kept.map_or(Noise::None, |seed| Noise::Round(NoiseSeed::new(*seed)))),
        }
    }

    /// What a closing round's noise is drawn from, after a restart.
    pub(super) async fn kept_noise(&self, round: u64) -> Result<Noise, String> {
        let Some(privacy) = &self.spec.privacy else { return Ok(Noise::None) };
        if privacy.correlated.is_some() {
            let kept =
                self.services.store.step_noise(&self.row.name, round).await.map_err(|error| error.to_string())?;
            return kept.map(Noise::Run).ok_or_else(|| "the seed of the run's noise is not in the ledger".into());
        }
        let kept = self.services.store.noise_seed(&self.row.name, round).await.map_err(|error| error.to_string())?;
        let kept = kept.ok_or("the seed of the round's noise is not in the ledger")?;
        Ok(Noise::Round(NoiseSeed::new(*kept)))
    }

    /// No round can be opened any more: rounds that were abandoned after their noise have used up what the plan held for
    /// later ones, or the seed of a run's noise is lost. The task ends; what it released stays.
    pub(super) async fn give_task_up(&mut self, why: String) {
        tracing::error!(task = %self.row.name, why, "the task ends");
        let store = &self.services.store;
        if let Err(error) = store.set_task_state(&self.row.name, TaskState::Failed, &why, clock::now()).await {
            tracing::error!(task = %self.row.name, %error, "cannot write to the ledger; trying again");
            self.not_before = clock::now() + super::driver::LEDGER_PAUSE_MS;
            return;
        }
        self.row.state = TaskState::Failed;
        self.row.why = why;
        self.send_home();
    }
}
