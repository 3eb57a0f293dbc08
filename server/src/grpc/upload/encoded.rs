//! An encoded payload's way into the spool: as the plain f32 it stands for.

use super::Stop;
use crate::{grpc::status, spool::Writer};
use bytes::Bytes;
use testudo_engine::Door;
use testudo_protocol::{LONGEST_GAP, Run};

/// Payload bytes decoded at a time: they stand for at most a few MiB that are written out.
const STEP_BYTES: usize = 1 << 10;

/// Memory that decoding takes beside the part that is being gathered: what a step stands for, twice.
pub(super) const DECODED_BYTES: u64 = 2 * (STEP_BYTES as u64 / 8) * (LONGEST_GAP as u64 + 1) * 4;

/// Zeros to write, shared by all.
static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

/// Decodes a chunk and stores what it stands for.
pub(super) async fn append(door: &mut Door, writer: &mut Writer, chunk: &[u8]) -> Result<(), Stop> {
    for step in chunk.chunks(STEP_BYTES) {
        let runs = door.decode(step).map_err(Stop::Refuse)?;
        store(writer, runs).await?;
    }
    Ok(())
}

/// Stores what the end of the payload stands for.
pub(super) async fn end(door: &mut Door, writer: &mut Writer) -> Result<(), Stop> {
    let runs = door.decode_end().map_err(Stop::Refuse)?;
    store(writer, runs).await
}

async fn store(writer: &mut Writer, runs: Vec<Run>) -> Result<(), Stop> {
    let fault = |error| Stop::Pause(status::spool(error));
    for run in runs {
        match run {
            Run::Values(values) => {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                writer.append(bytes.into()).await.map_err(fault)?;
            }
            Run::Zeros(count) => {
                let mut left = count as u64 * 4;
                while left > 0 {
                    let piece = left.min(ZEROS.len() as u64);
                    writer.append(Bytes::from_static(&ZEROS[..piece as usize])).await.map_err(fault)?;
                    left -= piece;
                }
            }
        }
    }
    Ok(())
}
