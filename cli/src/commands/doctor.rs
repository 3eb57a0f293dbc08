//! `testudo doctor`.

use crate::{
    commands::serve,
    connection::Security,
    exit::{Exit, Failure},
    format::{self, Table},
    output::Output,
};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use testudo_proto::v1;
use testudo_server::{Check, CheckState, Config};

/// Options of `testudo doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Exit code 3 if a check failed; warnings do not fail.

Examples:
  testudo doctor
  testudo doctor --config server.toml
  testudo doctor --server http://127.0.0.1:8443 --json")]
pub(crate) struct Doctor {
    /// The server's configuration; without it the defaults of `testudo serve`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Also ask this running server
    #[arg(long, value_name = "URL", help_heading = "Connection")]
    server: Option<String>,
    #[command(flatten)]
    security: Security,
}

impl Doctor {
    /// Runs every check and prints what to mend.
    ///
    /// # Errors
    /// [`Exit::Config`] if a check failed.
    pub(crate) async fn run(self, output: &Output) -> Result<(), Failure> {
        let mut checks = Vec::new();
        match self.read_config() {
            Ok((config, detail)) => {
                checks.push(check("config", CheckState::Ok, detail, ""));
                checks.extend(testudo_server::checks(&config).await);
            }
            Err(failure) => checks.push(from_failure("config", &failure)),
        }
        if let Some(server) = &self.server {
            checks.extend(self.ask(server, output).await);
        }
        report(&checks, output)
    }

    fn read_config(&self) -> Result<(Config, String), Failure> {
        match &self.config {
            None => Ok((Config::default(), "embedded defaults".into())),
            Some(path) => serve::read_config(path).map(|config| (config, path.display().to_string())),
        }
    }

    async fn ask(&self, server: &str, output: &Output) -> Vec<Check> {
        let info = async {
            let admin = self.security.open(server, output).await?;
            let mut client = admin.client();
            admin.answer("cannot ask the server", client.get_server(v1::GetServerRequest {})).await
        };
        let info = match info.await {
            Ok(info) => info,
            Err(failure) => return vec![from_failure("server", &failure)],
        };
        let detail = format!(
            "version {}, {}, spool {}, store {}, resident {} (peak {}), up since {}",
            info.version,
            info.transport,
            info.spool,
            info.store,
            format::bytes(info.resident_bytes),
            format::bytes(info.peak_resident_bytes),
            format::time(info.started_at_ms)
        );
        let mut checks = vec![check("server", CheckState::Ok, detail, "")];
        if let Some(key) = format::key(&info.server_key) {
            let detail = format!("{key} signs masked rounds; clients pin it with --server-key");
            checks.push(check("server key", CheckState::Ok, detail, ""));
        }
        let ours = env!("CARGO_PKG_VERSION");
        if info.version != ours {
            let detail = format!("the server is {}, this program {ours}", info.version);
            checks.push(check("version", CheckState::Warning, detail, "use the same version on both sides"));
        }
        checks.extend(info.warnings.into_iter().map(|warning| check("server", CheckState::Warning, warning, "")));
        checks
    }
}

fn check(name: &str, state: CheckState, detail: impl Into<String>, fix: &str) -> Check {
    Check { name: name.into(), state, detail: detail.into(), fix: fix.into() }
}

fn from_failure(name: &str, failure: &Failure) -> Check {
    check(name, CheckState::Failed, format!("{}: {}", failure.what, failure.why), &failure.next)
}

fn word(state: &CheckState) -> &'static str {
    match state {
        CheckState::Ok => "ok",
        CheckState::Warning => "warning",
        CheckState::Failed => "failed",
    }
}

fn report(checks: &[Check], output: &Output) -> Result<(), Failure> {
    let failed = checks.iter().filter(|check| matches!(check.state, CheckState::Failed)).count() as u64;
    let list: Vec<_> = checks
        .iter()
        .map(|check| json!({ "name": check.name, "state": word(&check.state), "detail": check.detail, "fix": check.fix }))
        .collect();
    output.result(json!({ "ok": failed == 0, "failed": failed, "checks": list }), |output| {
        let mut table = Table::new(&["check", "state", "found"]);
        for check in checks {
            let mut lines = check.detail.lines();
            table.row([check.name.clone(), word(&check.state).into(), lines.next().unwrap_or_default().into()]);
            for line in lines {
                table.row([String::new(), String::new(), line.into()]);
            }
            if !check.fix.is_empty() {
                table.row([String::new(), String::new(), format!("fix: {}", check.fix)]);
            }
        }
        table.text(output.colour)
    })?;
    if failed == 0 {
        return Ok(());
    }
    let failure = Failure::new(Exit::Config, format!("{} failed", format::plural(failed, "check")), "");
    // The list above is the one JSON object of this command; the failure joins it only as text and exit code.
    Output { json: false, ..*output }.failure(&failure);
    Err(Failure { what: String::new(), ..failure })
}
