//! Between the last answer and the first unit: the masks of each group are rebuilt.

use super::{Action, Engine, Stage};
use crate::{
    job::Job,
    row_set::{Coding, GroupRow, RowSet},
};
use testudo_aggregate::Quantizer;
use testudo_privacy::rotation::Rotation;
use testudo_protocol::{Abandon, ClientId, secagg::Misfit};

/// Groups of which some are still being rebuilt.
#[derive(Debug)]
pub(super) struct Unmasking {
    left: usize,
    /// By the group's number.
    groups: Vec<(u32, Option<GroupRow>)>,
}

impl Engine {
    pub(super) fn unmask(&mut self) -> Vec<Action> {
        let openings = self.round.openings();
        let groups = openings.iter().map(|opening| (opening.terms.group, None)).collect();
        self.stage = Stage::Unmasking(Unmasking { left: openings.len(), groups });
        let weighted = self.spec.masking.as_ref().is_some_and(|masking| masking.max_weight.is_some());
        let weights_at = weighted.then(|| self.base.layout().dimension());
        let job = |(index, opening)| Action::Run(Job::open(index, opening, weights_at));
        openings.into_iter().enumerate().map(job).collect()
    }

    pub(super) fn opened(
        &mut self,
        index: usize,
        result: Result<GroupRow, String>,
        misfits: Vec<Misfit>,
    ) -> Vec<Action> {
        let coding = match self.coding() {
            Ok(coding) => coding,
            Err(detail) => return self.abandon(Abandon::Fault { detail }),
        };
        let Stage::Unmasking(unmasking) = &mut self.stage else { return Vec::new() };
        let Some((number, row)) = unmasking.groups.get_mut(index) else { return Vec::new() };
        self.misfits.extend(misfits);
        match result.and_then(|row| plausible(row, &coding)) {
            Ok(opened) => *row = Some(opened),
            Err(why) => {
                self.locked.insert(*number, why);
            }
        }
        unmasking.left -= 1;
        if unmasking.left > 0 {
            return Vec::new();
        }
        let rows: Vec<GroupRow> =
            std::mem::take(&mut unmasking.groups).into_iter().filter_map(|(_, row)| row).collect();
        let minimum = self.round.least_groups();
        if rows.len() < minimum {
            return self.abandon(Abandon::TooFewGroups { groups: rows.len(), minimum });
        }
        self.aggregate(RowSet::Groups { coding, groups: rows })
    }

    /// Why nothing that a client sent counts although it did its part, if so.
    pub(super) fn lost(&self, client: &ClientId) -> Option<String> {
        self.round.lost(client).or_else(|| {
            let number = self.round.group_of(client)?;
            Some(format!("group {number}: {}", self.locked.get(&number)?))
        })
    }

    fn coding(&self) -> Result<Coding, String> {
        let masking = self.spec.masking.as_ref().ok_or("the task is not masked")?;
        if let Some(shares) = &self.spec.shares {
            let announcement = self.announcement().ok_or("nothing was announced")?;
            let rotation = Rotation::new(announcement.session.digest().0);
            return Ok(Coding::Steps { rotation, step: shares.grid.step() });
        }
        let quantizer = Quantizer::new(masking.clip_l2, Some(masking.kappa), masking.bits);
        quantizer.map(Coding::Levels).map_err(|error| error.to_string())
    }
}

/// A row whose weights can be: a client that lies about its own can push their sum out of every bound, and then its group
/// means nothing.
fn plausible(row: GroupRow, coding: &Coding) -> Result<GroupRow, String> {
    let Coding::Levels(quantizer) = coding else { return Ok(row) };
    let clients = row.survivors.len() as u64;
    let most = clients * u64::from(quantizer.levels());
    match row.weight.map(u64::from) {
        Some(weight) if !(clients..=most).contains(&weight) => {
            Err(format!("the weights of {clients} clients add up to {weight}, outside {clients} to {most}"))
        }
        _ => Ok(row),
    }
}
