//! A whole study in one file: 20 clients, 4 of them poisoned, the mean against the trimmed mean, and the report.
//!
//! `cargo run --release -p testudo-simulator --example federation -- report.html`

use std::error::Error;

use testudo_simulator::attack::{Attack, Observation, View};
use testudo_simulator::data::{Dataset, Partition, Split, digits};
use testudo_simulator::population::{Mix, Placement, Population};
use testudo_simulator::random::{Purpose, stream};
use testudo_simulator::report::{ClientReport, Outcome, Report, RunReport, VerdictReport};
use testudo_simulator::workload::{LocalTraining, Workload, WorkloadConfig};

const CLIENTS: usize = 20;
const ROUNDS: u64 = 25;
const BYZANTINE: usize = 4;
const SEED: u64 = 7;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "report.html".to_owned());
    let report = study()?;
    for run in &report.runs {
        println!("{:10} {:24} {:.3} {:?}", run.name, run.rule, run.final_accuracy().unwrap_or(0.0), run.tally());
    }
    report.write_html(&mut std::fs::File::create(&path)?)?;
    println!("wrote {path}");
    Ok(())
}

fn study() -> Result<Report, Box<dyn Error>> {
    let runs = vec![run("clean", 0, 0)?, run("poisoned", BYZANTINE, 0)?, run("defended", BYZANTINE, BYZANTINE)?];
    let accuracy = |run: usize| 100.0 * runs[run].final_accuracy().unwrap_or(0.0);
    let summary = vec![
        format!("The robust rule kept {:.1} % accuracy although 4 of 20 clients attacked.", accuracy(2)),
        format!("Without attackers: {:.1} %. Under attack with the plain mean: {:.1} %.", accuracy(0), accuracy(1)),
    ];
    let settings = [
        ("data", "UCI optical digits, 1,437 to train, 360 to test".to_owned()),
        ("workload", "MLP 64-64-10, 4,810 parameters".to_owned()),
        ("clients", format!("{CLIENTS}, {BYZANTINE} poisoned")),
        ("rounds", ROUNDS.to_string()),
        ("seed", SEED.to_string()),
    ];
    Ok(Report {
        title: "Poisoned clients against the mean and the trimmed mean".to_owned(),
        summary,
        runs,
        settings: settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        command: "cargo run --release -p testudo-simulator --example federation -- report.html".to_owned(),
        is_repeatable: true,
    })
}

/// Trains one model; `cut` extreme values are left out at either end of every coordinate.
fn run(name: &str, poisoned: usize, cut: usize) -> Result<RunReport, Box<dyn Error>> {
    let (train, test) = Split::stratified(&digits::load(), digits::TEST_EXAMPLES, SEED)?.apply(&digits::load());
    let parts = Partition::Iid {}.divide(&train, CLIENTS, SEED)?;
    let population = Population::new(CLIENTS, poisoned, Placement::Seeded, &Mix::default(), SEED)?;
    let mut data: Vec<Dataset> = parts.iter().map(|rows| train.subset(rows)).collect();
    for client in population.poisoned() {
        let Some(attack) = population.attack(client) else { continue };
        attack.poison(&mut data[client], &mut stream(SEED, Purpose::Poison, 0, client as u64))?;
    }
    let workload = WorkloadConfig::parse("mlp")?.build::<f32>(train.width(), train.classes())?;
    let mut model = workload.initial(SEED);
    let mut report = RunReport {
        name: name.to_owned(),
        rule: if cut == 0 { "mean".to_owned() } else { format!("trimmed_mean, byzantine = {cut}") },
        accuracy: vec![(0, workload.accuracy(&model, &test))],
        ..RunReport::default()
    };
    for client in 0..CLIENTS {
        let attack = population.attack(client).map(ToString::to_string);
        report.clients.push(ClientReport { name: format!("client-{:02}", client + 1), attack });
    }
    for round in 1..=ROUNDS {
        let mut rows = Vec::new();
        for (client, data) in data.iter().enumerate() {
            let update = update(workload.as_ref(), &model, data, &population, client, round);
            let reason = match &update {
                update if update.len() != model.len() => "wrong shape",
                update if update.iter().any(|value| !value.is_finite()) => "not finite",
                _ => {
                    rows.push((client, update));
                    continue;
                }
            };
            report.verdicts.push(VerdictReport {
                round,
                client,
                outcome: Outcome::Rejected,
                reason: reason.to_owned(),
            });
        }
        report.verdicts.extend(aggregate(&rows, cut, round, &mut model));
        report.accuracy.push((round, workload.accuracy(&model, &test)));
    }
    Ok(report)
}

/// What one client sends in a round.
fn update(
    workload: &dyn Workload,
    model: &[f32],
    data: &Dataset,
    population: &Population,
    client: usize,
    round: u64,
) -> Vec<f32> {
    let training = LocalTraining { epochs: 3, ..LocalTraining::default() };
    let mut update =
        workload.local_sgd(model, data, &training, &mut stream(SEED, Purpose::Batch, round, client as u64));
    let Some(attack) = population.attack(client) else { return update };
    let view = View::new(attack.knowledge(), Observation { round, model, ..Observation::default() });
    attack.forge(&view, &mut update, &mut stream(SEED, Purpose::Attack, round, client as u64));
    attack.tamper().apply(&mut update);
    update
}

/// Adds the trimmed mean of the rows to the model. A row is called trimmed when most of its coordinates were cut.
fn aggregate(rows: &[(usize, Vec<f32>)], cut: usize, round: u64, model: &mut [f32]) -> Vec<VerdictReport> {
    let mut counts = vec![0_usize; rows.len()];
    for (coordinate, value) in model.iter_mut().enumerate() {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by(|&a, &b| rows[a].1[coordinate].total_cmp(&rows[b].1[coordinate]));
        let kept = &order[cut..rows.len() - cut];
        *value += kept.iter().map(|&row| rows[row].1[coordinate]).sum::<f32>() / kept.len() as f32;
        order[..cut].iter().chain(&order[rows.len() - cut..]).for_each(|&row| counts[row] += 1);
    }
    let verdict = |(&(client, _), count): (&(usize, Vec<f32>), &usize)| {
        let trimmed = 10 * count > 7 * model.len();
        let (outcome, reason) =
            if trimmed { (Outcome::Trimmed, "extreme in most coordinates") } else { (Outcome::Accepted, "") };
        VerdictReport { round, client, outcome, reason: reason.to_owned() }
    };
    rows.iter().zip(&counts).map(verdict).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_mix_destroys_the_mean_and_the_trimmed_mean_withstands_it() {
        let report = study().unwrap();
        let accuracy: Vec<f64> = report.runs.iter().map(|run| run.final_accuracy().unwrap()).collect();
        assert!(accuracy[0] > 0.92, "{accuracy:?}");
        assert!(accuracy[1] < 0.4, "{accuracy:?}");
        assert!(accuracy[2] > accuracy[0] - 0.02, "{accuracy:?}");
        let tally = report.runs[2].tally();
        assert_eq!(tally.poisoned_held_back, tally.poisoned, "{tally:?}");
        assert_eq!(tally.honest_rejected, 0, "{tally:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_report_bit_for_bit() {
        assert_eq!(run("a", 4, 4).unwrap(), run("a", 4, 4).unwrap());
    }
}
