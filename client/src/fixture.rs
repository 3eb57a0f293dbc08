//! What tests of masked rounds start from.

use testudo_protocol::{
    Digest, TaskName,
    secagg::{Session, SigningKey},
};

/// The key that announces [`session`].
pub(crate) fn server_key() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

/// A masked round of one coordinate in groups of 16, without shares of noise.
pub(crate) fn session() -> Session {
    Session {
        task: TaskName::new("task").unwrap(),
        id: [1; 32],
        round: 3,
        attempt: 1,
        model: Digest([0; 32]),
        plan: Digest([3; 32]),
        dimension: 1,
        bits: 16,
        kappa: 1.0,
        clip_l2: 1.0,
        max_weight: 0,
        smallest_cohort: 32,
        group_size: 16,
        threshold: 11,
        colluders: 0.05,
        dropout: 0.05,
        mechanism: String::new(),
        noise: 0.0,
        delta: 0.0,
        honest: 0,
        rule: "mean".into(),
        accepted_weakness: String::new(),
        advertise_ms: 1000,
        step_ms: 1000,
        server: server_key().verifying_key(),
        authority: [0; 32],
        cohort: Digest([4; 32]),
        commitment: Digest([6; 32]),
    }
}
