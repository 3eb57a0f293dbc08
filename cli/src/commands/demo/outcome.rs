//! What came of the three trainings, compared.

use super::{plan::Plan, show::percent, training::Trained};
use crate::format::{self, Table};

/// Accuracy that an attack must cost the plain mean to be called one.
const HARM: f64 = 0.02;

/// `clean`, `poisoned` and `defended`.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) runs: [Trained; 3],
}

impl Outcome {
    /// The first sentence: whether the robust rule was worth it.
    pub(super) fn conclusion(&self, plan: &Plan) -> String {
        let [clean, poisoned, defended] = &self.runs;
        if let Some(why) = &defended.ended_early {
            return format!("The defended training ended early, at {}: {why}.", percent(defended.accuracy()));
        }
        let course = Course {
            clean: clean.accuracy(),
            poisoned: poisoned.accuracy(),
            defended: defended.accuracy(),
            is_noised: plan.private.is_some(),
        };
        course.conclusion(plan.poisoned, plan.clients)
    }

    /// The second sentence, which repeats the table.
    pub(super) fn beside(&self) -> String {
        let [clean, poisoned, _] = &self.runs;
        format!(
            "Without attackers: {}. Under attack with the plain mean: {}.",
            percent(clean.accuracy()),
            percent(poisoned.accuracy())
        )
    }

    /// Groups that gave no row, over all trainings.
    pub(super) fn lost_groups(&self) -> usize {
        self.runs.iter().map(|run| run.lost_groups).sum()
    }

    /// A row per training.
    pub(super) fn table(&self, plan: &Plan) -> Table {
        let mut table =
            Table::new(&["training", "rule", ">test accuracy", ">verdicts right", ">wrong", ">honest rejected"]);
        for run in &self.runs {
            let tally = run.report.tally();
            let count = |number: usize| match plan.hides_verdicts(&run.report.name) {
                true => "hidden".to_string(),
                false => format::count(number as u64),
            };
            table.row([
                run.report.name.clone(),
                run.rule.to_string(),
                percent(run.accuracy()),
                count(tally.right()),
                count(tally.wrong()),
                count(tally.honest_rejected),
            ]);
        }
        table
    }

    /// What the table hides, and what the lines above it say all the same; empty if nothing is hidden.
    pub(super) fn hidden(&self, plan: &Plan) -> String {
        if !plan.hides_verdicts("defended") {
            return String::new();
        }
        let mut text = "hidden: a verdict on what is in a private update would be a release of its own.".to_string();
        let is_misshapen =
            |client| plan.population.attack(client).is_some_and(|attack| attack.info().kind == "wrong_shape");
        if plan.population.poisoned().any(is_misshapen) {
            text += " WRONG_SHAPE in the rounds above is none: an upload without the model's tensors is refused on arrival, \
                     whatever is in it, and counts like an absent client.";
        }
        format!("{}\n", format::wrapped(&text))
    }
}

/// Test accuracies, in 0..=1.
struct Course {
    clean: f64,
    poisoned: f64,
    defended: f64,
    /// Whether the robust training was private.
    is_noised: bool,
}

impl Course {
    fn conclusion(&self, poisoned: usize, clients: usize) -> String {
        let (mean, robust) = (percent(self.poisoned), percent(self.defended));
        let noised = if self.is_noised { " under noise" } else { "" };
        if poisoned == 0 {
            return format!("Nobody attacked; the defended training ended at {robust}.");
        }
        if self.clean - self.poisoned < HARM {
            return format!(
                "The attack did little harm: {mean} with the plain mean, {robust} with the rule that defends{noised}."
            );
        }
        // A destroyed model has no accuracy to compare.
        if self.poisoned >= self.defended {
            return format!(
                "The rule that defends did not pay{noised}: it ended at {robust}, and the plain mean at {mean} although \
                 {poisoned} of {clients} clients attacked."
            );
        }
        format!("The robust rule kept {robust} accuracy{noised} although {poisoned} of {clients} clients attacked.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_conclusion_is_what_the_accuracies_say() {
        for (clean, poisoned, defended, is_noised, part) in [
            (0.95, 0.1, 0.9, false, "The robust rule kept 90.0 % accuracy although 2 of 10 clients attacked."),
            (0.95, 0.1, 0.8, true, "The robust rule kept 80.0 % accuracy under noise although"),
            (0.95, 0.94, 0.9, false, "little harm: 94.0 % with the plain mean, 90.0 %"),
            (
                0.95,
                0.7,
                0.6,
                true,
                "did not pay under noise: it ended at 60.0 %, and the plain mean at 70.0 % although 2 of 10",
            ),
            (0.95, 0.7, 0.7, false, "did not pay: "),
            (0.95, f64::NAN, 0.9, false, "The robust rule kept 90.0 %"),
        ] {
            let text = Course { clean, poisoned, defended, is_noised }.conclusion(2, 10);
            assert!(text.contains(part), "{part}: {text}");
        }
        let nobody = Course { clean: 0.95, poisoned: 0.95, defended: 0.9, is_noised: false };
        assert!(nobody.conclusion(0, 10).starts_with("Nobody attacked"));
    }
}
