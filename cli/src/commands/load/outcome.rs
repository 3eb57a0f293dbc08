//! What a load test found.

use super::masking::{Kind, Masked};
use crate::{
    exit::{Exit, Failure},
    format::{self, Table},
    output::Output,
};
use serde_json::json;
use testudo_aggregate::RuleConfig;
use testudo_client::{Client, Traffic};
use testudo_engine::RoundRecord;
use testudo_proto::v1::RoundInfo;

/// Everything that was measured.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) clients: u32,
    pub(super) dimension: u64,
    pub(super) rule: RuleConfig,
    /// Masked rounds, if so.
    pub(super) masked: Option<Masked>,
    /// How often a client vanished, as planned.
    pub(super) vanished: u64,
    pub(super) cost: Cost,
    pub(super) connections: usize,
    /// Whether the clients read models without keeping them.
    pub(super) lean: bool,
    pub(super) spool: String,
    /// Rounds in the order in which they ended.
    pub(super) ended: Vec<RoundInfo>,
    pub(super) client_seconds_per_round: Vec<f64>,
    pub(super) wall_seconds: f64,
    pub(super) server_peak_rss_bytes: u64,
    pub(super) client_failures: u64,
    /// The first of them.
    pub(super) errors: Vec<String>,
}

/// What the clients spent, per client and round that ended.
#[derive(Debug)]
pub(super) struct Cost {
    cpu_seconds: Option<f64>,
    bytes_up: f64,
    bytes_down: f64,
}

impl Cost {
    /// Divides what all clients spent: processor time, and payload of those that count their own and of the others.
    pub(super) fn new(cpu: Option<f64>, counted: &[Client], others: Traffic, clients: u32, rounds: usize) -> Self {
        let sum = |of: fn(Traffic) -> u64| counted.iter().map(|client| of(client.traffic())).sum::<u64>() + of(others);
        let parts = f64::from(clients) * rounds.max(1) as f64;
        Self {
            cpu_seconds: cpu.map(|seconds| seconds / parts),
            bytes_up: sum(|traffic| traffic.up) as f64 / parts,
            bytes_down: sum(|traffic| traffic.down) as f64 / parts,
        }
    }
}

impl Outcome {
    /// Prints it.
    ///
    /// # Errors
    /// [`Exit::Partial`] if clients failed or rounds were abandoned.
    pub(super) fn report(&self, output: &Output) -> Result<(), Failure> {
        let seconds = self.seconds_per_round();
        let abandoned: Vec<&RoundInfo> = self.ended.iter().filter(|round| round.state == "abandoned").collect();
        let failures = self.client_failures + abandoned.len() as u64;
        let mut errors = self.errors.clone();
        errors.extend(abandoned.iter().take(3).map(|round| format!("round {}: {}", round.round, round.why)));
        let (groups, lost) = self.groups();
        let masked = self.masked.as_ref();
        let object = json!({
            "clients": self.clients,
            "dimension": self.dimension,
            "rule": self.rule.kind(),
            "rule_parameters": self.rule.to_string(),
            "connections": self.connections,
            "clients_keep_models": !self.lean,
            "spool": self.spool,
            "seconds_per_round": seconds,
            "client_seconds_per_round": self.client_seconds_per_round,
            "wall_seconds": self.wall_seconds,
            "server_peak_rss_bytes": self.server_peak_rss_bytes,
            "failures": failures,
            "client_failures": self.client_failures,
            "abandoned_rounds": abandoned.len(),
            "masking": self.masking().word(),
            "group_size": masked.map_or(1, |masked| masked.group_size),
            "dropout": masked.map_or(0.0, |masked| masked.dropout),
            "step_limit_seconds": masked.map(|masked| masked.step_limit.as_secs_f64()),
            "vanished": self.vanished,
            "groups": groups,
            "lost_groups": lost,
            "client_cpu_seconds": self.cost.cpu_seconds,
            "bytes_up_per_client": self.cost.bytes_up,
            "bytes_down_per_client": self.cost.bytes_down,
            "errors": errors,
        });
        output.result(object, |output| self.text(&seconds, failures, output))?;
        if failures == 0 {
            return Ok(());
        }
        let what = format!("{} of the load test failed", format::plural(failures, "part"));
        Err(Failure::new(Exit::Partial, what, errors.join("\n"))
            .next("fewer clients, a smaller dimension, or more --connections show where it begins"))
    }

    fn masking(&self) -> Kind {
        if self.masked.is_some() { Kind::Pairwise } else { Kind::None }
    }

    /// Groups of all rounds, and how many of them gave no row; both 0 in clear mode.
    fn groups(&self) -> (usize, usize) {
        let records = self.ended.iter().filter_map(|round| serde_json::from_str::<RoundRecord>(&round.groups).ok());
        records.fold((0, 0), |(all, lost), record| {
            let gone = record.groups.iter().filter(|group| group.lost.is_some()).count();
            (all + record.groups.len(), lost + gone)
        })
    }

    fn seconds_per_round(&self) -> Vec<f64> {
        let released = self.ended.iter().filter(|round| round.state == "released");
        released.map(|round| round.ended_at_ms.saturating_sub(round.opened_at_ms) as f64 / 1000.0).collect()
    }

    fn text(&self, seconds: &[f64], failures: u64, output: &Output) -> String {
        let mut table = Table::new(&["", ">"]);
        let mut line = |name: &str, value: String| table.row([name.to_string(), value]);
        line("clients", format!("{} on {}", format::count(self.clients.into()), connections(self.connections)));
        line("dimension", format::count(self.dimension));
        line("rule", self.rule.to_string());
        line("spool", self.spool.clone());
        if let Some(masked) = &self.masked {
            let (groups, lost) = self.groups();
            line("masking", format!("{}, groups of {}", self.masking(), masked.group_size));
            line("groups", format!("{groups}, {lost} lost"));
            line("clients that vanished", self.vanished.to_string());
            if self.vanished > 0 {
                line("step limit, which they cost", format!("{:.2} s", masked.step_limit.as_secs_f64()));
            }
        }
        line("rounds", seconds.len().to_string());
        if let Some([least, median, most]) = spread(seconds) {
            line("seconds per round, least", format!("{least:.3}"));
            line("seconds per round, median", format!("{median:.3}"));
            line("seconds per round, most", format!("{most:.3}"));
            let uploaded = f64::from(self.clients) * self.dimension as f64 * 4.0;
            line("updates taken, median", format!("{}/s", format::bytes((uploaded / median.max(1e-3)) as u64)));
        }
        if let Some(seconds) = self.cost.cpu_seconds {
            line("processor time per client and round", format!("{:.2} ms", seconds * 1e3));
        }
        line("sent per client and round", format::bytes(self.cost.bytes_up as u64));
        line("received per client and round", format::bytes(self.cost.bytes_down as u64));
        line("all rounds", format!("{:.2} s", self.wall_seconds));
        line("server's peak memory", format::bytes(self.server_peak_rss_bytes));
        line("failures", failures.to_string());
        // The first line is the empty heading.
        let text = table.text(output.colour);
        text.lines().skip(1).collect::<Vec<_>>().join("\n")
    }
}

fn connections(count: usize) -> String {
    format::plural(count as u64, "connection")
}

/// Least, median and most.
fn spread(values: &[f64]) -> Option<[f64; 3]> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = match sorted.len() % 2 {
        1 => *sorted.get(middle)?,
        _ => (sorted.get(middle.checked_sub(1)?)? + sorted.get(middle)?) / 2.0,
    };
    Some([*sorted.first()?, median, *sorted.last()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_both_middles() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[2.0]), Some([2.0, 2.0, 2.0]));
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some([1.0, 2.0, 3.0]));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Some([1.0, 2.5, 4.0]));
    }
}
