//! What a private task asks of the ledger: its plan, every round's reservation and the seed of its noise.

use super::{
    Driver,
    driver::{random, with_retries},
};
use crate::{
    clock,
    store::{PrivacyPlan, TaskState},
};
use testudo_engine::TaskSpec;
use testudo_privacy::{budget::Charge, noise::NoiseSeed};
use testudo_protocol::{ClientId, Reason};
use zeroize::Zeroizing;

/// What the task will cost, and whose budget pays; `None` for one without differential privacy.
pub(crate) fn plan(spec: &TaskSpec) -> Option<PrivacyPlan> {
    let privacy = spec.privacy.as_ref()?;
    Some(PrivacyPlan {
        population: privacy.population.clone(),
        epsilon: privacy.budget_epsilon,
        delta: privacy.delta,
        charge: privacy.charge,
        // The specification holds it below.
        releases: u32::try_from(spec.rounds).unwrap_or(u32::MAX),
    })
}

impl Driver {
    /// What a round's release will cost, to be reserved before clients train.
    pub(super) fn reserve(&self) -> Option<Charge> {
        self.spec.privacy.as_ref().map(|privacy| privacy.charge)
    }

    /// Fixes a round's survivors. A private round's noise has the seed that is kept from here on, whoever drew it.
    pub(super) async fn close(&self, round: u64, survivors: &[ClientId]) -> Result<Option<NoiseSeed>, String> {
        let fresh = self.spec.privacy.is_some().then(|| Zeroizing::new(random::<32>()));
        let (store, task) = (&self.services.store, &self.row.name);
        let close = || store.close_round(task, round, survivors, fresh.as_ref().map(|seed| **seed), clock::now());
        let kept = with_retries(close).await?;
        match kept.map(Zeroizing::new) {
            None if self.spec.privacy.is_some() => Err("the ledger kept no seed for the round's noise".into()),
            kept => Ok(kept.map(|seed| NoiseSeed::new(*seed))),
        }
    }

    /// The seed of a closing round after a restart.
    pub(super) async fn kept_noise(&self, round: u64) -> Result<Option<NoiseSeed>, String> {
        if self.spec.privacy.is_none() {
            return Ok(None);
        }
        let kept = self.services.store.noise_seed(&self.row.name, round).await.map_err(|error| error.to_string())?;
        let kept = kept.map(Zeroizing::new).ok_or("the seed of the round's noise is not in the ledger")?;
        Ok(Some(NoiseSeed::new(*kept)))
    }

    /// No round can be opened any more: rounds that were abandoned after their noise have used up what the plan held for
    /// later ones. The task ends; what it released stays.
    pub(super) async fn exhausted(&mut self, why: String) {
        let why = format!("{}: {why}", Reason::PrivacyBudgetExhausted);
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
