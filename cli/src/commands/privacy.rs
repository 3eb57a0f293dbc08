//! `testudo privacy`.

mod ledger;
mod options;

pub(crate) use ledger::text as describe;

use self::options::Options;
use crate::{
    exit::{Exit, Failure},
    format::Table,
    output::Output,
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use testudo_privacy::{
    ParameterError,
    accountant::{Mechanism, Report},
};

/// From here on ε says little.
const LARGE_EPSILON: f64 = 10.0;
/// Noise over the sensitivity that hides little in a single release.
const SMALL_NOISE: f64 = 0.3;

/// `testudo privacy`.
#[derive(Debug, Args)]
pub(crate) struct Privacy {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Says what a run costs: ε by every accountant that is valid for it, rounded up
    #[command(after_help = "Examples:
  testudo privacy epsilon --mechanism gaussian --noise-multiplier 1.1 --rounds 500 --delta 1e-6
  testudo privacy epsilon --noise-multiplier 1.2 --rounds 100 --delta 1e-5 --sampling poisson --rate 0.0355
  testudo privacy epsilon --noise-multiplier 2 --rounds 1500 --delta 3e-4 --sampling fixed --cohort 50 --population 3400
  testudo privacy epsilon --mechanism tree --noise-multiplier 7 --rounds 2000 --delta 1e-10 \\
      --max-participation 6 --min-separation 313
  testudo privacy epsilon --mechanism laplace --scale 20 --rounds 10 --delta 1e-6 --json

The noise multiplier is σ divided by the sensitivity under the printed adjacency: σ/C for zero-out, σ/2C for
replace-one (fixed-size sampling).")]
    Epsilon {
        #[command(flatten)]
        options: Options,
        /// Standard deviation of the noise over the sensitivity
        #[arg(long, value_name = "Z", allow_negative_numbers = true)]
        noise_multiplier: Option<f64>,
        /// Laplace: scale of the noise over the L1 sensitivity
        #[arg(long, value_name = "B", allow_negative_numbers = true)]
        scale: Option<f64>,
    },
    /// Says how much noise a run needs: the smallest noise multiplier that keeps ε, rounded up
    #[command(after_help = "Examples:
  testudo privacy calibrate --epsilon 2 --rounds 100 --delta 1e-6
  testudo privacy calibrate --epsilon 1 --rounds 1000 --delta 1e-5 --sampling poisson --rate 0.01
  testudo privacy calibrate --epsilon 1 --rounds 1000 --delta 1e-5 --sampling poisson --rate 0.01 --accountant rdp
  testudo privacy calibrate --mechanism laplace --epsilon 1 --rounds 10 --delta 1e-6 --json

Without --accountant the best valid one decides. `pld` holds only if noise multiplier, rate and rounds stay as planned:
a run that may be changed or stopped early is planned with --accountant rdp.")]
    Calibrate {
        #[command(flatten)]
        options: Options,
        /// The ε to keep
        #[arg(long, value_name = "E", allow_negative_numbers = true)]
        epsilon: f64,
        /// The accountant that decides: gaussian_exact, zcdp, rdp, pld or pure
        #[arg(long, value_name = "NAME")]
        accountant: Option<String>,
    },
    /// Shows budgets: what is spent and left, for which rounds, and what the bound does not cover
    #[command(after_help = "Examples:
  testudo privacy show
  testudo privacy show --population phones --json
  testudo privacy show --data-dir testudo-data")]
    Show(ledger::Show),
    /// Adds every charge up again, offline, and compares with what is shown as spent
    #[command(after_help = "Examples:
  testudo privacy verify-ledger --data-dir testudo-data
  testudo privacy verify-ledger backup/ledger.sqlite
  testudo privacy show --json > budgets.json && testudo privacy verify-ledger budgets.json")]
    VerifyLedger(ledger::Verify),
}

impl Privacy {
    /// Prints ε, the noise multiplier, or budgets.
    ///
    /// # Errors
    /// Missing, needless or impossible parameters, each with its flag and what would do.
    pub(crate) async fn run(self, output: &Output) -> Result<(), Failure> {
        match self.verb {
            Verb::Epsilon { options, noise_multiplier, scale } => {
                let noise = options.noise(noise_multiplier, scale)?;
                let mechanism = options.mechanism(noise)?;
                let report = mechanism.report(options.delta).map_err(refused)?;
                let object = object(&options, &mechanism, &report);
                output.result(object, |output| text(&options, &mechanism, &report, output.colour))
            }
            Verb::Calibrate { options, epsilon, accountant } => {
                // Any noise will do to describe the mechanism.
                let mechanism = options.mechanism(1.0)?;
                let noise = mechanism.calibrate(epsilon, options.delta, accountant.as_deref()).map_err(refused)?;
                let mechanism = mechanism.with_noise(noise);
                let report = mechanism.report(options.delta).map_err(refused)?;
                let mut object = object(&options, &mechanism, &report);
                object["target_epsilon"] = json!(epsilon);
                output.result(object, |output| {
                    format!(
                        "{} = {noise}, the smallest that keeps ε ≤ {epsilon}\n\n{}",
                        options.noise_word().replace('-', " "),
                        text(&options, &mechanism, &report, output.colour)
                    )
                })
            }
            Verb::Show(show) => show.run(output).await,
            Verb::VerifyLedger(verify) => verify.run(output).await,
        }
    }
}

fn object(options: &Options, mechanism: &Mechanism, report: &Report) -> Value {
    let accountants: Vec<Value> = report
        .accountants
        .iter()
        .map(|estimate| json!({ "name": estimate.name, "epsilon": estimate.epsilon }))
        .collect();
    let mut object = json!({
        "mechanism": options.mechanism_word(),
        "rounds": options.rounds,
        "delta": options.delta,
        "sampling": options.sampling_word(),
        "adjacency": options.adjacency(),
        "privacy_unit": "client",
        "accountants": accountants,
        "best": report.best,
        "unamplified": report.unamplified.unwrap_or(report.best),
        "rho": mechanism.rho(),
        "sensitivity": mechanism.sensitivity().ok(),
        "assumptions": options.assumptions(),
        "warnings": warnings(mechanism, report),
    });
    object[options.noise_word().replace('-', "_")] = json!(options::noise_of(mechanism));
    object
}

fn text(options: &Options, mechanism: &Mechanism, report: &Report, colour: bool) -> String {
    let mut table = Table::new(&["accountant", "epsilon", ""]);
    for estimate in &report.accountants {
        let best = if estimate.epsilon == report.best { "best" } else { "" };
        table.row([estimate.name.to_string(), rounded_up(estimate.epsilon), best.to_string()]);
    }
    if let Some(unamplified) = report.unamplified {
        table.row(["without amplification".to_string(), rounded_up(unamplified), String::new()]);
    }
    let mut lines = vec![format!(
        "{}, {} = {}, {} rounds, δ = {:e}, sampling {}",
        options.mechanism_word(),
        options.noise_word().replace('-', " "),
        options::noise_of(mechanism),
        options.rounds,
        options.delta,
        options.sampling_word(),
    )];
    lines.push(table.text(colour));
    lines.push(format!("ε is a worst-case bound for one client, {} adjacency. It holds if:", options.adjacency()));
    lines.extend(options.assumptions().iter().map(|line| format!("  - {line}")));
    lines.extend(warnings(mechanism, report).iter().map(|line| format!("warning: {line}")));
    lines.join("\n")
}

/// What deserves a second look before anything runs.
fn warnings(mechanism: &Mechanism, report: &Report) -> Vec<String> {
    let mut list = Vec::new();
    if report.best > LARGE_EPSILON {
        list.push(format!("an ε of {} permits to learn much about a client", rounded_up(report.best)));
    }
    let noise = options::noise_of(mechanism);
    if noise < SMALL_NOISE {
        list.push(format!("noise of {noise} times the sensitivity hides little in a single release"));
    }
    list
}

/// Six digits, the last one up: ε is never understated.
fn rounded_up(epsilon: f64) -> String {
    if !epsilon.is_finite() {
        return "none".into();
    }
    if epsilon >= 1e9 {
        return format!("{:.6e}", epsilon * (1.0 + 1e-6));
    }
    let text = format!("{epsilon:.6}");
    match text.parse::<f64>() {
        Ok(shown) if shown < epsilon => format!("{:.6}", epsilon + 1e-6),
        _ => text,
    }
}

/// A parameter's key becomes its flag.
fn refused(error: ParameterError) -> Failure {
    let flag = format!("--{}", error.key.replace('_', "-"));
    Failure::new(Exit::Usage, format!("{flag} {} is not possible", error.value), format!("{flag} = {}", error.value))
        .next(error.fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_epsilons_are_never_below_the_computed_ones() {
        for epsilon in [0.0, 1e-9, 0.123_456_4, 4.377_178_095_681_224_5, 123.456_789_1, 0.999_999_99, 3.2e12] {
            let shown: f64 = rounded_up(epsilon).parse().unwrap();
            assert!(shown >= epsilon && shown <= epsilon * 1.000_01 + 1e-6, "{epsilon}: {shown}");
        }
        assert_eq!(rounded_up(f64::INFINITY), "none");
    }
}
