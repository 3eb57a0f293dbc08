//! Rows and extra rows of one computation.

use super::updates::{self, Matrix, Updates};
use crate::exit::{Exit, Failure};
use clap::Args;
use std::{
    ops::Range,
    path::{Path, PathBuf},
};
use testudo_aggregate::{AggregateError, Element, Extras, Source, Work};

/// Rows besides the clients' own, for rules that need them.
#[derive(Debug, Args)]
pub(super) struct ExtraFiles {
    /// The task's last aggregate, 1 x d, for centered_clipping; without it zero, as before the first release
    #[arg(long, value_name = "FILE")]
    last_aggregate: Option<PathBuf>,
    /// A trusted update, 1 x d, for fltrust
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// Per row the sum of its client's earlier updates, n x d, for foolsgold; without it zero
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
}

/// The rows that are used, and the extra rows behind them.
pub(super) struct Inputs<'a, T> {
    pub(super) matrix: &'a mut Matrix<T>,
    pub(super) kept: &'a [usize],
    pub(super) extras: &'a [Vec<T>],
}

impl<T: Element> Source<T> for Inputs<'_, T> {
    fn unit(&mut self, range: Range<usize>, work: &mut Work<'_, T>) -> Result<(), AggregateError> {
        let extras = self.extras;
        let result = self.matrix.unit::<Refused>(self.kept, range.clone(), &mut |rows| {
            let points: Vec<&[T]> = rows.iter().copied().chain(extras.iter().map(|row| &row[range.clone()])).collect();
            work(&points).map_err(Refused)
        });
        result.map_err(|Refused(error)| error)
    }
}

/// What the computation or the file says.
struct Refused(AggregateError);

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self(AggregateError::Io(why))
    }
}

impl ExtraFiles {
    /// The files that are given.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.last_aggregate, &self.reference, &self.history].into_iter().flatten()
    }

    /// The extra rows that `needs` names, for the rows `kept` of a matrix of `rows` rows.
    ///
    /// # Errors
    /// Files of the wrong shape, needed ones that are missing and given ones that have no effect.
    pub(super) fn read<T: Element>(
        &self,
        needs: Extras,
        matrix: &Matrix<T>,
        kept: &[usize],
    ) -> Result<Vec<Vec<T>>, Failure> {
        let zero = || vec![T::ZERO; matrix.columns];
        let mut extras = Vec::new();
        for (flag, file, needed, required) in [
            ("--last-aggregate", &self.last_aggregate, needs.last_aggregate, false),
            ("--reference", &self.reference, needs.reference, true),
        ] {
            match file {
                Some(path) if needed => extras.extend(rows(path, 1, matrix.columns)?),
                None if needed && required => {
                    return Err(Failure::new(
                        Exit::Usage,
                        "an extra row is missing",
                        format!("this rule needs {flag}"),
                    )
                    .next(format!("give {flag} FILE, a 1 x {} array", matrix.columns)));
                }
                None if needed => extras.push(zero()),
                Some(_) => return Err(useless(flag)),
                None => {}
            }
        }
        match &self.history {
            Some(path) if needs.history => {
                let all = rows(path, matrix.rows, matrix.columns)?;
                extras.extend(kept.iter().map(|&row| all[row].clone()));
            }
            None if needs.history => extras.extend(kept.iter().map(|_| zero())),
            Some(_) => return Err(useless("--history")),
            None => {}
        }
        Ok(extras)
    }
}

fn useless(flag: &str) -> Failure {
    Failure::new(Exit::Usage, format!("{flag} has no effect"), "this rule does not use it")
        .next(format!("leave {flag} out"))
}

fn rows<T: Element>(path: &Path, count: usize, columns: usize) -> Result<Vec<Vec<T>>, Failure> {
    fn all<S: Element, T: Element>(mut matrix: Matrix<S>) -> Result<Vec<Vec<T>>, String> {
        let mut rows = Vec::new();
        let (indices, range) = ((0..matrix.rows).collect::<Vec<_>>(), 0..matrix.columns);
        matrix.unit::<String>(&indices, range, &mut |slices| {
            let row = |slice: &&[S]| slice.iter().map(|value| T::from_f64(value.to_f64())).collect();
            rows = slices.iter().map(row).collect();
            Ok(())
        })?;
        Ok(rows)
    }
    let refused = |why: String| Failure::new(Exit::Usage, format!("cannot use {}", path.display()), why);
    let read: Vec<Vec<T>> = match updates::read_rows(path, false, count == 1)? {
        Updates::F32(matrix) => all(matrix),
        Updates::F64(matrix) => all(matrix),
    }
    .map_err(refused)?;
    if read.len() != count || read[0].len() != columns {
        return Err(refused(format!("it is {} x {}, but must be {count} x {columns}", read.len(), read[0].len())));
    }
    if read.iter().flatten().any(|value| !value.is_finite()) {
        return Err(refused("it holds NaN or infinity".into()));
    }
    Ok(read)
}
