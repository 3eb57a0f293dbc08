//! Encoded updates over real sockets: what they stand for is what counts, and bad ones are refused alone.

use crate::common::*;
use bytes::Bytes;
use testudo_proto::v1;
use testudo_protocol::{Decoder, Encoding, Layout, Reason, Run};

const ALL: &str = "[encoding]\naccept = [\"f16\", \"bf16\", \"int8\", \"sparse\"]";

/// What a payload stands for.
fn decoded(encoding: Encoding, layout: &Layout, payload: &[u8]) -> Vec<f32> {
    let mut decoder = Decoder::new(encoding, layout.clone().into());
    let mut runs = Vec::new();
    decoder.feed(payload, &mut runs).unwrap();
    decoder.finish(&mut runs).unwrap();
    let values = |run| match run {
        Run::Values(values) => values,
        Run::Zeros(count) => vec![0.0; count],
    };
    runs.into_iter().flat_map(values).collect()
}

fn parts(seat: &Seat, encoding: Encoding, payload: &Bytes) -> Vec<v1::UploadRequest> {
    seat.parts(payload, |header| header.encoding = encoding)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_encoding_counts_as_what_it_stands_for_with_either_spool() {
    for file in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let host = if file { Host::on(directory.path(), |_| {}).await } else { Host::start().await };
        let toml = task_toml("mixed", 1, "size = 5", "kind = \"mean\"", ALL);
        host.create(&toml, &small_model(20_000)).await;
        let seats = host.seats("mixed", &["c0", "c1", "c2", "c3", "c4"]).await;
        let dimension = seats[0].dimension();
        let mut sum = vec![0.0f64; dimension];
        for (number, (seat, encoding)) in seats.iter().zip(Encoding::ALL).enumerate() {
            // Mostly zeros in long runs, so that the sparse one has gaps.
            let value = |c: usize| if c % 5000 < 40 { (c % 41) as f32 * 0.01 - 0.2 * number as f32 } else { 0.0 };
            let delta: Vec<f32> = (0..dimension).map(value).collect();
            let layout = &seat.assignment.layout;
            assert!(seat.assignment.encodings.contains(&encoding));
            let payload = Bytes::from(encoding.encode(&delta, layout));
            for (sum, value) in sum.iter_mut().zip(decoded(encoding, layout, &payload)) {
                *sum += f64::from(value);
            }
            seat.send(parts(seat, encoding, &payload)).await.unwrap();
        }
        let record = host.ended("mixed", 1).await;
        assert_eq!((record.state.as_str(), record.received), ("released", 5), "file spool: {file}");
        let base = small_model(20_000);
        for ((got, base), sum) in host.model("mixed").await.parameters().iter().zip(base.parameters()).zip(sum) {
            assert_eq!(*got, base + (sum / 5.0) as f32);
        }
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn encoded_payloads_that_lie_are_refused_alone() {
    let host = Host::start().await;
    let toml = task_toml("lies", 1, "size = 8\nminimum = 1", "kind = \"mean\"", ALL);
    host.create(&toml, &small_model(700)).await;
    let seats = host.seats("lies", &["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"]).await;
    let dimension = seats[0].dimension();
    let layout = seats[0].assignment.layout.clone();
    let mut infinite = Encoding::F16.encode(&vec![0.5; dimension], &layout);
    infinite[10..12].copy_from_slice(&[0x00, 0x7c]);
    let mut scale = Encoding::Int8.encode(&vec![0.5; dimension], &layout);
    scale[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let sparse = |entries: &[(u32, f32)]| {
        let mut bytes = (entries.len() as u32).to_le_bytes().to_vec();
        for (index, value) in entries {
            bytes.extend(index.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        bytes
    };
    let cases = [
        (Encoding::F16, infinite, Reason::NonFinite),
        (Encoding::Int8, scale, Reason::NonFinite),
        (Encoding::Bf16, vec![0; dimension * 2 - 2], Reason::Truncated),
        (Encoding::F16, vec![0; dimension * 2 + 2], Reason::Oversize),
        (Encoding::Sparse, sparse(&[(dimension as u32, 1.0)]), Reason::Malformed),
        (Encoding::Sparse, sparse(&[(7, 1.0), (3, 1.0)]), Reason::Malformed),
        (Encoding::Sparse, sparse(&[(7, f32::NAN)]), Reason::NonFinite),
    ];
    for (seat, (encoding, payload, expected)) in seats.iter().zip(cases) {
        let payload = Bytes::from(payload);
        assert_eq!(reason(seat.send(parts(seat, encoding, &payload)).await), expected, "{encoding}");
    }
    seats[7].submit().await.unwrap();
    let record = host.ended("lies", 1).await;
    assert_eq!((record.state.as_str(), record.received), ("released", 1));
    assert_eq!(verdict(&record, "c0"), "rejected NON_FINITE");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_takes_only_the_encodings_it_names() {
    let host = Host::start().await;
    let toml = task_toml("plain", 1, "size = 2\nminimum = 1", "kind = \"mean\"", "");
    host.create(&toml, &small_model(50)).await;
    let seats = host.seats("plain", &["a", "b"]).await;
    let (first, second) = (&seats[0], &seats[1]);
    assert_eq!(first.assignment.encodings, [Encoding::F32]);
    let payload = Bytes::from(Encoding::F16.encode(&vec![0.5; first.dimension()], &first.assignment.layout));
    assert_eq!(reason(first.send(parts(first, Encoding::F16, &payload)).await), Reason::WrongDtype);
    second.submit().await.unwrap();
    assert_eq!(host.ended("plain", 1).await.state, "released");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoded_upload_goes_on_where_the_connection_broke() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::on(directory.path(), |_| {}).await;
    let toml = task_toml("broken", 1, "size = 1", "kind = \"mean\"", ALL);
    host.create(&toml, &small_model(400_000)).await;
    let seat = seat(host.federation(), "broken", "a").await;
    let delta: Vec<f32> = (0..seat.dimension()).map(|c| (c % 97) as f32 * 0.125).collect();
    let payload = Bytes::from(Encoding::F16.encode(&delta, &seat.assignment.layout));
    let digest = seat.header(&payload).digest;
    let (sender, call) = open_upload(&seat);
    let messages = seat.parts(&payload, |header| header.encoding = Encoding::F16);
    sender.send(messages[0].clone()).await.unwrap();
    sender.send(chunk(payload.slice(..300_001))).await.unwrap();
    let held = loop {
        // A status call takes the slot over, so it is asked until the first chunk is in.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let status = seat.status(digest).await.unwrap();
        if status.offset > 0 {
            break status.offset;
        }
    };
    drop(sender);
    assert!(call.await.unwrap().is_err());
    assert_eq!(held, 300_001, "the offset is of the encoded bytes");
    let rest = seat.parts(&payload, |header| {
        header.encoding = Encoding::F16;
        header.offset = held;
    });
    seat.send(rest).await.unwrap();
    host.ended("broken", 1).await;
    let base = small_model(400_000);
    let model = host.model("broken").await;
    assert!(model.parameters().iter().zip(base.parameters()).zip(&delta).all(|((got, base), d)| *got == base + d));
    host.stop().await;
}
