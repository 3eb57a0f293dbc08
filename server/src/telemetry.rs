//! Logs and metrics. No client id in a label; no payload and no key in a log.

use crate::config::{Log, LogFormat};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{io, sync::Arc};
use testudo_protocol::Verdict;
use tracing_subscriber::EnvFilter;

/// Sends logs to standard error. Called once, by the program.
///
/// # Errors
/// If a subscriber is installed already or the filter is malformed.
pub fn init_logging(log: &Log) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = EnvFilter::try_new(&log.level)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match log.format {
        LogFormat::Text => {
            // Colours only where a person reads.
            let colours = io::IsTerminal::is_terminal(&io::stderr()) && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(colours).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TaskOutcome {
    task: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TaskLabel {
    task: String,
}

/// The server's metrics, all named `testudo_…`.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    pub(crate) connections: Gauge,
    refused_connections: Family<Outcome, Counter>,
    updates: Family<Outcome, Counter>,
    rounds: Family<TaskOutcome, Counter>,
    round: Family<TaskLabel, Gauge>,
    waiting: Family<TaskLabel, Gauge>,
    participations: Family<TaskLabel, Gauge>,
    separation: Family<TaskLabel, Gauge>,
    round_seconds: Histogram,
    pub(crate) upload_bytes: Counter,
    pub(crate) download_bytes: Counter,
    pub(crate) resumed_uploads: Counter,
    pub(crate) panics: Counter,
    pub(crate) rate_limited: Counter,
    resident: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("testudo");
        let connections = Gauge::default();
        registry.register("connections", "Open connections", connections.clone());
        let refused_connections = Family::<Outcome, Counter>::default();
        registry.register("refused_connections", "Connections refused, by reason", refused_connections.clone());
        let updates = Family::<Outcome, Counter>::default();
        registry.register("updates", "Verdicts on updates, by outcome and reason", updates.clone());
        let rounds = Family::<TaskOutcome, Counter>::default();
        registry.register("rounds", "Ended rounds, by outcome", rounds.clone());
        let round = Family::<TaskLabel, Gauge>::default();
        registry.register("round", "Number of the newest round", round.clone());
        let waiting = Family::<TaskLabel, Gauge>::default();
        registry.register("clients_waiting", "Clients checked in and waiting", waiting.clone());
        let participations = Family::<TaskLabel, Gauge>::default();
        registry.register(
            "participations_limit",
            "Most rounds of one client, where the noise is sized for it",
            participations.clone(),
        );
        let separation = Family::<TaskLabel, Gauge>::default();
        registry.register(
            "separation_limit",
            "How many rounds apart two of one client are at least",
            separation.clone(),
        );
        let round_seconds = Histogram::new([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0]);
        registry.register_with_unit(
            "round_duration",
            "Opening to end of a round",
            Unit::Seconds,
            round_seconds.clone(),
        );
        let upload_bytes = Counter::default();
        registry.register_with_unit("upload", "Payload received", Unit::Bytes, upload_bytes.clone());
        let download_bytes = Counter::default();
        registry.register_with_unit("download", "Models sent", Unit::Bytes, download_bytes.clone());
        let resumed_uploads = Counter::default();
        registry.register("resumed_uploads", "Uploads continued after a lost connection", resumed_uploads.clone());
        let panics = Counter::default();
        registry.register("panics", "Panics contained; each is a bug", panics.clone());
        let rate_limited = Counter::default();
        registry.register("rate_limited", "Check-ins refused because they came too often", rate_limited.clone());
        let resident = Gauge::default();
        registry.register_with_unit("resident_memory", "Resident memory", Unit::Bytes, resident.clone());
        Self {
            registry: Arc::new(registry),
            connections,
            refused_connections,
            updates,
            rounds,
            round,
            waiting,
            participations,
            separation,
            round_seconds,
            upload_bytes,
            download_bytes,
            resumed_uploads,
            panics,
            rate_limited,
            resident,
        }
    }

    pub(crate) fn connection_refused(&self, reason: &'static str) {
        self.refused_connections.get_or_create(&Outcome { outcome: "refused", reason }).inc();
    }

    pub(crate) fn verdict(&self, verdict: &Verdict) {
        let reason = verdict.reason().map_or("none", |reason| reason.code());
        self.updates.get_or_create(&Outcome { outcome: verdict.kind(), reason }).inc();
    }

    pub(crate) fn round_opened(&self, task: &str, number: u64) {
        self.round.get_or_create(&TaskLabel { task: task.into() }).set(number as i64);
    }

    pub(crate) fn round_ended(&self, task: &str, outcome: &'static str, seconds: f64) {
        self.rounds.get_or_create(&TaskOutcome { task: task.into(), outcome }).inc();
        self.round_seconds.observe(seconds);
    }

    pub(crate) fn waiting(&self, task: &str, count: usize) {
        self.waiting.get_or_create(&TaskLabel { task: task.into() }).set(count as i64);
    }

    pub(crate) fn participation_limit(&self, task: &str, participations: u32, separation: u64) {
        self.participations.get_or_create(&TaskLabel { task: task.into() }).set(participations.into());
        self.separation.get_or_create(&TaskLabel { task: task.into() }).set(separation as i64);
    }

    /// The text a Prometheus server scrapes.
    pub(crate) fn text(&self) -> String {
        self.resident.set(crate::memory::resident().0 as i64);
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testudo_protocol::Reason;

    #[test]
    fn metrics_are_prometheus_text_with_closed_labels() {
        let metrics = Metrics::new();
        metrics.verdict(&Verdict::Rejected { reason: Reason::NonFinite });
        metrics.round_ended("t", "released", 0.2);
        let text = metrics.text();
        assert!(text.contains("testudo_updates_total{outcome=\"rejected\",reason=\"NON_FINITE\"} 1"), "{text}");
        assert!(text.contains("testudo_rounds_total{task=\"t\",outcome=\"released\"} 1"), "{text}");
        assert!(text.contains("testudo_round_duration_seconds_count 1"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
