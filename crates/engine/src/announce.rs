//! From a task to the session its masked rounds announce.

use crate::{NoiseShares, TaskSpec};
use testudo_protocol::{
    ClientId, Digest, PairwiseParams,
    secagg::{DISCRETE_GAUSSIAN, Session, SigningKey, assignment, transcript::Writer},
};

/// What a session says that is not the task's.
#[derive(Debug, Clone)]
pub struct SessionFacts<'a> {
    /// 32 random bytes, new for each round.
    pub id: [u8; 32],
    /// The round.
    pub round: u64,
    /// SHA-256 of the model file that updates start from.
    pub model: Digest,
    /// SHA-256 of the task's text.
    pub plan: Digest,
    /// Coordinates of the model.
    pub dimension: usize,
    /// The selected clients.
    pub cohort: &'a [ClientId],
    /// The server's part of the randomness that assigns groups, which nobody may know before the keys are in.
    pub randomness: [u8; 32],
}

impl TaskSpec {
    /// What a masked round of this task is opened with, signed by the server's key; `None` in clear mode.
    ///
    /// A round that is given up is not tried again: the next one has its own number and session, so this is always a
    /// round's first attempt.
    pub fn pairwise(&self, facts: &SessionFacts<'_>, key: &SigningKey) -> Option<PairwiseParams> {
        let masking = self.masking.as_ref()?;
        let mut cohort: Vec<&ClientId> = facts.cohort.iter().collect();
        cohort.sort();
        let names =
            cohort.into_iter().fold(Writer::new("testudo/cohort/v1"), |writer, client| writer.text(client.as_str()));
        let shares = self.shares.as_ref();
        let session = Session {
            task: self.name.clone(),
            id: facts.id,
            round: facts.round,
            attempt: 1,
            model: facts.model,
            plan: facts.plan,
            dimension: facts.dimension as u64,
            bits: masking.bits,
            kappa: masking.kappa,
            clip_l2: masking.clip_l2,
            max_weight: masking.max_weight.unwrap_or(0),
            smallest_cohort: self.cohort.minimum as u32,
            group_size: masking.group_size as u32,
            threshold: masking.complete_threshold(masking.group_size) as u32,
            colluders: masking.assumed.colluders,
            dropout: masking.assumed.dropout,
            mechanism: shares.map(|_| DISCRETE_GAUSSIAN.to_string()).unwrap_or_default(),
            noise: shares.map_or(0.0, |shares| shares.shares.sigma()),
            delta: shares.map_or(0.0, |shares| shares.budget.delta),
            honest: shares.map_or(0, NoiseShares::honest),
            rule: cut(&self.rule_config.to_string()),
            accepted_weakness: cut(masking.accept_weak_guarantee.as_deref().unwrap_or_default()),
            advertise_ms: self.cohort.phase_limit_ms,
            step_ms: masking.step_limit_ms,
            server: key.verifying_key(),
            authority: masking.authority.unwrap_or_default(),
            cohort: names.digest(),
            commitment: assignment::commitment(&facts.randomness),
        };
        let least_groups = self.rule.min_rows().max(1);
        let randomness = facts.randomness;
        Some(PairwiseParams { announcement: session.announce(key), key: key.clone(), randomness, least_groups })
    }
}

/// A text no longer than a session takes.
fn cut(text: &str) -> String {
    text.chars().take(250).collect()
}
