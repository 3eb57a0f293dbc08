//! `testudo demo`: poisoned clients against the mean and against a robust rule, over a real server.

mod learner;
mod plan;
mod secure;
mod show;
mod training;

use crate::{
    commands::load::operator::{Certificates, Operator},
    exit::{Exit, Failure, chain},
    file::Draft,
    format::{self, Table, Tone},
    output::Output,
};
use clap::Args;
use learner::Learner;
use plan::Plan;
use secure::{Secure, View};
use serde_json::json;
use show::Show;
use std::{path::PathBuf, time::Instant};
use testudo_aggregate::RuleConfig;
use testudo_server::{Config, Server};
use testudo_simulator::report::Report;
use training::{Trained, Training};

const WHAT: &str = "cannot run the demo";

/// `testudo demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
One server and real clients in this process, over gRPC on the loopback. They train a network on handwritten digits
three times: `clean` (nobody attacks, mean), `poisoned` (attackers, mean), `defended` (attackers, robust rule).
Of the poisoned clients, one sends NaN and one a wrong shape (if there are at least three); the others attack as told.
The same seed gives the same numbers.

With --secure 96 clients train under pairwise masking in groups of 8: the server sees 12 sums and no update, 3 clients are
poisoned, 6 vanish in different steps of one round, and the robust rule works on the sums. Keys, groups and rounding come
from the system's randomness there, so the numbers differ a little from run to run.

Examples:
  testudo demo
  testudo demo --attack ipm:2 --rule multi_krum --seed 7
  testudo demo --clients 30 --poisoned 9 --rule median
  testudo demo --secure
  testudo demo --secure --clients 64 --group-size 8 --poisoned 1 --rule median
  testudo demo --json --report out.html")]
pub(crate) struct Demo {
    /// Mask the updates: the server sees sums of groups only
    #[arg(long)]
    secure: bool,
    /// Clients; 20 unless told, 96 with --secure
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(3..=500))]
    clients: Option<u32>,
    /// How many of them are poisoned, fewer than half; a fifth unless told, 3 with --secure
    #[arg(long, value_name = "N")]
    poisoned: Option<u32>,
    /// Clients of a group
    #[arg(long, value_name = "N", default_value_t = 8, requires = "secure", value_parser = clap::value_parser!(u32).range(8..=100))]
    group_size: u32,
    /// Honest clients that vanish in different steps of round 2 of the defended training
    #[arg(long, value_name = "N", default_value_t = 6, requires = "secure")]
    dropouts: u32,
    /// What the poisoned ones do: a kind with its parameters, of `testudo simulate --list-attacks`. They see the released
    /// models and their own updates, nothing of the others. Unless told sign_flip:scale=10, with --secure scale=100
    #[arg(long, value_name = "ATTACK")]
    attack: Option<String>,
    /// The robust rule: a kind, or TOML as in task.toml; `byzantine` is the number of poisoned clients unless told. Unless
    /// told multi_krum, with --secure trimmed_mean
    #[arg(long, value_name = "KIND|TOML")]
    rule: Option<String>,
    /// Rounds of each training; 20 unless told, 12 with --secure
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    rounds: Option<u64>,
    /// What all random choices follow from
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Where to write the report
    #[arg(long, value_name = "FILE", default_value = "testudo-report.html")]
    report: PathBuf,
}

impl Demo {
    /// Runs the three trainings, prints what came of them, and writes the report.
    ///
    /// # Errors
    /// Impossible options, a report that cannot be written, a client or server that fails.
    pub(crate) async fn run(self, output: &Output) -> Result<(), Failure> {
        let started = Instant::now();
        let plan = Plan::new(&self)?;
        // Begun first: a report that cannot be written is known before the work.
        let mut draft = Draft::begin(&self.report, true)?;
        let (trained, views) = self.train(&plan, output).await?;
        let report = self.compare(&plan, &trained);
        draft.write(report.to_html().as_bytes())?;
        draft.finish()?;
        let path = std::path::absolute(&self.report).unwrap_or_else(|_| self.report.clone());
        let seconds = started.elapsed().as_secs_f64();
        let runs: Vec<_> = trained.iter().map(Trained::object).collect();
        let mut object = json!({
            "seed": self.seed,
            "seconds": seconds,
            "report": path.display().to_string(),
            "clients": plan.clients,
            "poisoned": plan.poisoned,
            "attack": plan.attack.to_string(),
            "rounds": plan.rounds,
            "runs": runs,
        });
        if let (Some(secure), Some(seen)) = (&plan.secure, &views) {
            let lost = trained.iter().map(|trained| trained.lost_groups).sum();
            let guarantees = &seen.record.guarantees;
            object["secure"] = seen.object(secure, guarantees, lost);
        }
        output.result(object, |output| self.text(&plan, &trained, views.as_ref(), &report, (&path, seconds), output))
    }

    async fn train(&self, plan: &Plan, output: &Output) -> Result<(Vec<Trained>, Option<View>), Failure> {
        let mut config = Config::ephemeral();
        // Every round's model is fetched to be measured.
        config.storage.keep_models = 0;
        let server = Server::start(config)
            .await
            .map_err(|error| Failure::new(Exit::Unavailable, WHAT, chain(&error)).next("`testudo doctor` may help"))?;
        let url = format!("http://{}", server.address());
        let operator = Operator::connect(&url, &Certificates::default()).await?;
        let learners = Learner::connect_all(plan, &url).await?;
        let show = Show::new(output, plan);
        let (mut trained, mut view) = (Vec::new(), None);
        for (name, attacked, rule) in plan.trainings() {
            let training =
                Training { plan, operator: &operator, learners: &learners, show: &show, name, attacked, rule };
            let (run, seen) = training.run().await?;
            trained.push(run);
            view = seen.or(view);
        }
        show.finish();
        server.stop().await;
        Ok((trained, view))
    }

    fn compare(&self, plan: &Plan, trained: &[Trained]) -> Report {
        let percent = |name: &str| {
            let run = trained.iter().find(|trained| trained.report.name == name);
            run.map_or_else(|| "-".into(), |run| show::percent(run.accuracy()))
        };
        let summary = vec![
            format!(
                "The robust rule kept {} accuracy although {} of {} clients attacked.",
                percent("defended"),
                plan.poisoned,
                plan.clients
            ),
            format!(
                "Without attackers: {}. Under attack with the plain mean: {}.",
                percent("clean"),
                percent("poisoned")
            ),
        ];
        let settings = [
            ("data", "UCI optical digits, 1,437 to train, 360 to test".to_string()),
            ("workload", format!("MLP 64-64-10, {} parameters", format::count(plan.dimension() as u64))),
            ("clients", format!("{}, {} poisoned", plan.clients, plan.poisoned)),
            (
                "masking",
                plan.secure.as_ref().map_or("none".into(), |secure| {
                    format!("pairwise, groups of {}, {} dropouts", secure.group_size, secure.dropouts.len())
                }),
            ),
            ("attack", plan.attack.to_string()),
            ("robust rule", plan.rule.to_string()),
            ("rounds", plan.rounds.to_string()),
            ("local training", plan.training_text()),
            ("seed", self.seed.to_string()),
        ];
        Report {
            title: "Poisoned clients against the mean and a robust rule".into(),
            summary,
            runs: trained.iter().map(|trained| trained.report.clone()).collect(),
            settings: settings.into_iter().map(|(name, value)| (name.to_string(), value)).collect(),
            command: self.command(plan),
        }
    }

    /// The command that gives the same numbers.
    fn command(&self, plan: &Plan) -> String {
        let secure = plan.secure.as_ref().map_or(String::new(), |secure| {
            format!("--secure --group-size {} --dropouts {} ", secure.group_size, secure.dropouts.len())
        });
        format!(
            "testudo demo {secure}--clients {} --poisoned {} --attack '{}' --rule '{}' --rounds {} --seed {}",
            plan.clients, plan.poisoned, plan.attack, plan.rule_text, plan.rounds, self.seed
        )
    }

    fn text(
        &self,
        plan: &Plan,
        trained: &[Trained],
        view: Option<&View>,
        report: &Report,
        (path, seconds): (&std::path::Path, f64),
        output: &Output,
    ) -> String {
        let mut table =
            Table::new(&["training", "rule", ">test accuracy", ">verdicts right", ">wrong", ">honest rejected"]);
        for run in trained {
            let tally = run.report.tally();
            table.row([
                run.report.name.clone(),
                run.rule.to_string(),
                show::percent(run.accuracy()),
                format::count(tally.right() as u64),
                format::count(tally.wrong() as u64),
                format::count(tally.honest_rejected as u64),
            ]);
        }
        let mut headline = report.summary.first().cloned().unwrap_or_default();
        if let (Some(secure), Some(view)) = (&plan.secure, view) {
            let lost: usize = trained.iter().map(|trained| trained.lost_groups).sum();
            headline += &format!(
                " {} clients vanished in different steps of round {}; {lost} groups were lost by it.\n\n{}",
                secure.dropouts.len(),
                Secure::ROUND,
                view.line()
            );
        }
        format!(
            "\n{}\n\n{}\n\nreport: {} ({seconds:.1} s)\n\nnext:\n  \
             testudo demo {}\n  \
             testudo load --rule krum                           how fast the server is on this machine\n  \
             testudo init && testudo serve                      a server of your own",
            table.text(output.colour),
            Tone::Heading.paint(&headline, output.colour),
            format::clean(&path.display().to_string()),
            match plan.secure {
                None => "--secure                              the same with updates that the server never sees",
                Some(_) => "--attack ipm:2 --rule trimmed_mean    another attack, another rule, no masks",
            },
        )
    }
}

/// The mean, which withstands nothing.
fn mean() -> RuleConfig {
    RuleConfig::mean()
}
