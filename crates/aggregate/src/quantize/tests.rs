use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::fold::fold;
use crate::mask::{Cipher, KeyStream, Mask, MaskKey, Sign, apply_masks};

fn stream(seed: u8) -> KeyStream {
    KeyStream::new(&MaskKey::new([seed; 32]), Cipher::preferred())
}

fn quantized(quantizer: &Quantizer, update: &[f32], weight: f64, seed: u8) -> (Vec<u32>, Quantized) {
    let (mut out, mut random) = (vec![0; update.len()], stream(seed));
    let done = quantizer.quantize(update, weight, |bytes| random.fill(bytes), &mut out).unwrap();
    (out, done)
}

fn updates(count: usize, length: usize) -> Vec<Vec<f32>> {
    (0..count)
        .map(|row| (0..length).map(|c| ((c * 7919 + row * 104_729) % 2003) as f32 / 997.0 - 1.0).collect())
        .collect()
}

#[test]
fn levels_and_rows_are_those_of_the_reference() {
    let vectors: Value = serde_json::from_str(include_str!("../../vectors/secure_aggregation.json")).unwrap();
    for case in vectors["quantised"].as_array().unwrap() {
        let words = |name: &str| -> Vec<u32> {
            case[name].as_array().unwrap().iter().map(|word| word.as_u64().unwrap() as u32).collect()
        };
        let floats = |name: &str| -> Vec<f32> { words(name).into_iter().map(f32::from_bits).collect() };
        let number = |name: &str| f64::from_bits(case[name].as_u64().unwrap());
        let hex = case["random"].as_str().unwrap();
        let random: Vec<u8> =
            (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
        let bits = case["bits"].as_u64().unwrap() as u32;
        let quantizer = Quantizer::new(number("clip_l2"), Some(number("kappa")), bits).unwrap();
        let (update, weight) = (floats("update"), number("weight"));
        let (mut out, mut drawn) = (vec![0; update.len()], random.as_slice());
        let draw = |bytes: &mut [u8]| {
            let (now, later) = drawn.split_at(bytes.len());
            bytes.copy_from_slice(now);
            drawn = later;
        };
        let done = quantizer.quantize(&update, weight, draw, &mut out).unwrap();
        assert_eq!(out, words("levels"));
        assert_eq!(done, Quantized { factor: number("factor"), saturated: case["saturated"].as_u64().unwrap() });
        assert!(drawn.is_empty());
        let level = quantizer.quantize_weight(weight).unwrap();
        assert_eq!(u64::from(level), case["weight_level"].as_u64().unwrap());
        let mut row = vec![0.0; out.len()];
        quantizer.mean(&out, 1, &mut row).unwrap();
        assert_eq!(row, floats("mean_of_one"));
        assert!(row.iter().zip(&out).all(|(value, level)| *value == quantizer.value(*level) as f32));
        quantizer.weighted_mean(&out, 1, level, &mut row).unwrap();
        assert_eq!(row, floats("weighted_mean_of_one"));
    }
}

#[test]
fn numbers_out_of_bounds_are_refused_by_name() {
    for clip_l2 in [0.0, -1.0, f64::INFINITY, 1e-31] {
        assert_eq!(Quantizer::new(clip_l2, None, 16), Err(QuantizerError::Clip { clip_l2 }));
    }
    assert!(Quantizer::new(f64::NAN, None, 16).is_err());
    assert!(Quantizer::new(1.0, Some(f64::NAN), 16).is_err());
    for kappa in [0.0, -0.5, 1.0 + f64::EPSILON] {
        let refused = Err(QuantizerError::Kappa { kappa, clip_l2: 1.0 });
        assert_eq!(Quantizer::new(1.0, Some(kappa), 16), refused);
    }
    for bits in [0, 1, 32, u32::MAX] {
        assert_eq!(Quantizer::new(1.0, None, bits), Err(QuantizerError::Bits { bits }));
    }
    let error = Quantizer::new(1.0, None, 40).unwrap_err().to_string();
    assert_eq!(error, "bits = 40: give a number from 2 to 31");
    let quantizer = Quantizer::new(1.0, None, 31).unwrap();
    assert!(quantizer.with_noise_tail(1 << 30).is_ok());
    assert!(quantizer.with_noise_tail((1 << 30) + 1).is_err());
}

#[test]
fn an_update_that_is_refused_draws_nothing_and_leaves_the_output() {
    let quantizer = Quantizer::new(1.0, None, 16).unwrap();
    let mut out = [7; 3];
    let mut refuse = |update: &[f32], weight: f64| {
        let error = quantizer.quantize(update, weight, |_| panic!("drew"), &mut out).unwrap_err();
        assert_eq!(out, [7; 3]);
        error
    };
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(refuse(&[0.0, bad, bad], 1.0), QuantizeError::NonFinite { coordinate: 1 });
    }
    assert_eq!(refuse(&[0.0; 2], 1.0), QuantizeError::Length { output: 3, update: 2 });
    for weight in [0.0, -0.1, 1.1, f64::INFINITY] {
        assert_eq!(refuse(&[0.0; 3], weight), QuantizeError::Weight { weight });
    }
    refuse(&[0.0; 3], f64::NAN);
}

#[test]
fn as_many_clients_fit_as_the_design_says() {
    for (bits, most) in [(16, 65_537), (20, 4096), (24, 256), (31, 2)] {
        let quantizer = Quantizer::new(1.0, None, bits).unwrap();
        assert_eq!(quantizer.most_clients(), most);
        assert_eq!(quantizer.check_sum(most), Ok(()));
        assert_eq!(quantizer.check_sum(most + 1), Err(MeanError::TooManyClients { clients: most + 1, most }));
        assert_eq!(quantizer.check_sum(0), Err(MeanError::NoClients));
        let most = most as u64;
        let levels = u64::from(quantizer.levels());
        assert!(most * levels < 1 << 32 && (most + 1) * levels >= 1 << 32);
    }
}

#[test]
fn the_largest_sums_do_not_overflow() {
    for (bits, sign) in [(16, 1.0), (24, 1.0), (31, 1.0), (24, -1.0)] {
        let quantizer = Quantizer::new(1.0, Some(0.5), bits).unwrap();
        let (level, done) = quantized(&quantizer, &[sign * 0.75], 1.0, 0);
        assert_eq!(level, [if sign > 0.0 { quantizer.levels() } else { 0 }]);
        assert_eq!(done, Quantized { factor: 1.0, saturated: 1 });
        let clients = quantizer.most_clients();
        let sum: u64 = clients as u64 * u64::from(level[0]);
        let mut row = [0.0];
        quantizer.mean(&[u32::try_from(sum).unwrap()], clients, &mut row).unwrap();
        assert!((row[0] - 0.5 * sign).abs() < 1e-6);
    }
}

#[test]
fn rounding_is_unbiased_and_its_variance_at_most_a_quarter_step_squared() {
    let quantizer = Quantizer::new(1e3, Some(1.0), 4).unwrap();
    let step = quantizer.step();
    let draws = 200_000;
    for (seed, value) in [(0, 0.0), (1, 0.31), (2, -0.77), (3, 0.999), (4, -0.062)] {
        let (levels, _) = quantized(&quantizer, &vec![value; draws], 1.0, seed);
        let errors: Vec<f64> = levels.iter().map(|level| quantizer.value(*level) - f64::from(value)).collect();
        assert!(errors.iter().all(|error| error.abs() < step));
        let mean = errors.iter().sum::<f64>() / draws as f64;
        let variance = errors.iter().map(|error| error * error).sum::<f64>() / draws as f64;
        // Six standard deviations of the means, the largest they can be.
        assert!(mean.abs() < 6.0 * step / 2.0 / (draws as f64).sqrt(), "{value}: {mean}");
        assert!(variance < step * step / 4.0 * (1.0 + 6.0 / (draws as f64).sqrt()), "{value}: {variance}");
    }
}

#[test]
fn every_draw_taken_once_rounds_up_exactly_as_often_as_the_position_says() {
    // Zero is in the middle between levels 1 and 2; all 2^24 draws, once each.
    let quantizer = Quantizer::new(1.0, None, 2).unwrap();
    let draws = 1 << 24;
    let mut next = 0_u32;
    let fill = |bytes: &mut [u8]| {
        for word in bytes.chunks_mut(4) {
            word.copy_from_slice(&(next << 8).to_le_bytes());
            next += 1;
        }
    };
    let mut out = vec![0; draws];
    quantizer.quantize(&vec![0.0; draws], 1.0, fill, &mut out).unwrap();
    assert_eq!(out.iter().filter(|level| **level == 1).count(), draws / 2);
    assert_eq!(out.iter().filter(|level| **level == 2).count(), draws / 2);
}

#[test]
fn a_draw_stands_for_the_middle_of_its_interval() {
    // Zero is at position 1.5 and levels are 1 apart; a draw is 2^-24 wide.
    let quantizer = Quantizer::new(1.5, None, 2).unwrap();
    let quarter = 1.0 / (1_u32 << 26) as f32;
    for (value, draw, level) in [
        (3.0 * quarter, (1_u32 << 23) - 1, 2),
        (quarter, (1 << 23) - 1, 1),
        (-quarter, 1 << 23, 2),
        (-3.0 * quarter, 1 << 23, 1),
    ] {
        let mut out = [0];
        let fill = |bytes: &mut [u8]| bytes.copy_from_slice(&(draw << 8).to_le_bytes());
        quantizer.quantize(&[value], 1.0, fill, &mut out).unwrap();
        assert_eq!(out, [level], "{value} {draw}");
    }
}

#[test]
fn nothing_rounded_exceeds_the_clip_norm() {
    for (clip, length) in [(1.0, 1), (1.0, 3), (0.1, 1000), (3.7, 4096)] {
        let quantizer = Quantizer::new(clip, None, 16).unwrap();
        for update in updates(20, length) {
            for weight in [1.0, 0.37] {
                let (_, done) = quantized(&quantizer, &update, weight, 1);
                let norm =
                    update.iter().map(|value| (f64::from(*value) * (weight * done.factor)).powi(2)).sum::<f64>().sqrt();
                assert!(norm <= clip, "{norm} > {clip}");
                assert!(done.factor == 1.0 || norm > clip * (1.0 - 1e-11));
                assert_eq!(done.saturated, 0);
            }
        }
    }
}

#[test]
fn noise_around_the_end_of_the_ring_is_lifted() {
    let quantizer = Quantizer::new(1.0, None, 8).unwrap().with_noise_tail(1000).unwrap();
    let mut row = [0.0; 3];
    quantizer.mean(&[0_u32.wrapping_sub(1000), 0, 1000], 2, &mut row).unwrap();
    let expected = [-1000.0, 0.0, 1000.0].map(|sum: f64| (sum * quantizer.step() / 2.0 - 1.0) as f32);
    assert_eq!(row, expected);
    assert_eq!(quantizer.most_clients() as u64, ((1_u64 << 32) - 1 - 2000) / 255);
}

#[test]
fn weights_come_back_as_a_weighted_mean() {
    let quantizer = Quantizer::new(10.0, Some(1.0), 16).unwrap();
    let rows = updates(3, 50);
    let weights = [1.0, 0.5, 0.01];
    let mut sums = vec![0_u32; 50];
    let mut weight_sum = 0;
    for (seed, (row, weight)) in (0..).zip(rows.iter().zip(weights)) {
        let (levels, _) = quantized(&quantizer, row, weight, seed);
        sums.iter_mut().zip(levels).for_each(|(sum, level)| *sum += level);
        weight_sum += quantizer.quantize_weight(weight).unwrap();
    }
    let mut out = vec![0.0; 50];
    quantizer.weighted_mean(&sums, 3, weight_sum, &mut out).unwrap();
    for c in 0..50 {
        let exact = rows.iter().zip(weights).map(|(row, w)| f64::from(row[c]) * w).sum::<f64>() / 1.51;
        assert!((f64::from(out[c]) - exact).abs() < 3.0 * quantizer.step());
    }
    let levels = quantizer.levels();
    for weight in [2, 3 * levels + 1] {
        let refused = Err(MeanError::Weight { weight, clients: 3, levels });
        assert_eq!(quantizer.weighted_mean(&sums, 3, weight, &mut out), refused);
    }
    assert_eq!(quantizer.quantize_weight(1e-12), Ok(1));
    assert_eq!(quantizer.quantize_weight(1.0), Ok(levels));
    assert_eq!(quantizer.mean(&sums, 3, &mut out[1..]), Err(MeanError::Length { output: 49, sums: 50 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_masked_sum_is_the_clear_one_bit_for_bit(
        clients in 2..9_usize, length in 0..80_usize, bits in 2..=24_u32, cut in 0..400_usize, key: [u8; 31],
    ) {
        let quantizer = Quantizer::new(2.0, Some(0.5), bits).unwrap();
        prop_assume!(clients <= quantizer.most_clients());
        let mut masked = vec![0_u32; length];
        let mut clear = vec![0_u64; length];
        for (client, update) in updates(clients, length).iter().enumerate() {
            let (levels, _) = quantized(&quantizer, update, 1.0, client as u8);
            clear.iter_mut().zip(&levels).for_each(|(sum, level)| *sum += u64::from(*level));
            let masks: Vec<Mask> = (0..clients)
                .filter(|other| *other != client)
                .map(|other| {
                    let mut pair = [0; 32];
                    pair[..31].copy_from_slice(&key);
                    pair[31] = (client.min(other) * 16 + client.max(other)) as u8;
                    let sign = if other > client { Sign::Add } else { Sign::Subtract };
                    Mask { key: MaskKey::new(pair), cipher: Cipher::preferred(), sign }
                })
                .collect();
            let mut input = levels.clone();
            apply_masks(&mut input, 0, &masks).unwrap();
            prop_assert!(length < 4 || input != levels);
            let bytes: Vec<u8> = input.iter().flat_map(|word| word.to_le_bytes()).collect();
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            fold(&mut masked, &[head, tail]).unwrap();
        }
        let clear: Vec<u32> = clear.into_iter().map(|sum| u32::try_from(sum).unwrap()).collect();
        prop_assert_eq!(&masked, &clear);
    }
}
