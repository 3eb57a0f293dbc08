//! How a round ends: every seat's verdict, and the release or the reason why there is none.

use super::{Action, Engine, GIVEN_UP, Judgement, Release, Stage};
use crate::{Carry, job::Finished, privacy::ClipStep, row_set::RowSet};
use std::sync::Arc;
use testudo_aggregate::RowReason;
use testudo_protocol::{Abandon, ClientId, Reason, Seat, Verdict};

impl Engine {
    pub(super) fn finished(&mut self, finished: Finished) -> Vec<Action> {
        let aggregation = match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Finishing(aggregation) => aggregation,
            Stage::FinishingPrivately(clip) => return self.released_privately(finished, clip),
            _ => return Vec::new(),
        };
        let rows = aggregation.rows();
        let outcome = aggregation.outcome(&self.carry);
        let mut seats = self.judge();
        for (row, end) in outcome.rows.iter().enumerate() {
            for client in rows.clients_of(row) {
                let Ok(at) = seats.binary_search_by(|seat| seat.client.cmp(client)) else { continue };
                let seat = &mut seats[at];
                seat.verdict = client_verdict(end.verdict);
                (seat.score, seat.weight) = (end.score, end.weight);
                if let RowSet::Groups { groups, .. } = &*rows {
                    seat.detail = join(&format!("the verdict on group {}", groups[row].number), &seat.detail);
                }
            }
        }
        if let Some(reference) = &self.spec.reference
            && let Ok(at) = seats.binary_search_by(|seat| seat.client.cmp(reference))
        {
            seats[at].verdict = Verdict::Accepted;
            seats[at].detail = "the reference update".into();
        }
        let Finished { model, file, digest, optimizer, aggregate, norm } = finished;
        let last_aggregate = self.spec.rule.needs().extras.last_aggregate.then(|| Arc::new(aggregate));
        let carry = Carry { optimizer, last_aggregate, history: outcome.history, memory: outcome.memory, clip: None };
        let notes = outcome.notes;
        let record = self.record();
        let release = Release { model, file, digest, carry, aggregate_norm: norm, notes, seats, record };
        vec![Action::Release(Box::new(release))]
    }

    /// Every update in time is accepted, whatever was in it: a verdict would be another release.
    fn released_privately(&self, finished: Finished, clip: Option<ClipStep>) -> Vec<Action> {
        let mut seats = self.judge();
        for seat in seats.iter_mut().filter(|seat| seat.verdict == Verdict::Pending) {
            seat.verdict = Verdict::Accepted;
        }
        let Finished { model, file, digest, optimizer, aggregate, norm } = finished;
        let last_aggregate = self.spec.rule.needs().extras.last_aggregate.then(|| Arc::new(aggregate));
        let carry = Carry { optimizer, last_aggregate, clip: clip.map(|clip| clip.next), ..Carry::default() };
        // Nothing that depends on the updates but what was noised.
        let (notes, record) = (clip.map_or_else(Vec::new, |clip| clip.notes()), None);
        let release = Release { model, file, digest, carry, aggregate_norm: norm, notes, seats, record };
        vec![Action::Release(Box::new(release))]
    }

    pub(super) fn abandon(&mut self, why: Abandon) -> Vec<Action> {
        if self.ended() {
            return Vec::new();
        }
        self.stage = Stage::Ended;
        let mut seats = self.judge();
        for seat in &mut seats {
            // An update that was in time but whose round was given up has no verdict to bear.
            if seat.verdict == Verdict::Pending {
                seat.detail = GIVEN_UP.into();
            }
        }
        vec![Action::Abandon { why, seats, record: self.record() }]
    }

    /// Every seat as the phases left it; survivors are still pending.
    pub(super) fn judge(&self) -> Vec<Judgement> {
        let judgement = |(client, seat): (&ClientId, Seat)| {
            let verdict = match seat {
                Seat::Received(_) => Verdict::Pending,
                Seat::Refused(reason) => Verdict::Rejected { reason },
                Seat::Selected | Seat::Recording(_) | Seat::Dropout => Verdict::Dropout,
            };
            let mut detail = self.refusals.get(client).cloned().unwrap_or_default();
            let upload = matches!(seat, Seat::Received(_)).then(|| self.uploads.get(client).copied()).flatten();
            let verdict = match self.lost(client).filter(|_| verdict == Verdict::Pending) {
                Some(why) => {
                    detail = why;
                    Verdict::Rejected { reason: Reason::GroupLost }
                }
                None => verdict,
            };
            let misfits =
                self.misfits.iter().filter(|misfit| [&misfit.owner, &misfit.holder].contains(&client)).count();
            if misfits > 0 {
                detail = join(&detail, &format!("dealt or gave {misfits} shares that do not fit"));
            }
            Judgement { client: client.clone(), verdict, detail, upload, score: None, weight: None }
        };
        self.round.seats().map(judgement).collect()
    }
}

/// Two remarks in one line.
fn join(one: &str, other: &str) -> String {
    let parts: Vec<&str> = [one, other].into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("; ")
}

fn client_verdict(verdict: testudo_aggregate::Verdict) -> Verdict {
    use testudo_aggregate::Verdict as Row;
    match verdict {
        Row::Accepted => Verdict::Accepted,
        Row::Clipped { factor } => Verdict::Clipped { factor },
        Row::Trimmed { share } => Verdict::Trimmed { share },
        Row::Rejected { reason } => Verdict::Rejected {
            reason: match reason {
                RowReason::Magnitude => Reason::Magnitude,
                RowReason::NonFinite => Reason::NonFinite,
                _ => Reason::NotSelected,
            },
        },
    }
}
