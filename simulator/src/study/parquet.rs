//! `rounds.parquet`: a row per run and measurement.

use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::results::Outcome;
use crate::world::{Counts, Measured};

type Optional = fn(&Measured) -> Option<f64>;
type Count = fn(&Counts) -> u64;

const OPTIONAL: [(&str, Optional); 9] = [
    ("loss", |one| one.loss),
    ("backdoor", |one| one.backdoor),
    ("distance", |one| one.distance),
    ("kappa", |one| one.kappa),
    ("excess", |one| one.excess),
    ("detector_true_positives", |one| one.standing?.colluders.rate()),
    ("detector_false_positives", |one| one.standing?.honest.rate()),
    ("detector_delay", |one| one.standing?.delay),
    ("model_norm", |one| Some(one.norm)),
];

const COUNTS: [(&str, Count); 6] = [
    ("accepted", |counts| counts.accepted),
    ("clipped", |counts| counts.clipped),
    ("trimmed", |counts| counts.trimmed),
    ("rejected", |counts| counts.rejected),
    ("dropout", |counts| counts.dropout),
    ("held_back", |counts| counts.held_back),
];

/// The file, rows sorted by run and round.
pub(super) fn rounds(outcome: &Outcome) -> Result<Vec<u8>, ParquetError> {
    let mut schema = String::from("message rounds { REQUIRED BYTE_ARRAY run (UTF8); REQUIRED INT64 seed; ");
    for axis in 0..outcome.study.axes.len() {
        schema.push_str(&format!("REQUIRED BYTE_ARRAY axis_{axis} (UTF8); "));
    }
    schema.push_str("REQUIRED INT64 round; REQUIRED DOUBLE accuracy; ");
    OPTIONAL.iter().for_each(|(name, _)| schema.push_str(&format!("OPTIONAL DOUBLE {name}; ")));
    for side in ["honest", "colluders"] {
        COUNTS.iter().for_each(|(name, _)| schema.push_str(&format!("REQUIRED INT64 {side}_{name}; ")));
    }
    schema.push_str("REQUIRED INT64 abandoned; REQUIRED INT64 bytes; }");
    let schema = Arc::new(parse_message_type(&schema)?);
    let keys = outcome
        .study
        .axes
        .iter()
        .enumerate()
        .map(|(index, axis)| parquet::file::metadata::KeyValue::new(format!("axis_{index}"), axis.key.clone()));
    let properties = WriterProperties::builder()
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_created_by("testudo".to_owned())
        .set_key_value_metadata(Some(keys.collect()))
        .build();
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    columns(&mut group, outcome)?;
    group.close()?;
    writer.close()?;
    Ok(bytes)
}

fn columns(group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>, outcome: &Outcome) -> Result<(), ParquetError> {
    let runs = outcome.by_id();
    let rows: Vec<(usize, &Measured)> = runs
        .iter()
        .enumerate()
        .flat_map(|(run, (_, finished))| finished.measured.iter().map(move |one| (run, one)))
        .collect();
    let text = |group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>, value: &dyn Fn(usize) -> String| {
        let of_runs: Vec<ByteArray> = (0..runs.len()).map(|run| ByteArray::from(value(run).into_bytes())).collect();
        let values: Vec<ByteArray> = rows.iter().map(|(run, _)| of_runs[*run].clone()).collect();
        write::<ByteArrayType>(group, &values, None)
    };
    let integer = |group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>, value: &dyn Fn(usize, &Measured) -> u64| {
        let values: Vec<i64> =
            rows.iter().map(|(run, one)| i64::try_from(value(*run, one)).unwrap_or(i64::MAX)).collect();
        write::<Int64Type>(group, &values, None)
    };
    text(group, &|run| runs[run].1.id.clone())?;
    integer(group, &|run, _| runs[run].0.scenario.plan.seed)?;
    for axis in 0..outcome.study.axes.len() {
        text(group, &|run| outcome.study.labels(runs[run].0)[axis].to_owned())?;
    }
    integer(group, &|_, one| one.round)?;
    write::<DoubleType>(group, &rows.iter().map(|(_, one)| one.accuracy).collect::<Vec<_>>(), None)?;
    for (_, value) in OPTIONAL {
        let values: Vec<Option<f64>> = rows.iter().map(|(_, one)| value(one)).collect();
        let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
        write::<DoubleType>(group, &values.into_iter().flatten().collect::<Vec<_>>(), Some(&levels))?;
    }
    for side in [(|one| &one.honest) as fn(&Measured) -> &Counts, |one| &one.colluders] {
        for (_, value) in COUNTS {
            integer(group, &|_, one| value(side(one)))?;
        }
    }
    integer(group, &|_, one| one.abandoned)?;
    integer(group, &|_, one| one.bytes)
}

fn write<T: parquet::data_type::DataType>(
    group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>,
    values: &[T::T],
    levels: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let mut column =
        group.next_column()?.ok_or_else(|| ParquetError::General("more columns than the schema has".to_owned()))?;
    column.typed::<T>().write_batch(values, levels, None)?;
    column.close()
}
