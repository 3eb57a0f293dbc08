//! What came of a study: one summary per run, one cell per combination.

use serde::{Deserialize, Serialize};

use super::statistics::{Interval, interval};
use super::{Study, StudyRun};
use crate::world::{Counts, Found, Measured, Standing};

/// A finished run, as the journal holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// The run's id.
    pub id: String,
    /// Every measurement, the start first.
    pub measured: Vec<Measured>,
    /// Final test accuracy of each class.
    pub classes: Vec<Option<f64>>,
    /// Name of the file with the clients' examples.
    pub partition: String,
}

/// The figures of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Test accuracy after the last round.
    pub last: f64,
    /// Mean over the measurements of the last rounds.
    pub mean_of_last: f64,
    /// The largest: no model to ship, but what some publications report.
    pub max: f64,
    /// Mean over all measurements after the start.
    pub area: f64,
    /// Accuracy on the worst class.
    pub worst_class: Option<f64>,
    /// Backdoor success after the last round.
    pub backdoor_last: Option<f64>,
    /// Mean backdoor success over the last rounds.
    pub backdoor_mean_of_last: Option<f64>,
    /// Largest backdoor success.
    pub backdoor_max: Option<f64>,
    /// Mean distance of the aggregate from the honest mean.
    pub distance: Option<f64>,
    /// Mean empirical κ.
    pub kappa: Option<f64>,
    /// Distance of the last model from the optimum, where that is known.
    pub excess: Option<f64>,
    /// Whom a detector found, if one watched.
    pub standing: Option<Standing>,
    /// Share of the attackers' updates that were mostly held back.
    pub held_back: Option<f64>,
    /// Share of the honest clients' updates that were mostly held back.
    pub honest_held_back: Option<f64>,
    /// Verdicts on honest clients.
    pub honest: Counts,
    /// Verdicts on attackers.
    pub colluders: Counts,
    /// Rounds abandoned.
    pub abandoned: u64,
    /// Payload bytes sent.
    pub bytes: u64,
}

/// A study with all its runs, in the study's order.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was to run.
    pub study: Study,
    /// What came of each run.
    pub finished: Vec<Finished>,
}

/// All seeds of one combination.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The place on each axis.
    pub place: Vec<usize>,
    /// The seeds and their summaries, by seed.
    pub seeds: Vec<(u64, Summary)>,
    /// Mean final accuracy with its bootstrap interval.
    pub last: Interval,
    /// The same of the mean of the last measurements.
    pub mean_of_last: Interval,
    /// The same of backdoor success, if there is a backdoor.
    pub backdoor: Option<Interval>,
}

impl Summary {
    /// The figures of a run whose last measurements are those of the last `last` rounds.
    pub fn of(finished: &Finished, last: u64) -> Self {
        let measured = &finished.measured;
        let Some(end) = measured.last() else { return Self::default() };
        let recent: Vec<&Measured> =
            measured.iter().filter(|one| one.round > 0 && one.round + last > end.round).collect();
        let after: Vec<&Measured> = measured.iter().filter(|one| one.round > 0).collect();
        let sum =
            |select: fn(&Measured) -> Counts| after.iter().fold(Counts::default(), |sum, one| sum.plus(select(one)));
        let (honest, colluders) = (sum(|one| one.honest), sum(|one| one.colluders));
        let share = |counts: Counts| (counts.judged() > 0).then(|| counts.held_back as f64 / counts.judged() as f64);
        let largest = |values: &mut dyn Iterator<Item = f64>| values.max_by(f64::total_cmp);
        Self {
            last: end.accuracy,
            mean_of_last: mean(recent.iter().map(|one| one.accuracy)).unwrap_or(end.accuracy),
            max: largest(&mut measured.iter().map(|one| one.accuracy)).unwrap_or(end.accuracy),
            area: mean(after.iter().map(|one| one.accuracy)).unwrap_or(end.accuracy),
            worst_class: finished.classes.iter().flatten().copied().min_by(f64::total_cmp),
            backdoor_last: end.backdoor,
            backdoor_mean_of_last: mean(recent.iter().filter_map(|one| one.backdoor)),
            backdoor_max: largest(&mut measured.iter().filter_map(|one| one.backdoor)),
            distance: mean(after.iter().filter_map(|one| one.distance)),
            kappa: mean(after.iter().filter_map(|one| one.kappa)),
            excess: end.excess,
            standing: end.standing,
            held_back: share(colluders),
            honest_held_back: share(honest),
            honest,
            colluders,
            abandoned: end.abandoned,
            bytes: end.bytes,
        }
    }
}

/// `None` of no values.
pub(crate) fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// What the runs of one combination came to, by seed.
type Seeds = Vec<(u64, Summary)>;

impl Outcome {
    /// The combinations, in the study's order, each with its seeds.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells: Vec<(Vec<usize>, Seeds)> = Vec::new();
        for (run, finished) in self.study.runs.iter().zip(&self.finished) {
            let summary = Summary::of(finished, self.study.last);
            match cells.last_mut().filter(|(place, _)| *place == run.place) {
                Some((_, seeds)) => seeds.push((run.scenario.plan.seed, summary)),
                None => cells.push((run.place.clone(), vec![(run.scenario.plan.seed, summary)])),
            }
        }
        cells.into_iter().map(|(place, seeds)| Cell::new(place, seeds)).collect()
    }

    /// Runs with what came of them, sorted by id.
    pub fn by_id(&self) -> Vec<(&StudyRun, &Finished)> {
        let mut runs: Vec<_> = self.study.runs.iter().zip(&self.finished).collect();
        runs.sort_by(|one, other| one.1.id.cmp(&other.1.id));
        runs
    }

    /// `runs.csv`: a line per run, sorted by id.
    ///
    /// # Errors
    /// What the writer says.
    pub fn csv(&self) -> Result<Vec<u8>, csv::Error> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let mut header = vec!["run".to_owned()];
        header.extend(self.study.axes.iter().map(|axis| axis.key.clone()));
        let names = [
            "seed",
            "rounds",
            "accuracy_last",
            "accuracy_mean_of_last",
            "accuracy_max",
            "accuracy_area",
            "worst_class",
            "backdoor_last",
            "backdoor_mean_of_last",
            "backdoor_max",
            "distance",
            "kappa",
            "excess",
            "detector_true_positives",
            "detector_false_positives",
            "detector_delay",
            "held_back",
            "honest_held_back",
            "honest_accepted",
            "honest_clipped",
            "honest_trimmed",
            "honest_rejected",
            "honest_dropout",
            "colluders_accepted",
            "colluders_clipped",
            "colluders_trimmed",
            "colluders_rejected",
            "colluders_dropout",
            "abandoned",
            "bytes",
            "honest_quarantined",
            "colluders_quarantined",
            "epsilon",
            "delta",
            "partition",
        ];
        header.extend(names.map(str::to_owned));
        writer.write_record(&header)?;
        for (run, finished) in self.by_id() {
            let summary = Summary::of(finished, self.study.last);
            let mut record = vec![finished.id.clone()];
            record.extend(self.study.labels(run).into_iter().map(str::to_owned));
            record.extend([run.scenario.plan.seed.to_string(), run.scenario.plan.rounds.to_string()]);
            record
                .extend([summary.last, summary.mean_of_last, summary.max, summary.area].map(|value| value.to_string()));
            let optional = [
                summary.worst_class,
                summary.backdoor_last,
                summary.backdoor_mean_of_last,
                summary.backdoor_max,
                summary.distance,
                summary.kappa,
                summary.excess,
                summary.standing.and_then(|standing| standing.colluders.rate()),
                summary.standing.and_then(|standing| standing.honest.rate()),
                summary.standing.and_then(|standing| standing.delay),
                summary.held_back,
                summary.honest_held_back,
            ];
            record.extend(optional.map(|value| value.map_or_else(String::new, |value| value.to_string())));
            for counts in [summary.honest, summary.colluders] {
                let numbers = [counts.accepted, counts.clipped, counts.trimmed, counts.rejected, counts.dropout];
                record.extend(numbers.map(|number| number.to_string()));
            }
            record.extend([summary.abandoned.to_string(), summary.bytes.to_string()]);
            let quarantined = |side: fn(Standing) -> Found| {
                summary.standing.map_or_else(String::new, |standing| side(standing).quarantined.to_string())
            };
            record.extend([quarantined(|standing| standing.honest), quarantined(|standing| standing.colluders)]);
            let promised = [run.scenario.epsilon(), run.scenario.delta()];
            record.extend(promised.map(|value| value.map_or_else(String::new, |value| value.to_string())));
            record.push(finished.partition.clone());
            writer.write_record(&record)?;
        }
        writer.into_inner().map_err(|error| csv::Error::from(std::io::Error::other(error.to_string())))
    }
}

impl Cell {
    fn new(place: Vec<usize>, seeds: Vec<(u64, Summary)>) -> Self {
        let of = |value: fn(&Summary) -> f64| interval(&seeds.iter().map(|(_, one)| value(one)).collect::<Vec<_>>());
        let backdoor: Vec<f64> = seeds.iter().filter_map(|(_, one)| one.backdoor_mean_of_last).collect();
        let backdoor = (!backdoor.is_empty()).then(|| interval(&backdoor));
        Self { place, last: of(|one| one.last), mean_of_last: of(|one| one.mean_of_last), backdoor, seeds }
    }
}
