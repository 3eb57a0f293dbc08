//! `testudo privacy show` and `verify-ledger`: what was spent, and whether the charges prove it.

use super::rounded_up;
use crate::{
    connection::Connection,
    exit::{Exit, Failure},
    file,
    format::{Table, clean, count, plural},
    output::Output,
};
use clap::Args;
use serde_json::json;
use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};
use testudo_privacy::budget::{ChargeMechanism, Gate};
use testudo_proto::v1::GetBudgetRequest;
use testudo_server::{
    statement::{self, Statement, TaskStatement},
    store::{self, Heads},
};

/// The ledger's name in a data directory.
const LEDGER: &str = "ledger.sqlite";
/// What a SQLite file begins with.
const SQLITE: &[u8] = b"SQLite format 3\0";
/// Longest export.
const EXPORT_BYTES: u64 = 1 << 30;
/// Most charges of one population: more than a century of rounds.
const MOST_CHARGES: usize = 10_000_000;
/// Charges asked for at once.
const PAGE: u32 = 10_000;

/// `testudo privacy show`.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// Read the ledger of this data directory instead of asking a server
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Only this population
    #[arg(long, value_name = "NAME")]
    population: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

/// `testudo privacy verify-ledger`.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// A ledger.sqlite, or what `testudo privacy show --json` printed
    #[arg(value_name = "FILE", required_unless_present = "data_dir")]
    file: Option<PathBuf>,
    /// The ledger of this data directory
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    data_dir: Option<PathBuf>,
}

impl Show {
    /// Prints budgets.
    ///
    /// # Errors
    /// No server, no ledger, or no such population.
    pub(super) async fn run(self, output: &Output) -> Result<(), Failure> {
        let what = "cannot show privacy budgets";
        let mut statements = match &self.data_dir {
            Some(directory) => read(&directory.join(LEDGER), what).await?.0,
            None => self.ask(what, output).await?,
        };
        if let Some(population) = &self.population {
            statements.retain(|statement| statement.population == *population);
            if statements.is_empty() {
                let why = format!("no privacy budget of population {population:?}");
                return Err(Failure::new(Exit::NotFound, what, why).next("`testudo privacy show` lists all"));
            }
        }
        if statements.is_empty() && !output.json {
            output.note("no privacy budgets yet: tasks with [privacy] make them");
        }
        output.result(json!({ "budgets": statements }), |output| {
            statements.iter().map(|statement| text(statement, output.colour)).collect::<Vec<_>>().join("\n\n")
        })
    }

    async fn ask(&self, what: &str, output: &Output) -> Result<Vec<Statement>, Failure> {
        let admin = self.connection.open(output).await?;
        let mut client = admin.client();
        let populations = match &self.population {
            Some(population) => vec![population.clone()],
            None => {
                let all = admin.answer(what, client.get_budget(GetBudgetRequest::default())).await?.budgets;
                all.into_iter().map(|budget| budget.population).collect()
            }
        };
        let mut statements = Vec::with_capacity(populations.len());
        for population in populations {
            let mut entries = Vec::new();
            loop {
                let request =
                    GetBudgetRequest { population: population.clone(), from: entries.len() as u64, limit: PAGE };
                let budgets = admin.answer(what, client.get_budget(request)).await?.budgets;
                let strange = |why: String| Failure::new(Exit::Verification, what, why);
                let [budget] =
                    <[_; 1]>::try_from(budgets).map_err(|_| strange("the server's answer is not one budget".into()))?;
                let (account, page) = statement::from_wire(budget).map_err(|error| strange(error.to_string()))?;
                let next = entries.len() as u64;
                if (next..).zip(&page).any(|(number, entry)| entry.index != number) {
                    return Err(strange(format!("charge number {next} is not the next one that the server sends")));
                }
                let empty = page.is_empty();
                entries.extend(page);
                // What was charged meanwhile belongs to a later answer: the last one is consistent in itself.
                let wanted = account.head.map_or(0, |(index, _)| index.saturating_add(1));
                if entries.len() as u64 >= wanted {
                    statements.push(Statement::new(&account, Some(&entries)));
                    break;
                }
                if empty || entries.len() > MOST_CHARGES {
                    return Err(strange(format!("the server has {wanted} charges and sends {}", entries.len())));
                }
            }
        }
        Ok(statements)
    }
}

impl Verify {
    /// Adds every chain up again.
    ///
    /// # Errors
    /// [`Exit::Verification`] with the first thing that does not hold.
    pub(super) async fn run(self, output: &Output) -> Result<(), Failure> {
        let what = "the ledger does not hold";
        let is_whole = self.data_dir.is_some();
        let path = match (self.file, self.data_dir) {
            (Some(file), _) => file,
            (None, Some(directory)) => directory.join(LEDGER),
            (None, None) => return Err(Failure::new(Exit::Usage, "nothing to verify", "give FILE or --data-dir")),
        };
        let (statements, published) = match is_ledger(&path)? {
            true => read(&path, "cannot verify the ledger").await?,
            false => (export(&path)?, None),
        };
        let broken = |population: &str, why: String| {
            Failure::new(Exit::Verification, what, format!("population {population:?}: {why}"))
                .next("stop releasing for this population; see \"Privacy budgets\" in docs/operations.md")
        };
        if let Some(published) = &published
            && let Some(population) = statement::missing(published, &statements).first()
        {
            return Err(broken(
                population,
                "budget.head knows it and the ledger does not: this is an older ledger".into(),
            ));
        }
        // A copy of the ledger has no such file beside it; a server's own directory has.
        if is_whole && published.is_none() && statements.iter().any(|statement| statement.head.is_some()) {
            let why = format!(
                "{} is missing, although privacy budgets were charged: whether the ledger is the newest one cannot be told",
                path.with_file_name("budget.head").display()
            );
            return Err(Failure::new(Exit::Verification, what, why).next(format!(
                "put back the newest copy of it (\"Privacy budgets\" in docs/operations.md); `testudo privacy verify-ledger {}` adds \
                 the charges up without it",
                path.display()
            )));
        }
        for statement in &statements {
            let head = published.as_ref().and_then(|heads| heads.get(&statement.population)).copied();
            statement.verify(head).map_err(|error| broken(&statement.population, error.to_string()))?;
        }
        let budgets: Vec<_> = statements
            .iter()
            .map(|statement| {
                json!({
                    "population": statement.population,
                    "charges": statement.history.as_ref().map(Vec::len),
                    "spent_units": statement.units.spent,
                    "epsilon_spent": statement.epsilon_spent,
                    "epsilon_limit": statement.epsilon_limit,
                    "delta": statement.delta,
                    "head": statement.head,
                })
            })
            .collect();
        let object = json!({ "verified": true, "head_file": published.is_some(), "budgets": budgets });
        output.result(object, |_| {
            let mut lines: Vec<String> = statements.iter().map(verified).collect();
            lines.push(match published {
                Some(_) => "sound: every chain adds up to what is shown as spent, and budget.head agrees".into(),
                None => "every chain adds up to what is shown as spent; there is no budget.head beside it, so whether these are \
                         all charges, or an older state, is not known"
                    .into(),
            });
            lines.join("\n")
        })
    }
}

async fn read(path: &Path, what: &str) -> Result<(Vec<Statement>, Option<Heads>), Failure> {
    // SQLite would say the same with fewer words.
    file::open(path)?;
    let (budgets, published) =
        store::read_budgets(path).await.map_err(|error| Failure::new(Exit::Verification, what, error.to_string()))?;
    let statements = budgets.iter().map(|(account, entries)| Statement::new(account, Some(entries))).collect();
    Ok((statements, published))
}

fn is_ledger(path: &Path) -> Result<bool, Failure> {
    let (file, _): (File, u64) = file::open(path)?;
    let mut start = Vec::with_capacity(SQLITE.len());
    file.take(SQLITE.len() as u64)
        .read_to_end(&mut start)
        .map_err(|error| Failure::new(Exit::NotFound, format!("cannot read {}", path.display()), error.to_string()))?;
    Ok(start == SQLITE)
}

fn export(path: &Path) -> Result<Vec<Statement>, Failure> {
    #[derive(serde::Deserialize)]
    struct Export {
        budgets: Vec<Statement>,
    }
    let text = file::read_text(path, EXPORT_BYTES)?;
    let export: Export = serde_json::from_str(&text).map_err(|error| {
        Failure::new(Exit::Usage, format!("{} is no export of budgets", path.display()), error.to_string())
            .next("`testudo privacy show --json` writes one")
    })?;
    Ok(export.budgets)
}

fn verified(statement: &Statement) -> String {
    let charges = statement.history.as_ref().map_or(0, Vec::len) as u64;
    let head =
        statement.head.as_ref().map_or("no charge yet".into(), |head| format!("head {}", hex::encode(head.hash)));
    format!(
        "{}: {}, ε = {} of {} at δ = {:e}, {head}",
        clean(&statement.population),
        plural(charges, "charge"),
        rounded_up(statement.epsilon_spent),
        statement.epsilon_limit,
        statement.delta
    )
}

/// A budget for people.
pub(crate) fn text(statement: &Statement, colour: bool) -> String {
    let unknown = || "unknown".to_owned();
    let mut lines = vec![
        format!("population    {}", clean(&statement.population)),
        format!(
            "spent         ε = {} of {} at δ = {:e}: a worst-case bound on what all releases tell about one {}",
            rounded_up(statement.epsilon_spent),
            statement.epsilon_limit,
            statement.delta,
            clean(&statement.privacy_unit)
        ),
        format!("promised      ε = {} with what is reserved and planned", rounded_up(statement.epsilon_promised)),
        format!(
            "unamplified   ε = {} of what is spent, without any claim for sampling",
            statement.epsilon_unamplified.map_or_else(unknown, rounded_up)
        ),
        format!(
            "counted by    {}",
            match statement.gate {
                Gate::Rho => "the exact ε of Gaussians".to_owned(),
                Gate::Zcdp => "zero-concentrated divergence".to_owned(),
                Gate::Renyi { order } => format!("the Rényi divergence at order {order}, chosen with the first task"),
            }
        ),
        format!("rho           {}", statement.rho_spent.map_or_else(unknown, |rho| format!("{rho:.9}"))),
        format!("trust model   {}", clean(&statement.trust_model)),
    ];
    let mut tasks = Table::new(&[
        "task",
        "state",
        "trust",
        "adjacency",
        "mechanism",
        ">z over sensitivity",
        ">z over clip",
        ">sigma",
        ">clip",
        ">rounds",
        ">reserved",
        ">charged",
        ">released",
        ">left",
    ]);
    for task in &statement.tasks {
        tasks.row(task_row(task));
    }
    lines.push(tasks.text(colour));
    lines.extend(statement.tasks.iter().filter_map(|task| per_client(task, statement.delta)));
    for warning in &statement.warnings {
        lines.push(format!("warning       {}", clean(warning)));
    }
    lines.push("not covered:".into());
    lines.extend(statement.not_covered.iter().map(|line| format!("  - {}", clean(line))));
    if let Some(history) = statement.history.as_ref().filter(|history| !history.is_empty()) {
        let mut table = Table::new(&[">charge", "task", ">round", "release", "hash"]);
        for line in history {
            let release =
                line.release.as_deref().map_or("abandoned too late", |digest| digest.get(..16).unwrap_or("?"));
            table.row([
                line.index.to_string(),
                clean(&line.task),
                line.round.to_string(),
                clean(release),
                hex::encode(&line.hash[..8]),
            ]);
        }
        lines.push(table.text(colour));
    }
    lines.join("\n")
}

/// What the updates of the busiest client of a task tell about it, where clients noise their own.
fn per_client(task: &TaskStatement, delta: f64) -> Option<String> {
    let (updates, epsilon) = (task.most_updates?, task.epsilon_of_most?);
    Some(format!(
        "per client    task {}: at most {} of any one client recorded, ε = {} at δ = {delta:e}",
        clean(&task.task),
        plural(updates, "update"),
        rounded_up(epsilon)
    ))
}

fn task_row(task: &TaskStatement) -> [String; 14] {
    let adjacency = serde_json::to_value(task.adjacency).ok();
    let adjacency = adjacency.as_ref().and_then(|value| value.as_str()).unwrap_or_default().replace('_', "-");
    let mechanism = match task.mechanism {
        ChargeMechanism::Gaussian | ChargeMechanism::Local => "gaussian".into(),
        ChargeMechanism::Shares { honest, .. } => format!("shares of {honest} honest clients"),
        ChargeMechanism::PoissonGaussian { rate } => format!("gaussian, poisson rate {rate}"),
        ChargeMechanism::Correlated { rounds, .. } => {
            let limit = task.participation_limit.map(|limit| {
                format!(
                    "; a client in at most {}, at least {} apart",
                    plural(limit.most().into(), "round"),
                    limit.gap()
                )
            });
            format!("{} over {rounds} rounds{}", clean(&task.mechanism_word), limit.unwrap_or_default())
        }
        ChargeMechanism::CorrelatedStep { step } => format!("step {step} of a run"),
    };
    let figure = |value: Option<f64>| value.map_or("unknown".into(), |value| format!("{value:.6}"));
    let (sigma, clip) = match task.adaptive_clip {
        true => ("with the clip".into(), format!("from {}", figure(task.clip))),
        false => (figure(task.sigma), figure(task.clip)),
    };
    // Where the clip moves, sigma moves with it, and has room for the bits: task.toml alone knows z over the clip.
    let over_clip = match (task.adaptive_clip, task.sigma, task.clip) {
        (false, Some(sigma), Some(clip)) => format!("{:.6}", sigma / clip),
        _ => "-".into(),
    };
    [
        clean(&task.task),
        clean(&task.state),
        clean(&task.trust),
        adjacency,
        mechanism,
        format!("{:.6}", task.noise_multiplier),
        over_clip,
        sigma,
        clip,
        count(task.rounds_planned),
        count(task.rounds_reserved),
        count(task.rounds_charged),
        count(task.rounds_released),
        count(task.rounds_left),
    ]
}
