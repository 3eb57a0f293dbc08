//! What people see while the demo runs: a line per round, and bars where a terminal watches.

use super::plan::Plan;
use crate::{
    format::{clean_lines, topics},
    output::Output,
};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use testudo_protocol::{Reason, Verdict};

/// From this share of cut coordinates on a row had no say.
const CUT_SHARE: f64 = 0.8;

/// Lines and bars on standard error.
#[derive(Debug)]
pub(super) struct Show {
    output: Output,
    bars: MultiProgress,
    trainings: Vec<(&'static str, ProgressBar)>,
}

impl Show {
    /// One bar per training, if a terminal watches.
    pub(super) fn new(output: &Output, plan: &Plan) -> Self {
        let target = if output.watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        let style = ProgressStyle::with_template("{prefix:>9} {bar:30} {pos}/{len} {msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = |name| {
            let bar = bars.add(ProgressBar::new(plan.rounds));
            bar.set_style(style.clone());
            bar.set_prefix(name);
            (name, bar)
        };
        let trainings = plan.trainings().map(|(name, _, _)| bar(name)).into();
        let show = Self { output: *output, bars, trainings };
        let attackers: Vec<String> = plan
            .population
            .poisoned()
            .filter_map(|client| Some(format!("{} ({})", plan.name(client), plan.population.attack(client)?)))
            .collect();
        show.line(&format!(
            "{} clients, a server, gRPC on the loopback; poisoned: {}",
            plan.clients,
            if attackers.is_empty() { "nobody".into() } else { attackers.join(", ") }
        ));
        show
    }

    /// A training begins.
    pub(super) fn begin(&self, name: &str) {
        if let Some(bar) = self.bar(name) {
            bar.reset_elapsed();
            bar.tick();
        }
    }

    /// What a masked or private task promises.
    pub(super) fn guarantees(&self, task: &str, suite: &str, cohort: usize, lines: &[String]) {
        self.line(&format!("\nguarantee report  task {task}  suite {suite}  smallest cohort {cohort}"));
        topics(lines).iter().for_each(|line| self.line(line));
        self.line("");
    }

    /// A round released a model.
    pub(super) fn round(&self, name: &str, round: u64, accuracy: f64, verdicts: &[(String, Verdict)]) {
        let line = format!("round {round:>3}  {name:<8}  {:>7}{}", percent(accuracy), said(verdicts));
        self.line(line.trim_end());
        if let Some(bar) = self.bar(name) {
            bar.inc(1);
            bar.set_message(percent(accuracy));
        }
    }

    /// A round was abandoned, and the training ends with it.
    pub(super) fn ended_early(&self, name: &str, round: u64, why: &str, verdicts: &[(String, Verdict)]) {
        self.line(&format!("round {round:>3}  {name:<8}  abandoned: {why}; this training ends here{}", said(verdicts)));
    }

    /// A training has ended.
    pub(super) fn end(&self, name: &str) {
        if let Some(bar) = self.bar(name) {
            bar.abandon();
        }
    }

    /// Everything has ended: the bars go.
    pub(super) fn finish(&self) {
        // Bars that cannot be cleared stay; nothing else is lost.
        let _ = self.bars.clear();
    }

    fn bar(&self, name: &str) -> Option<&ProgressBar> {
        self.trainings.iter().find(|(training, _)| *training == name).map(|(_, bar)| bar)
    }

    /// A line above the bars.
    pub(super) fn line(&self, text: &str) {
        match self.output.watched {
            // A terminal that went away has no reader either.
            true => drop(self.bars.println(clean_lines(text))),
            false => self.output.note(text),
        }
    }
}

/// `93.1 %`; a model that cannot be measured is destroyed.
pub(super) fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1} %", share * 100.0) } else { "destroyed".into() }
}

/// Who was held back, and why: `  rejected: client-17 (NON_FINITE); not selected: client-03`.
fn said(verdicts: &[(String, Verdict)]) -> String {
    let (mut rejected, mut unselected, mut cut, mut clipped, mut gone) = (vec![], vec![], vec![], vec![], vec![]);
    for (client, verdict) in verdicts {
        match verdict {
            Verdict::Rejected { reason: Reason::NotSelected } => unselected.push(client.clone()),
            Verdict::Rejected { reason } => rejected.push(format!("{client} ({})", reason.code())),
            Verdict::Trimmed { share } if *share >= CUT_SHARE => cut.push(format!("{client} ({:.0} %)", share * 100.0)),
            Verdict::Clipped { factor } => clipped.push(format!("{client} (to {factor:.2})")),
            Verdict::Dropout => gone.push(client.clone()),
            Verdict::Accepted | Verdict::Trimmed { .. } | Verdict::Pending => {}
        }
    }
    let parts =
        [("rejected", rejected), ("not selected", unselected), ("cut", cut), ("clipped", clipped), ("left", gone)];
    let parts = parts.into_iter().filter(|(_, clients)| !clients.is_empty());
    let parts: Vec<String> = parts.map(|(what, clients)| format!("{what}: {}", clients.join(", "))).collect();
    if parts.is_empty() { String::new() } else { format!("  {}", parts.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_was_held_back_and_why() {
        let client = |number: u32, verdict| (format!("client-{number:02}"), verdict);
        let verdicts = [
            client(1, Verdict::Accepted),
            client(2, Verdict::Rejected { reason: Reason::NonFinite }),
            client(3, Verdict::Rejected { reason: Reason::NotSelected }),
            client(4, Verdict::Trimmed { share: 0.4 }),
            client(5, Verdict::Trimmed { share: 0.97 }),
            client(6, Verdict::Dropout),
            client(7, Verdict::Rejected { reason: Reason::WrongShape }),
        ];
        assert_eq!(
            said(&verdicts),
            "  rejected: client-02 (NON_FINITE), client-07 (WRONG_SHAPE); not selected: client-03; \
             cut: client-05 (97 %); left: client-06"
        );
        assert_eq!(said(&verdicts[..1]), "");
        assert_eq!((percent(0.931), percent(f64::NAN)), ("93.1 %".into(), "destroyed".into()));
    }
}
