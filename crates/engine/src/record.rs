//! What a masked round's record says besides its verdicts.

use crate::{TaskSpec, guarantees};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use testudo_protocol::{ClientId, Digest, Round};

/// The groups of a masked round and what it promised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// The session's digest: everything the clients agreed on.
    pub session: Digest,
    /// The groups, by number.
    pub groups: Vec<RecordedGroup>,
    /// What the round promised for these groups, one sentence each.
    pub guarantees: Vec<String>,
    /// Why the operator accepted less than the product offers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_weakness: Option<String>,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedGroup {
    /// Its members, in the drawn order.
    pub members: Vec<ClientId>,
    /// Fewest survivors.
    pub threshold: usize,
    /// Members whose masked input is in the sum.
    pub survivors: Vec<ClientId>,
    /// Why it gave no row, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

impl RoundRecord {
    /// The record of a masked round; `None` before its groups are drawn and in clear mode.
    pub(crate) fn of(spec: &TaskSpec, round: &Round, locked: &BTreeMap<u32, String>) -> Option<Self> {
        let masking = spec.masking.as_ref()?;
        let session = round.announcement()?.session.digest();
        let groups: Vec<RecordedGroup> = (0..)
            .zip(round.groups())
            .map(|(number, group)| RecordedGroup {
                members: group.members,
                threshold: group.threshold,
                survivors: group.survivors,
                lost: group.lost.or_else(|| locked.get(&number).cloned()),
            })
            .collect();
        if groups.is_empty() {
            return None;
        }
        let sizes: Vec<usize> = groups.iter().map(|group| group.members.len()).collect();
        let clients = sizes.iter().sum();
        let guarantees = guarantees::for_groups(spec, clients, &sizes);
        Some(Self { session, groups, guarantees, accepted_weakness: masking.accept_weak_guarantee.clone() })
    }
}
