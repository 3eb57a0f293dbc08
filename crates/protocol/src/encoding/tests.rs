use super::*;
use crate::{Reason, Reject, Tensor};
use proptest::prelude::*;
use std::sync::Arc;

fn layout(lengths: &[u64]) -> Arc<Layout> {
    let tensor = |(index, length): (usize, &u64)| Tensor { name: format!("t{index}"), shape: vec![*length] };
    Arc::new(Layout::new(lengths.iter().enumerate().map(tensor).collect()).unwrap())
}

fn length(runs: &[Run]) -> usize {
    runs.iter()
        .map(|run| match run {
            Run::Values(values) => values.len(),
            Run::Zeros(count) => *count,
        })
        .sum()
}

fn decode(encoding: Encoding, layout: &Arc<Layout>, bytes: &[u8], chunk: usize) -> Result<Vec<f32>, Reject> {
    let mut decoder = Decoder::new(encoding, layout.clone());
    let mut runs = Vec::new();
    for piece in bytes.chunks(chunk) {
        decoder.feed(piece, &mut runs)?;
        assert!(length(&runs) <= layout.dimension());
    }
    decoder.finish(&mut runs)?;
    Ok(runs
        .into_iter()
        .flat_map(|run| match run {
            Run::Values(values) => values,
            Run::Zeros(count) => vec![0.0; count],
        })
        .collect())
}

proptest! {
    #[test]
    fn every_encoding_comes_back_within_its_step(
        values in prop::collection::vec(-100.0f32..100.0, 12), zeros in 0usize..4096, chunk in 1usize..40
    ) {
        let delta: Vec<f32> = values.iter().enumerate().map(|(i, v)| if zeros >> i & 1 == 1 { 0.0 } else { *v }).collect();
        let layout = layout(&[5, 0, 7]);
        for encoding in Encoding::ALL {
            let bytes = encoding.encode(&delta, &layout);
            prop_assert!(encoding.lengths(&layout).contains(&(bytes.len() as u64)));
            let decoded = decode(encoding, &layout, &bytes, chunk).unwrap();
            let step = match encoding {
                Encoding::F32 | Encoding::Sparse | Encoding::Masked | Encoding::Noised => 0.0,
                Encoding::F16 => 100.0 / 2048.0,
                Encoding::Bf16 => 100.0 / 256.0,
                Encoding::Int8 => 100.0 / 127.0 / 1.99,
            };
            for (got, expected) in decoded.iter().zip(&delta) {
                prop_assert!((got - expected).abs() <= step, "{encoding}: {got} {expected}");
            }
        }
    }

    #[test]
    fn any_bytes_decode_alike_however_they_are_cut_and_never_beyond_the_model(
        bytes in prop::collection::vec(any::<u8>(), 0..120), cut in 1usize..17, which in 0usize..5
    ) {
        let layout = layout(&[5, 3]);
        let encoding = Encoding::ALL[which];
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let whole = decode(encoding, &layout, &bytes, 1000).map(bits).map_err(|reject| reject.reason);
        let pieces = decode(encoding, &layout, &bytes, cut).map(bits).map_err(|reject| reject.reason);
        prop_assert_eq!(whole, pieces);
    }
}

#[test]
fn a_plain_payload_has_four_bytes_per_coordinate_under_any_name() {
    let layout = layout(&[2, 1]);
    let bytes: Vec<u8> = [1.5f32, -2.0, 0.25].iter().flat_map(|value| value.to_le_bytes()).collect();
    for encoding in [Encoding::F32, Encoding::Masked, Encoding::Noised] {
        assert_eq!(decode(encoding, &layout, &bytes, 5), Ok(vec![1.5, -2.0, 0.25]));
    }
}

#[test]
fn numbers_out_of_bounds_are_refused_by_name() {
    let layout = layout(&[2, 1]);
    let int8 = |scale: f32, zero: i32| [&scale.to_le_bytes()[..], &zero.to_le_bytes(), &[1, 2]].concat();
    let sparse = |entries: &[(u32, f32)], count: u32| {
        let mut bytes = count.to_le_bytes().to_vec();
        entries.iter().for_each(|(index, value)| {
            bytes.extend(index.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        });
        bytes
    };
    let cases = [
        (Encoding::Int8, int8(f32::NAN, 0), Reason::NonFinite, "\"t0\": its scale"),
        (Encoding::Int8, int8(f32::INFINITY, 0), Reason::NonFinite, "scale"),
        (Encoding::Int8, int8(-1.0, 0), Reason::Malformed, "a scale of -1e0"),
        (Encoding::Int8, int8(1e38, 0), Reason::Malformed, "scale"),
        (Encoding::Int8, int8(1.0, 128), Reason::Malformed, "a zero point of 128"),
        (Encoding::Int8, int8(1.0, 0), Reason::Truncated, "ends after 2 of 3"),
        (Encoding::Sparse, sparse(&[], 4), Reason::Malformed, "4 entries"),
        (Encoding::Sparse, sparse(&[], u32::MAX), Reason::Malformed, "entries"),
        (Encoding::Sparse, sparse(&[(3, 1.0)], 1), Reason::Malformed, "index 3"),
        (Encoding::Sparse, sparse(&[(1, 1.0), (1, 1.0)], 2), Reason::Malformed, "indices ascend"),
        (Encoding::Sparse, sparse(&[(1, 1.0), (0, 1.0)], 2), Reason::Malformed, "indices ascend"),
        (Encoding::Sparse, sparse(&[(0, 1.0)], 2), Reason::Truncated, "ends after"),
        (Encoding::Sparse, sparse(&[(0, 1.0), (1, 1.0)], 1), Reason::Oversize, "announced"),
        (Encoding::Sparse, vec![0], Reason::Truncated, "ends after"),
        (Encoding::F16, vec![0; 8], Reason::Oversize, "3 coordinates"),
        (Encoding::F16, vec![0; 5], Reason::Truncated, "ends after 2 of 3"),
    ];
    for (encoding, bytes, reason, part) in cases {
        for chunk in [1, 3, 100] {
            let reject = decode(encoding, &layout, &bytes, chunk).unwrap_err();
            assert_eq!(reject.reason, reason, "{encoding}: {reject}");
            assert!(reject.detail.contains(part), "{encoding}: {reject}");
        }
    }
}

#[test]
fn values_that_do_not_fit_saturate() {
    let layout = layout(&[2]);
    let decoded =
        |encoding: Encoding, delta: [f32; 2]| decode(encoding, &layout, &encoding.encode(&delta, &layout), 9).unwrap();
    assert_eq!(decoded(Encoding::F16, [1e30, -1e30]), [65504.0, -65504.0]);
    assert!(decoded(Encoding::Bf16, [f32::MAX, f32::MIN]).iter().all(|value| value.is_finite()));
    assert!(decoded(Encoding::Int8, [f32::MAX, 0.0]).iter().all(|value| value.is_finite()));
    assert_eq!(decoded(Encoding::Int8, [1e-45, 0.0]), [0.0, 0.0]);
}

#[test]
fn the_largest_values_are_kept_and_of_equal_ones_the_first() {
    let mut delta = [1.0, -3.0, 0.5, 3.0, -1.0];
    keep_largest(&mut delta, 3);
    assert_eq!(delta, [1.0, -3.0, 0.0, 3.0, 0.0]);
    keep_largest(&mut delta, 0);
    assert_eq!(delta, [0.0; 5]);
    let mut all = [1.0, 2.0];
    keep_largest(&mut all, 9);
    assert_eq!(all, [1.0, 2.0]);
}

#[test]
fn a_short_payload_does_not_become_a_large_vector() {
    let layout = layout(&[100_000_000]);
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (index, value) in [(5u32, 1.0f32), (99_999_990, 2.0)] {
        bytes.extend(index.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    let mut decoder = Decoder::new(Encoding::Sparse, layout);
    let mut runs = Vec::new();
    decoder.feed(&bytes, &mut runs).unwrap();
    decoder.finish(&mut runs).unwrap();
    let five = vec![0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
    let tail = [vec![2.0], vec![0.0; 9]].concat();
    assert_eq!(runs, [Run::Values(five), Run::Zeros(99_999_984), Run::Values(tail)]);
}

#[test]
fn words_name_encodings() {
    for encoding in Encoding::ALL {
        assert_eq!(encoding.word().parse(), Ok(encoding));
    }
    assert!("F32".parse::<Encoding>().unwrap_err().to_string().contains("int8"));
}
