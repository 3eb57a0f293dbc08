//! What the rows of a round are: clients' updates, or the means of unmasked groups.

use crate::{RowBytes, rows};
use std::ops::Range;
use testudo_aggregate::{Mask, Quantizer, apply_masks, fold_all};
use testudo_privacy::rotation::{BLOCK, Rotation};
use testudo_protocol::ClientId;

/// The rows a rule sees, in order.
#[derive(Debug, Clone)]
pub(crate) enum RowSet {
    /// One row per client: its update.
    Clients(Vec<ClientId>),
    /// One row per group: the mean of its survivors' updates.
    Groups {
        /// From the ring to numbers.
        coding: Coding,
        /// The groups, by number.
        groups: Vec<GroupRow>,
    },
}

/// What a word of a group's sum stands for.
#[derive(Debug, Clone)]
pub(crate) enum Coding {
    /// A sum of the quantiser's levels.
    Levels(Quantizer),
    /// A sum of rotated steps of this size, with the clients' noise.
    Steps { rotation: Rotation, step: f64 },
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
        let (coding, groups) = match self {
            Self::Clients(_) => return rows::decode(bytes, length, values),
            Self::Groups { coding, groups } => (coding, groups),
        };
        let windows = self.windows(places);
        let mut rest = bytes;
        let mut sums = vec![0u32; windows.iter().map(ExactSizeIterator::len).sum()];
        for &row in used {
            let group = &groups[row];
            let (inputs, later) = rest.split_at_checked(group.survivors.len()).ok_or("a masked input is missing")?;
            rest = later;
            group.unmask(&windows, inputs, &mut sums)?;
            let clients = group.survivors.len();
            match coding {
                Coding::Levels(quantizer) => {
                    let start = values.len();
                    values.resize(start + length, 0.0);
                    let mean = match group.weight {
                        None => quantizer.mean(&sums, clients, &mut values[start..]),
                        Some(weight) => quantizer.weighted_mean(&sums, clients, weight, &mut values[start..]),
                    };
                    mean.map_err(|error| error.to_string())?;
                }
                Coding::Steps { rotation, step } => {
                    let means = turned_back(rotation, &windows, &sums, step / clients as f64);
                    for place in places {
                        values.extend(within(&windows, &means, place).ok_or("a coordinate is in no block")?);
                    }
                }
            }
        }
        Ok(())
    }

    /// Which words of each payload the numbers at these places come from: the same, or the whole blocks around them,
    /// ascending.
    pub(crate) fn windows(&self, places: &[Range<usize>]) -> Vec<Range<usize>> {
        if !matches!(self, Self::Groups { coding: Coding::Steps { .. }, .. }) {
            return places.to_vec();
        }
        let block = |place: &Range<usize>| place.start / BLOCK * BLOCK..place.end.next_multiple_of(BLOCK);
        let mut blocks: Vec<Range<usize>> = places.iter().filter(|place| !place.is_empty()).map(block).collect();
        blocks.sort_unstable_by_key(|block| block.start);
        let mut windows: Vec<Range<usize>> = Vec::with_capacity(blocks.len());
        for block in blocks {
            match windows.last_mut() {
                Some(last) if block.start <= last.end => last.end = last.end.max(block.end),
                _ => windows.push(block),
            }
        }
        windows
    }
}

/// Sums of steps, one window of whole blocks after the other, as numbers of the update: turned back, times `scale`.
fn turned_back(rotation: &Rotation, windows: &[Range<usize>], sums: &[u32], scale: f64) -> Vec<f32> {
    let starts = windows.iter().flat_map(|window| window.clone().step_by(BLOCK));
    let mut values = Vec::with_capacity(sums.len());
    let mut block = Box::new([0.0_f64; BLOCK]);
    for (start, sums) in starts.zip(sums.as_chunks::<BLOCK>().0) {
        // From the ring: the upper half is negative.
        block.iter_mut().zip(sums).for_each(|(value, sum)| *value = f64::from(sum.cast_signed()));
        rotation.inverse((start / BLOCK) as u64, &mut block);
        values.extend(block.iter().map(|value| ((value * scale) as f32).clamp(f32::MIN, f32::MAX)));
    }
    values
}

/// The values at a place, of those of all windows.
fn within<'a>(windows: &[Range<usize>], values: &'a [f32], place: &Range<usize>) -> Option<&'a [f32]> {
    let mut before = 0;
    for window in windows {
        if window.start <= place.start && place.end <= window.end {
            let start = before + place.start - window.start;
            return values.get(start..start + place.len());
        }
        before += window.len();
    }
    place.is_empty().then_some(&[])
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
