//! What the rows of a round are: clients' updates, or the means of unmasked groups.

use crate::{RowBytes, rows};
use std::ops::Range;
use testudo_aggregate::{Mask, Quantizer, apply_masks, fold_all};
use testudo_protocol::ClientId;

/// The rows a rule sees, in order.
#[derive(Debug, Clone)]
pub(crate) enum RowSet {
    /// One row per client: its update.
    Clients(Vec<ClientId>),
    /// One row per group: the mean of its survivors' updates.
    Groups {
        /// From the ring to numbers.
        quantizer: Quantizer,
        /// The groups, by number.
        groups: Vec<GroupRow>,
    },
}

/// A group that can be unmasked.
#[derive(Clone)]
pub(crate) struct GroupRow {
    /// Its number.
    pub(crate) number: u32,
    /// Whose masked inputs are its sum.
    pub(crate) survivors: Vec<ClientId>,
    /// What the sum still carries.
    pub(crate) masks: Vec<Mask>,
    /// The sum of the survivors' weights, as levels; `None` when all weigh the same.
    pub(crate) weight: Option<u32>,
}

impl RowSet {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Clients(clients) => clients.len(),
            Self::Groups { groups, .. } => groups.len(),
        }
    }

    /// Whose uploads make a row.
    pub(crate) fn clients_of(&self, row: usize) -> &[ClientId] {
        match self {
            Self::Clients(clients) => std::slice::from_ref(&clients[row]),
            Self::Groups { groups, .. } => &groups[row].survivors,
        }
    }

    /// Uploads behind all rows.
    pub(crate) fn uploads(&self) -> usize {
        (0..self.len()).map(|row| self.clients_of(row).len()).sum()
    }

    /// Adds the numbers of some rows at some places, one row after the other. `bytes` holds those of the rows' clients in
    /// order.
    pub(crate) fn decode(
        &self,
        used: &[usize],
        places: &[Range<usize>],
        bytes: &[RowBytes],
        values: &mut Vec<f32>,
    ) -> Result<(), String> {
        let length = places.iter().map(ExactSizeIterator::len).sum();
        let (quantizer, groups) = match self {
            Self::Clients(_) => return rows::decode(bytes, length, values),
            Self::Groups { quantizer, groups } => (quantizer, groups),
        };
        let mut rest = bytes;
        let mut sums = vec![0u32; length];
        for &row in used {
            let group = &groups[row];
            let (inputs, later) = rest.split_at_checked(group.survivors.len()).ok_or("a masked input is missing")?;
            rest = later;
            group.unmask(places, inputs, &mut sums)?;
            let start = values.len();
            values.resize(start + length, 0.0);
            let clients = group.survivors.len();
            let mean = match group.weight {
                None => quantizer.mean(&sums, clients, &mut values[start..]),
                Some(weight) => quantizer.weighted_mean(&sums, clients, weight, &mut values[start..]),
            };
            mean.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

impl GroupRow {
    /// The exact sum of the survivors' levels.
    pub(crate) fn unmask(&self, places: &[Range<usize>], inputs: &[RowBytes], sums: &mut [u32]) -> Result<(), String> {
        sums.fill(0);
        let pieces: Vec<Vec<&[u8]>> =
            inputs.iter().map(|input| input.iter().map(|piece| &piece[..]).collect()).collect();
        let pieces: Vec<&[&[u8]]> = pieces.iter().map(Vec::as_slice).collect();
        fold_all(sums, &pieces).map_err(|error| error.to_string())?;
        let mut rest = sums;
        for place in places {
            let (here, later) = rest.split_at_mut(place.len());
            apply_masks(here, place.start, &self.masks).map_err(|error| error.to_string())?;
            rest = later;
        }
        Ok(())
    }
}

impl std::fmt::Debug for GroupRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GroupRow({}, {} survivors, {} masks)", self.number, self.survivors.len(), self.masks.len())
    }
}
