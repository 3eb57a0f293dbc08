//! Divisions by label.

use std::ops::Range;

use super::{PartitionError, iid};
use crate::data::Dataset;
use crate::data::split::rows_by_class;
use crate::random::{Purpose, stream};

/// The rows `range`, sorted by label; equal labels keep their order.
pub(super) fn sorted(data: &Dataset, range: Range<usize>) -> Vec<usize> {
    by_label(data, range.collect())
}

/// Consecutive parts whose sizes differ by at most one, larger ones first.
pub(super) fn consecutive(rows: &[usize], parts: usize) -> Vec<Vec<usize>> {
    let (size, larger) = (rows.len() / parts, rows.len() % parts);
    let mut from = 0;
    (0..parts)
        .map(|part| {
            let to = from + size + usize::from(part < larger);
            let part = rows[from..to].to_vec();
            from = to;
            part
        })
        .collect()
}

pub(super) fn gamma(data: &Dataset, clients: usize, seed: u64, gamma: f64) -> Result<Vec<Vec<usize>>, PartitionError> {
    if !(0.0..=1.0).contains(&gamma) {
        return Err(PartitionError::Gamma(gamma));
    }
    let mixed = (gamma * data.len() as f64) as usize;
    if mixed == data.len() {
        return Ok(iid(mixed, clients, seed));
    }
    let mut rows: Vec<usize> = (0..data.len()).collect();
    stream(seed, Purpose::Partition, 0, 0).shuffle(&mut rows);
    let mut rest = rows.split_off(mixed);
    rest.sort_unstable();
    let mut parts = consecutive(&by_label(data, rest), clients);
    for (client, part) in parts.iter_mut().enumerate() {
        part.extend_from_slice(&rows[client * mixed / clients..(client + 1) * mixed / clients]);
    }
    Ok(parts)
}

pub(super) fn shards(
    data: &Dataset,
    clients: usize,
    seed: u64,
    per_client: usize,
) -> Result<Vec<Vec<usize>>, PartitionError> {
    if per_client == 0 {
        return Err(PartitionError::Shards(per_client));
    }
    let mut shards = consecutive(&sorted(data, 0..data.len()), clients * per_client);
    stream(seed, Purpose::Partition, 0, 0).shuffle(&mut shards);
    Ok(shards.chunks(per_client).map(<[Vec<usize>]>::concat).collect())
}

pub(super) fn label_quantity(
    data: &Dataset,
    clients: usize,
    seed: u64,
    labels: usize,
) -> Result<Vec<Vec<usize>>, PartitionError> {
    let classes = data.classes();
    if labels > classes || labels.saturating_mul(clients) < classes {
        return Err(PartitionError::Labels { labels, classes, clients });
    }
    let mut random = stream(seed, Purpose::Partition, 0, 0);
    let mut order: Vec<usize> = (0..classes).collect();
    random.shuffle(&mut order);
    let mut seats: Vec<usize> = (0..clients).collect();
    random.shuffle(&mut seats);
    // Classes are dealt in turn, so that nobody gets one twice and none is left over.
    let mut holders = vec![Vec::new(); classes];
    for (turn, &client) in seats.iter().enumerate() {
        for label in 0..labels {
            holders[order[(turn * labels + label) % classes]].push(client);
        }
    }
    let mut parts = vec![Vec::new(); clients];
    for (mut rows, holders) in rows_by_class(data.labels(), classes).into_iter().zip(holders) {
        random.shuffle(&mut rows);
        for (part, client) in consecutive(&rows, holders.len()).into_iter().zip(holders) {
            parts[client].extend(part);
        }
    }
    Ok(parts)
}

fn by_label(data: &Dataset, mut rows: Vec<usize>) -> Vec<usize> {
    rows.sort_by_key(|&row| data.label(row));
    rows
}
