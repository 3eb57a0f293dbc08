//! What a study or demo found, and the self-contained HTML page that shows it.

use serde::Serialize;

mod chart;
mod heat_map;
mod html;
pub mod study;

/// Everything a report shows. All text is plain: markup in it is shown, not interpreted.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Title of the page.
    pub title: String,
    /// Plain-language paragraphs, the conclusion first.
    pub summary: Vec<String>,
    /// The runs that are compared.
    pub runs: Vec<RunReport>,
    /// Name and value of every setting worth knowing.
    pub settings: Vec<(String, String)>,
    /// The command that reproduces the report.
    pub command: String,
}

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RunReport {
    /// Such as "defended".
    pub name: String,
    /// The rule with its parameters.
    pub rule: String,
    /// One sentence on what is special about the run; may be empty.
    pub description: String,
    /// (round, test accuracy in 0..=1) in increasing order of rounds.
    pub accuracy: Vec<(u64, f64)>,
    /// The clients, in the order in which the verdicts number them.
    pub clients: Vec<ClientReport>,
    /// At most one verdict per client and round; a client without one was absent.
    pub verdicts: Vec<VerdictReport>,
}

/// One client of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClientReport {
    /// Such as "client-07".
    pub name: String,
    /// What it runs if it is poisoned.
    pub attack: Option<String>,
}

/// What became of one client's update in one round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerdictReport {
    /// Round number.
    pub round: u64,
    /// Index into the run's clients; verdicts beyond them are ignored.
    pub client: usize,
    /// The verdict.
    pub outcome: Outcome,
    /// Why; may be empty for accepted updates.
    pub reason: String,
}

/// The kinds of verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Taken as it is.
    Accepted,
    /// Shortened to a permitted norm.
    Clipped,
    /// Taken in part: extreme coordinates were cut.
    Trimmed,
    /// Left out.
    Rejected,
}

impl Outcome {
    /// All of them, from most to least welcome.
    pub const ALL: [Self; 4] = [Self::Accepted, Self::Clipped, Self::Trimmed, Self::Rejected];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Clipped => "clipped",
            Self::Trimmed => "trimmed",
            Self::Rejected => "rejected",
        }
    }
}

/// How often verdicts were right: a poisoned update was not accepted as it is, an honest one not rejected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Updates of poisoned clients.
    pub poisoned: usize,
    /// Of these: rejected, trimmed or clipped.
    pub poisoned_held_back: usize,
    /// Updates of honest clients.
    pub honest: usize,
    /// Of these: rejected.
    pub honest_rejected: usize,
}

impl Tally {
    /// Verdicts that were right.
    pub fn right(&self) -> usize {
        self.poisoned_held_back + self.honest - self.honest_rejected
    }

    /// Verdicts that were wrong.
    pub fn wrong(&self) -> usize {
        self.poisoned - self.poisoned_held_back + self.honest_rejected
    }
}

impl RunReport {
    /// Test accuracy after the last round; `None` if nothing was measured.
    pub fn final_accuracy(&self) -> Option<f64> {
        self.accuracy.last().map(|(_, accuracy)| *accuracy)
    }

    /// Right and wrong verdicts.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for verdict in &self.verdicts {
            let Some(client) = self.clients.get(verdict.client) else { continue };
            let wrong = usize::from(is_wrong(client, verdict.outcome));
            if client.attack.is_some() {
                tally.poisoned += 1;
                tally.poisoned_held_back += 1 - wrong;
            } else {
                tally.honest += 1;
                tally.honest_rejected += wrong;
            }
        }
        tally
    }
}

fn is_wrong(client: &ClientReport, outcome: Outcome) -> bool {
    match client.attack {
        Some(_) => outcome == Outcome::Accepted,
        None => outcome == Outcome::Rejected,
    }
}

impl Report {
    /// The report as one HTML page that loads nothing.
    pub fn to_html(&self) -> String {
        html::page(self)
    }

    /// Writes [`to_html`](Self::to_html) to `out`.
    ///
    /// # Errors
    /// What `out` reports.
    pub fn write_html(&self, out: &mut impl std::io::Write) -> std::io::Result<()> {
        out.write_all(self.to_html().as_bytes())
    }
}

#[cfg(test)]
mod tests;
