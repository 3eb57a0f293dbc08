//! Both sides of a masked round on one thread: a million coordinates, a tenth of the clients gone after sharing keys.
//!
//! `1000x16` is 1,000 clients in groups of 16, `100` one group of 100. `open` rebuilds the secrets from the shares and
//! derives the masks, `unmask` expands and adds every mask, `fold` sums the masked inputs, `mean` turns sums back to
//! numbers: together what the server computes between the last answer and the rule. 1,000 inputs of 4 MB would not fit
//! a small machine, so `fold` reads 64 different ones again and again (256 MB, more than any cache).
//!
//! `client` is everything a client computes beyond quantising: keys, shares, checks, masks, bytes, their SHA-256, answer;
//! `control` the same without the masks' expansion and the bytes; `plain` is what a client of an unmasked round computes,
//! bytes and SHA-256; `quantize` is what masking adds before all that. Bytes per client go to standard error.

use std::{hint::black_box, time::Duration};

use criterion::{BatchSize, BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use testudo_aggregate::{Cipher, KeyStream, MaskKey, Quantizer, apply_masks, fold_all};
use testudo_benches::{
    masked_round::{MaskedRound, masked_payload},
    rows,
};
use testudo_protocol::{Digest, secagg::Opened};

const DIMENSION: usize = 1_000_000;
/// Different inputs that are folded.
const INPUTS: usize = 64;

fn secagg(criterion: &mut Criterion) {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().expect("nothing ran in parallel yet");
    let mut group = criterion.benchmark_group("secagg");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    let inputs: Vec<Vec<u8>> = (0..INPUTS).map(|seed| vec![seed as u8 + 1; 4 * DIMENSION]).collect();
    // One client in sixteen, and a second one in three groups of five: a tenth.
    let large = MaskedRound::run(1000, 16, |group, index| index == 0 || index == 1 && group % 5 < 3);
    let single = MaskedRound::run(100, 100, |_, index| index < 10);
    for (name, round) in [("1000x16", &large), ("100", &single)] {
        server(&mut group, name, round, &inputs);
    }
    for (name, round) in [("16", &large), ("100", &single)] {
        client(&mut group, name, round);
    }
    let update = rows(1, DIMENSION).remove(0);
    let quantizer = Quantizer::new(1000.0, Some(1.0), 16).expect("the numbers are in bounds");
    let mut stream = KeyStream::new(&MaskKey::new([7; 32]), Cipher::preferred());
    let mut levels = vec![0_u32; DIMENSION];
    group.bench_function("quantize", |bencher| {
        bencher.iter(|| {
            quantizer
                .quantize(black_box(&update), 1.0, |bytes| stream.fill(bytes), &mut levels)
                .expect("the update is finite")
        });
    });
    group.bench_function("plain", |bencher| {
        bencher.iter(|| {
            let bytes: Vec<u8> = update.iter().flat_map(|value| value.to_le_bytes()).collect();
            (Digest::of(&bytes), bytes)
        });
    });
    group.finish();
}

fn server(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, round: &MaskedRound, inputs: &[Vec<u8>]) {
    let opened: Vec<Opened> =
        round.openings.iter().map(|opening| opening.open().expect("the shares are honest")).collect();
    let masks: usize = opened.iter().map(|opened| opened.masks.len()).sum();
    let survivors: usize = opened.iter().map(|opened| opened.survivors.len()).sum();
    eprintln!("{name}: {} groups, {survivors} survivors, {masks} masks", opened.len());
    let mut sums = vec![0_u32; DIMENSION];
    let mut means = vec![0.0_f32; DIMENSION];
    let quantizer = Quantizer::new(1.0, Some(1.0), 16).expect("the numbers are in bounds");
    group.bench_function(format!("open/{name}"), |bencher| {
        bencher.iter(|| {
            round.openings.iter().map(|opening| opening.open().expect("as before").masks.len()).sum::<usize>()
        });
    });
    group.bench_function(format!("unmask/{name}"), |bencher| {
        bencher.iter(|| {
            for opened in &opened {
                apply_masks(black_box(&mut sums), 0, &opened.masks).expect("it is short");
            }
        });
    });
    group.bench_function(format!("fold/{name}"), |bencher| {
        bencher.iter(|| {
            let mut from = inputs.iter().cycle();
            for opened in &opened {
                let whole: Vec<[&[u8]; 1]> =
                    from.by_ref().take(opened.survivors.len()).map(|input| [input.as_slice()]).collect();
                let views: Vec<&[&[u8]]> = whole.iter().map(|input| &input[..]).collect();
                fold_all(black_box(&mut sums), &views).expect("the lengths fit");
            }
        });
    });
    group.bench_function(format!("mean/{name}"), |bencher| {
        bencher.iter(|| {
            for opened in &opened {
                quantizer.mean(black_box(&sums), opened.survivors.len(), &mut means).expect("they fit");
            }
        });
    });
}

fn client(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, round: &MaskedRound) {
    let part = &round.part;
    let plain = 4 * DIMENSION;
    let ratio = (plain + part.up) as f64 / plain as f64;
    let (up, down) = (part.up, part.down);
    eprintln!(
        "client/{name}: {up} bytes up beside the update ({ratio:.4} times it), {down} bytes down beside the model"
    );
    group.bench_function(format!("client/{name}"), |bencher| {
        bencher.iter_batched(
            || vec![7_u32; DIMENSION],
            |mut levels| part.play(|masks| black_box(masked_payload(&mut levels, masks)).1),
            BatchSize::LargeInput,
        );
    });
    group.bench_function(format!("control/{name}"), |bencher| {
        bencher.iter(|| part.play(|masks| Digest::of(&[black_box(masks.len()) as u8])));
    });
}

criterion_group!(benches, secagg);
criterion_main!(benches);
