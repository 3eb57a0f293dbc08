//! The groups of a masked round.

use crate::format::{self, Table};
use serde_json::Value;
use testudo_engine::{RecordedGroup, RoundRecord};
use testudo_proto::v1;
use testudo_protocol::ClientId;

/// Most names of vanished members in a line.
const NAMES: usize = 4;

/// What the server recorded of them.
#[derive(Debug)]
pub(super) struct Groups {
    record: RoundRecord,
    object: Value,
}

impl Groups {
    /// Reads the record of a round; `None` in clear mode, before the groups are drawn, and for what is no record.
    pub(super) fn of(round: &v1::RoundInfo) -> Option<Self> {
        let object: Value = serde_json::from_str(&round.groups).ok()?;
        let record = serde_json::from_value(object.clone()).ok()?;
        Some(Self { record, object })
    }

    /// The record for programs.
    pub(super) fn object(&self) -> Value {
        self.object.clone()
    }

    /// What the round promised for these groups.
    pub(super) fn guarantees(&self) -> &[String] {
        &self.record.guarantees
    }

    /// How many gave a row, of how many: `11 of 12`.
    pub(super) fn count(&self) -> String {
        let kept = self.record.groups.iter().filter(|group| group.lost.is_none()).count();
        format!("{kept} of {}", self.record.groups.len())
    }

    /// One row per group. The verdict on a group's row is that on each of its survivors.
    pub(super) fn table(&self, clients: &[v1::ClientRound]) -> Table {
        let mut table = Table::new(&[">group", ">members", ">survivors", ">threshold", "row", "not in the sum"]);
        for (number, group) in self.record.groups.iter().enumerate() {
            table.row([
                number.to_string(),
                format::count(group.members.len() as u64),
                format::count(group.survivors.len() as u64),
                format::count(group.threshold as u64),
                row(group, clients),
                gone(group),
            ]);
        }
        table
    }
}

/// What became of a group's row.
fn row(group: &RecordedGroup, clients: &[v1::ClientRound]) -> String {
    if let Some(why) = &group.lost {
        return format!("lost: {why}");
    }
    let of = |survivor: &ClientId| clients.iter().find(|client| client.client == survivor.as_str());
    group.survivors.iter().find_map(of).map_or("-".into(), super::verdict_text)
}

/// Members whose update is not in the sum.
fn gone(group: &RecordedGroup) -> String {
    let gone: Vec<&str> =
        group.members.iter().filter(|member| !group.survivors.contains(member)).map(ClientId::as_str).collect();
    match gone.len() {
        0 => "-".into(),
        count if count > NAMES => format!("{} and {} more", gone[..NAMES].join(", "), count - NAMES),
        _ => gone.join(", "),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Two groups, of which one is lost.
    pub(crate) const RECORD: &str = r#"{"session":"0101010101010101010101010101010101010101010101010101010101010101",
        "groups":[{"members":["alice","bob","carol"],"threshold":2,"survivors":["alice","bob"]},
        {"members":["dave","mallory"],"threshold":2,"survivors":[],"lost":"1 of 2 members shared, fewer than 2"}],
        "guarantees":["server: honest-but-curious server"]}"#;

    #[test]
    fn a_group_shows_its_rows_verdict_or_why_it_is_lost() {
        let round = v1::RoundInfo { groups: RECORD.into(), ..Default::default() };
        let groups = Groups::of(&round).unwrap();
        assert_eq!(groups.count(), "1 of 2");
        let verdict = v1::Verdict { kind: "trimmed".into(), reason: String::new(), value: 0.5 };
        let client = v1::ClientRound { client: "bob".into(), verdict: Some(verdict), ..Default::default() };
        let text = groups.table(&[client]).text(false);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("trimmed 50 %") && lines[1].ends_with("carol"), "{text}");
        assert!(lines[2].contains("lost: 1 of 2 members shared") && lines[2].ends_with("dave, mallory"), "{text}");
    }

    #[test]
    fn clear_mode_and_rubbish_have_no_groups() {
        for text in ["", "{}", "[1]", "{\"groups\":[]}"] {
            let round = v1::RoundInfo { groups: text.into(), ..Default::default() };
            assert!(Groups::of(&round).is_none(), "{text}");
        }
    }
}
