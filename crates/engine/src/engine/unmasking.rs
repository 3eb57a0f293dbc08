//! Between the last answer and the first unit: the masks of each group are rebuilt.

use super::{Action, Engine, Stage};
use crate::{
    job::Job,
    row_set::{GroupRow, RowSet},
};
use testudo_aggregate::Quantizer;
use testudo_protocol::{
    Abandon, ClientId,
    secagg::{Lost, Opened},
};

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
        openings.into_iter().enumerate().map(|(index, opening)| Action::Run(Job::open(index, opening))).collect()
    }

    pub(super) fn opened(&mut self, index: usize, result: Result<Opened, Lost>) -> Vec<Action> {
        let Stage::Unmasking(unmasking) = &mut self.stage else { return Vec::new() };
        let Some((number, row)) = unmasking.groups.get_mut(index) else { return Vec::new() };
        match result {
            Ok(Opened { survivors, masks, misfits }) => {
                self.misfits.extend(misfits);
                *row = Some(GroupRow { number: *number, survivors, masks });
            }
            Err(lost) => {
                self.locked.insert(*number, lost.to_string());
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
        match self.quantizer() {
            Ok(quantizer) => self.aggregate(RowSet::Groups { quantizer, groups: rows }),
            Err(detail) => self.abandon(Abandon::Fault { detail }),
        }
    }

    /// Why nothing that a client sent counts although it did its part, if so.
    pub(super) fn lost(&self, client: &ClientId) -> Option<String> {
        self.round.lost(client).or_else(|| {
            let number = self.round.group_of(client)?;
            Some(format!("group {number}: {}", self.locked.get(&number)?))
        })
    }

    fn quantizer(&self) -> Result<Quantizer, String> {
        let masking = self.spec.masking.as_ref().ok_or("the task is not masked")?;
        Quantizer::new(masking.clip_l2, Some(masking.kappa), masking.bits).map_err(|error| error.to_string())
    }
}
