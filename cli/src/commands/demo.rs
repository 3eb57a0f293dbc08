//! `testudo demo`: poisoned clients against the mean and against a robust rule, over a real server.

mod learner;
mod mode;
mod outcome;
mod plan;
mod private;
mod secure;
mod show;
mod training;

use crate::{
    commands::load::operator::{Certificates, Operator},
    exit::{Exit, Failure, chain},
    file::Draft,
    format::{self, Tone},
    output::Output,
};
use clap::Args;
use learner::Learner;
use outcome::Outcome;
use plan::Plan;
use private::Spent;
use secure::View;
use serde_json::json;
use show::Show;
use std::{path::PathBuf, time::Instant};
use testudo_aggregate::RuleConfig;
use testudo_client::Policy;
use testudo_server::{Config, Server, config::Medium};
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

With --dp 100 clients train a smaller model, and the robust training is differentially private: updates are clipped and
added in integers, noise goes on the sum before anything is released, every release is charged to a budget before it is
published, and no verdict on a client is shown. What was spent, what it means and what it does not cover is printed. Noise
comes from the system's randomness, so its numbers differ from run to run.

With --dp and --secure the same without a server to trust: in the robust training 192 clients mask their updates in 3 groups of
64 and add shares of the noise, and the robust rule works on three noised sums. One client is poisoned, and neither clips nor
noises. A liar hides in the noise of a row, so it costs more accuracy and a larger epsilon than a trusted server does. The
other two trainings are in the clear.

Examples:
  testudo demo
  testudo demo --attack ipm:2 --rule multi_krum --seed 7
  testudo demo --clients 30 --poisoned 9 --rule median
  testudo demo --secure
  testudo demo --dp
  testudo demo --dp --noise-multiplier 6 --data-dir dp && testudo privacy show --data-dir dp
  testudo demo --dp --secure
  testudo demo --secure --clients 64 --group-size 8 --poisoned 1 --rule median
  testudo demo --json --report out.html")]
pub(crate) struct Demo {
    /// Mask the updates: the server sees sums of groups only
    #[arg(long, visible_alias = "masked")]
    secure: bool,
    /// Make the robust training differentially private, and show its budget
    #[arg(long)]
    dp: bool,
    /// Standard deviation of the noise on the sum, as a multiple of the clip; 4 unless told, with --secure 1.5 on each sum
    #[arg(long, value_name = "Z", requires = "dp")]
    noise_multiplier: Option<f64>,
    /// Limit of epsilon over all releases; 5 unless told, 10 with --secure
    #[arg(long, value_name = "E", requires = "dp")]
    budget_epsilon: Option<f64>,
    /// Where to keep the ledger, for `testudo privacy show --data-dir`; gone with the demo unless told
    #[arg(long, value_name = "DIR", requires = "dp")]
    data_dir: Option<PathBuf>,
    /// Clients; 20 unless told, 96 with --secure, 100 with --dp, 192 with both
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(3..=500))]
    clients: Option<u32>,
    /// How many of them are poisoned, fewer than half; a fifth unless told, 3 with --secure, a tenth with --dp, 1 with both
    #[arg(long, value_name = "N")]
    poisoned: Option<u32>,
    /// Clients of a group; 8 unless told, 64 with --dp
    #[arg(long, value_name = "N", requires = "secure", value_parser = clap::value_parser!(u32).range(8..=100))]
    group_size: Option<u32>,
    /// Honest clients that vanish in different steps of round 2 of the defended training; 6 unless told, none with --dp
    #[arg(long, value_name = "N", requires = "secure")]
    dropouts: Option<u32>,
    /// What the poisoned ones do: a kind with its parameters, of `testudo simulate --list-attacks`. They see the released
    /// models and their own updates, nothing of the others. Unless told sign_flip:scale=10, with --secure scale=100, with --dp too scale=1000
    #[arg(long, value_name = "ATTACK")]
    attack: Option<String>,
    /// The robust rule: a kind, or TOML as in task.toml; `byzantine` is the number of poisoned clients unless told. Unless
    /// told multi_krum, with --secure or --dp trimmed_mean
    #[arg(long, value_name = "KIND|TOML")]
    rule: Option<String>,
    /// Rounds of each training; 20 unless told, 12 with --secure, 10 with --dp too
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
        let (outcome, views, spent) = self.train(&plan, output).await?;
        let report = self.compare(&plan, &outcome, views.as_ref(), spent.as_ref());
        draft.write(report.to_html().as_bytes())?;
        draft.finish()?;
        let path = std::path::absolute(&self.report).unwrap_or_else(|_| self.report.clone());
        let seconds = started.elapsed().as_secs_f64();
        let runs: Vec<_> = outcome.runs.iter().map(Trained::object).collect();
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
            object["secure"] = seen.object(secure, &seen.record.guarantees, outcome.lost_groups());
        }
        if let Some(spent) = &spent {
            object["privacy"] = spent.object();
        }
        let spent = spent.as_ref();
        output.result(object, |output| self.text(&plan, &outcome, spent, &report, (&path, seconds), output))
    }

    async fn train(&self, plan: &Plan, output: &Output) -> Result<(Outcome, Option<View>, Option<Spent>), Failure> {
        let mut config = Config::ephemeral();
        if let Some(directory) = &self.data_dir {
            config.storage.data_dir.clone_from(directory);
            config.storage.ledger = Medium::File;
        }
        // Every round's model is fetched to be measured.
        config.storage.keep_models = 0;
        let server = Server::start(config)
            .await
            .map_err(|error| Failure::new(Exit::Unavailable, WHAT, chain(&error)).next("`testudo doctor` may help"))?;
        let url = format!("http://{}", server.address());
        let operator = Operator::connect(&url, &Certificates::default()).await?;
        let show = Show::new(output, plan);
        let (mut runs, mut view, mut spent) = (Vec::new(), None, None);
        let mut connected: Option<(Policy, Vec<Learner>)> = None;
        for (name, attacked, rule) in plan.trainings() {
            let policy = plan.policy(name, &rule)?;
            // Devices that insist on something else are connected anew.
            if connected.as_ref().is_none_or(|(before, _)| *before != policy) {
                drop(connected.take());
                connected = Some((policy.clone(), Learner::connect_all(plan, &url, &policy).await?));
            }
            let learners = connected.as_ref().map_or(&[][..], |(_, learners)| learners);
            let training = Training { plan, operator: &operator, learners, show: &show, name, attacked, rule };
            let (run, seen, guarantees) = training.run().await?;
            if plan.is_private(name) {
                spent = Some(Spent::ask(&operator, guarantees).await?);
            }
            runs.push(run);
            // The last training is the one that is shown.
            view = seen;
        }
        show.finish();
        server.stop().await;
        let runs = runs.try_into().map_err(|_| Failure::new(Exit::Internal, WHAT, "not three trainings"))?;
        Ok((Outcome { runs }, view, spent))
    }

    fn compare(&self, plan: &Plan, outcome: &Outcome, view: Option<&View>, spent: Option<&Spent>) -> Report {
        let mut summary = vec![outcome.conclusion(plan), outcome.beside()];
        if let Some(secure) = &plan.secure {
            let lost = outcome.lost_groups();
            summary.push(format!(
                "{} vanished in round {} of the defended training; {} lost by it.",
                format::plural(secure.dropouts.len() as u64, "client"),
                secure.round,
                if lost == 1 { "1 group was".to_string() } else { format!("{lost} groups were") }
            ));
            summary.extend(view.map(View::line));
        }
        summary.extend(spent.map(Spent::line));
        let guarantees = match (view, spent) {
            (Some(view), _) => &view.record.guarantees[..],
            (None, Some(spent)) => spent.guarantees(),
            (None, None) => &[],
        };
        let settings = [
            ("data", "UCI optical digits, 1,437 to train, 360 to test".to_string()),
            ("workload", format!("{}, {} parameters", plan.workload_text(), format::count(plan.dimension() as u64))),
            ("clients", format!("{}, {} poisoned", plan.clients, plan.poisoned)),
            (
                "masking",
                plan.secure.as_ref().map_or("none".into(), |secure| {
                    format!("pairwise, groups of {}, {} dropouts", secure.group_size, secure.dropouts.len())
                }),
            ),
            (
                "privacy of the robust training",
                plan.private.as_ref().map_or("none".into(), |private| {
                    format!(
                        "clip {}, noise multiplier {}, limit epsilon = {} at delta = {:e}",
                        private.clip_l2, private.noise_multiplier, private.budget_epsilon, private.delta
                    )
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
            runs: outcome.runs.iter().map(|run| run.report.clone()).collect(),
            settings: settings
                .into_iter()
                .map(|(name, value)| (name.to_string(), value))
                .chain(guarantees.iter().map(|line| match line.split_once(": ") {
                    Some((topic, promise)) => (topic.to_string(), promise.to_string()),
                    None => ("guarantee".to_string(), line.clone()),
                }))
                .collect(),
            command: self.command(plan),
            // Keys, groups, rounding and noise come from the system's randomness.
            is_repeatable: plan.secure.is_none() && plan.private.is_none(),
        }
    }

    /// The command that gives the same numbers.
    fn command(&self, plan: &Plan) -> String {
        let secure = plan.secure.as_ref().map_or(String::new(), |secure| {
            format!("--secure --group-size {} --dropouts {} ", secure.group_size, secure.dropouts.len())
        });
        let private = plan.private.as_ref().map_or(String::new(), |private| {
            format!("--dp --noise-multiplier {} --budget-epsilon {} ", private.noise_multiplier, private.budget_epsilon)
        });
        format!(
            "testudo demo {secure}{private}--clients {} --poisoned {} --attack '{}' --rule '{}' --rounds {} --seed {}",
            plan.clients, plan.poisoned, plan.attack, plan.rule_text, plan.rounds, self.seed
        )
    }

    fn text(
        &self,
        plan: &Plan,
        outcome: &Outcome,
        spent: Option<&Spent>,
        report: &Report,
        (path, seconds): (&std::path::Path, f64),
        output: &Output,
    ) -> String {
        let mut headline = report.summary.first().cloned().unwrap_or_default();
        if let Some(spent) = spent {
            headline += &format!("\n\n{}", spent.text(output.colour));
        }
        // The second one repeats the table.
        let rest = report.summary.iter().skip(2).map(|line| format!("\n{}", format::wrapped(line))).collect::<String>();
        format!(
            "\n{}\n{}\n{}{}\n\nreport: {} ({seconds:.1} s)\n\nnext:\n  \
             testudo demo {}\n  \
             testudo load --rule krum                           how fast the server is on this machine\n  \
             testudo init && testudo serve                      a server of your own",
            outcome.table(plan).text(output.colour),
            outcome.hidden(plan),
            Tone::Heading.paint(&headline, output.colour),
            rest,
            format::clean(&path.display().to_string()),
            match (&plan.secure, &plan.private) {
                (None, None) =>
                    "--secure                              the same with updates that the server never sees",
                (None, Some(_)) => {
                    "--dp --data-dir dp                    then `testudo privacy show --data-dir dp` shows the charges"
                }
                (Some(_), Some(_)) => {
                    "--dp                                  the same with a server that is trusted with the updates"
                }
                (Some(_), None) => "--attack ipm:2 --rule trimmed_mean    another attack, another rule, no masks",
            },
        )
    }
}

/// The mean, which withstands nothing.
fn mean() -> RuleConfig {
    RuleConfig::mean()
}
