//! The jobs of a private sum, unit by unit: measure the rows, look at them, clip and add them, noise the sums.
//!
//! What comes of them depends on blocks of coordinates, whose bounds are fixed, and not on how long units are.

use super::{Extra, Outcome, RowBytes, Unit};
use crate::{Privacy, rows};
use std::{fmt, sync::Arc};
use testudo_aggregate::{BLOCK, Observation, Rows, UnitStatistics, observe_unit};
use testudo_privacy::{
    ParameterError,
    clip::{ClippedSum, Coordinate, TrimmedSum, squares},
    noise::{NoiseSeed, NoiseStream},
};
use zeroize::Zeroizing;

/// What every job of one private sum shares.
pub(crate) struct Shared {
    pub(crate) privacy: Privacy,
    /// Of this round alone; of the whole run where the noise is correlated.
    pub(crate) seed: NoiseSeed,
    /// Digest of what is summed; where the noise is correlated, those of the run's earlier steps before it.
    pub(crate) manifests: Vec<[u8; 32]>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").field("steps", &self.manifests.len()).finish_non_exhaustive()
    }
}

/// Per row the factor from coordinates to grid steps; `None`: the row adds nothing.
pub(crate) type Factors = Arc<[Option<f64>]>;

/// One step over one unit.
#[derive(Debug)]
pub(crate) enum Step {
    /// Sums of squares.
    Measure,
    /// Distances of the clipped rows, for rules that select.
    Look { factors: Factors, observation: Arc<Observation> },
    /// Integer sums of the clipped rows.
    Clip { factors: Factors },
    /// Noise on them.
    Noise { sums: Vec<ClippedSum> },
}

/// What a step found.
#[derive(Debug)]
pub(crate) enum Found {
    /// Row by row, block by block; not finite if a value is not.
    Measured(Vec<Vec<f64>>),
    /// Of the unit.
    Looked(UnitStatistics),
    /// Sums block by block, not private, and Σq² row by row.
    Clipped { sums: Vec<ClippedSum>, energy: Vec<u128> },
    /// Coordinates of the private aggregate.
    Noised(Vec<f32>),
}

impl Step {
    /// The rows it reads.
    pub(super) fn used(&self, rows: usize) -> Vec<usize> {
        match self {
            Self::Measure => (0..rows).collect(),
            Self::Look { factors, .. } | Self::Clip { factors } => {
                (0..rows).filter(|&row| factors.get(row).is_some_and(Option::is_some)).collect()
            }
            Self::Noise { .. } => Vec::new(),
        }
    }

    pub(super) fn run(self, shared: &Shared, unit: Unit, bytes: &[RowBytes]) -> Result<Outcome, String> {
        let used = self.used(unit.rows.len());
        let found = match self {
            Self::Noise { sums } => Found::Noised(shared.noised(&unit, sums)?),
            step => {
                let length = unit.own.len();
                rows::in_erased_memory(|values| {
                    unit.rows.decode(&used, &unit.places, bytes, values)?;
                    if values.len() != used.len() * length {
                        return Err(format!("{} values for {} rows of {length}", values.len(), used.len()));
                    }
                    if !shared.privacy.is_centred() {
                        let views: Vec<&[f32]> = values.chunks_exact(length).collect();
                        return step.over(shared, &unit, &used, &views);
                    }
                    let centre = centre(&unit)?;
                    let offset = |(value, centre): (&f32, &f32)| f64::from(*value) - f64::from(*centre);
                    let offsets = values
                        .chunks_exact(length)
                        .map(|row| Zeroizing::new(row.iter().zip(&centre).map(offset).collect()));
                    let offsets: Vec<Zeroizing<Vec<f64>>> = offsets.collect();
                    let views: Vec<&[f64]> = offsets.iter().map(|row| row.as_slice()).collect();
                    step.over(shared, &unit, &used, &views)
                })?
            }
        };
        Ok(Outcome::Private { unit, found })
    }

    /// Over the rows in use, one slice each.
    fn over<T: Coordinate>(self, shared: &Shared, unit: &Unit, used: &[usize], rows: &[&[T]]) -> Result<Found, String> {
        match self {
            Self::Measure => {
                let blocks = |row: &&[T]| row.chunks(BLOCK).map(squares).collect();
                Ok(Found::Measured(rows.iter().map(blocks).collect()))
            }
            Self::Look { factors, observation } => {
                // Absent rows are zeros.
                let mut points = Zeroizing::new(vec![0.0_f32; observation.rows * unit.own.len()]);
                for ((row, &at), point) in rows.iter().zip(used).zip(points.chunks_exact_mut(unit.own.len())) {
                    let scale = factors[at].unwrap_or(0.0) * shared.privacy.grid.step();
                    for (point, value) in point.iter_mut().zip(*row) {
                        *point = ((*value).into() * scale) as f32;
                    }
                }
                let views: Vec<&[f32]> = points.chunks_exact(unit.own.len()).collect();
                let rows = Rows::new(&views, unit.own.start).map_err(|error| error.to_string())?;
                observe_unit(&rows, &observation).map(Found::Looked).map_err(|error| error.to_string())
            }
            Self::Clip { factors } => {
                let mut energy = vec![0; unit.rows.len()];
                let sums = shared.clipped(unit.own.len(), (rows, used), &factors, &mut energy);
                Ok(Found::Clipped { sums: sums.map_err(|error| error.to_string())?, energy })
            }
            Self::Noise { .. } => Err("noise reads no rows".into()),
        }
    }
}

impl Shared {
    fn clipped<T: Coordinate>(
        &self,
        length: usize,
        (rows, used): (&[&[T]], &[usize]),
        factors: &[Option<f64>],
        energy: &mut [u128],
    ) -> Result<Vec<ClippedSum>, ParameterError> {
        let mut sums = Vec::with_capacity(length.div_ceil(BLOCK));
        for start in (0..length).step_by(BLOCK) {
            let block = start..length.min(start + BLOCK);
            let mut sum = Sum::new(&self.privacy, block.len())?;
            for (row, &at) in rows.iter().zip(used) {
                let Some(factor) = factors[at] else { continue };
                energy[at] += sum.add_slice(&row[block.clone()], factor)?;
            }
            sums.push(sum.finish());
        }
        Ok(sums)
    }

    /// Every block's noise is its own: its key follows from seed, manifest, σ and the block's number.
    fn noised(&self, unit: &Unit, sums: Vec<ClippedSum>) -> Result<Vec<f32>, String> {
        let table = self.privacy.noise_table()?;
        let mut values = Vec::with_capacity(unit.own.len());
        for (block, sum) in ((unit.own.start / BLOCK) as u64..).zip(sums) {
            let noised = match &self.privacy.correlated {
                None => {
                    let manifest = self.manifests.last().ok_or("a sum without a manifest")?;
                    let key = self.seed.key(manifest, table.sigma(), block);
                    sum.noised(&mut NoiseStream::new(table, &key))
                }
                Some(run) => {
                    let noise = run.plan().noise((table, &self.seed), &self.manifests, block, sum.dimension());
                    noise.and_then(|noise| sum.noised_by(&noise))
                }
            };
            values.extend(noised.map_err(|error| error.to_string())?.release(self.privacy.divisor));
        }
        if self.privacy.is_centred() {
            values.iter_mut().zip(centre(unit)?).for_each(|(value, centre)| *value += f64::from(centre));
        }
        Ok(values.into_iter().map(|value| (value as f32).clamp(f32::MIN, f32::MAX)).collect())
    }
}

/// The public centre in this unit: the last release's aggregate.
fn centre(unit: &Unit) -> Result<Vec<f32>, String> {
    let mut values = Vec::with_capacity(unit.own.len());
    for extra in unit.extras.iter() {
        match extra {
            Extra::Zero => values.resize(unit.own.len(), 0.0),
            Extra::Vector(vector) => {
                for place in &unit.places {
                    values.extend(vector.get(place.clone()).ok_or("the last aggregate is too short")?);
                }
            }
            Extra::Update(_) => return Err("an update is no public centre".into()),
        }
    }
    if values.len() == unit.own.len() { Ok(values) } else { Err("there is no public centre".into()) }
}

/// The sum of one block.
enum Sum {
    All(ClippedSum),
    Trimmed(Box<TrimmedSum>),
}

impl Sum {
    fn new(privacy: &Privacy, length: usize) -> Result<Self, ParameterError> {
        Ok(match privacy.cut() {
            None => Self::All(ClippedSum::new(privacy.grid, length)),
            Some(cut) => Self::Trimmed(Box::new(TrimmedSum::new(privacy.grid, length, privacy.rows, cut)?)),
        })
    }

    fn add_slice<T: Coordinate>(&mut self, slice: &[T], factor: f64) -> Result<u128, ParameterError> {
        match self {
            Self::All(sum) => sum.add_slice(slice, factor),
            Self::Trimmed(sum) => sum.add_slice(slice, factor),
        }
    }

    fn finish(self) -> ClippedSum {
        match self {
            Self::All(sum) => sum,
            Self::Trimmed(sum) => sum.finish(),
        }
    }
}
