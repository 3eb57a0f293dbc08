//! The data side of secure aggregation on one thread: a million coordinates masked, folded, quantised and turned back.
//!
//! `aes` and `chacha20` expand a mask and add it. `server` is every mask of a round of 1,000 clients in groups of 16 of
//! which a tenth drop out: 2,250 in one call.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use testudo_aggregate::{Cipher, KeyStream, Mask, MaskKey, Quantizer, Sign, apply_masks, fold_all};
use testudo_benches::rows;

const DIMENSION: usize = 1_000_000;
const MASKS: usize = 2250;
const INPUTS: usize = 16;

fn masks(criterion: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread can be started");
    let mut group = criterion.benchmark_group("masks");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let mut accumulator = vec![0_u32; DIMENSION];

    group.throughput(Throughput::Bytes(4 * DIMENSION as u64));
    for (name, cipher) in [("aes", Cipher::Aes256Ctr), ("chacha20", Cipher::ChaCha20)] {
        let mask = [mask(0, cipher)];
        group.bench_function(name, |bencher| {
            pool.install(|| bencher.iter(|| apply_masks(&mut accumulator, 0, black_box(&mask)).expect("it is short")));
        });
    }

    let inputs: Vec<Vec<u8>> = (0..INPUTS).map(|seed| vec![seed as u8; 4 * DIMENSION]).collect();
    let whole: Vec<[&[u8]; 1]> = inputs.iter().map(|input| [input.as_slice()]).collect();
    let views: Vec<&[&[u8]]> = whole.iter().map(|input| &input[..]).collect();
    group.throughput(Throughput::Bytes((4 * DIMENSION * INPUTS) as u64));
    group.bench_function("fold16", |bencher| {
        bencher.iter(|| fold_all(&mut accumulator, black_box(&views)).expect("the lengths fit"));
    });

    let update = rows(1, DIMENSION).remove(0);
    let quantizer = Quantizer::new(10.0, Some(1.0), 20).expect("the numbers are in bounds");
    group.throughput(Throughput::Bytes(4 * DIMENSION as u64));
    for (name, cipher) in [("quantize/aes", Cipher::Aes256Ctr), ("quantize/chacha20", Cipher::ChaCha20)] {
        let mut stream = KeyStream::new(&MaskKey::new([7; 32]), cipher);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                quantizer
                    .quantize(black_box(&update), 0.5, |bytes| stream.fill(bytes), &mut accumulator)
                    .expect("the update is finite")
            });
        });
    }
    let mut out = vec![0.0_f32; DIMENSION];
    group.bench_function("mean", |bencher| {
        bencher.iter(|| quantizer.mean(black_box(&accumulator), 16, &mut out).expect("16 clients fit"));
    });

    let all: Vec<Mask> = (0..MASKS).map(|seed| mask(seed, Cipher::Aes256Ctr)).collect();
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Bytes((4 * DIMENSION * MASKS) as u64));
    group.bench_function("server/aes", |bencher| {
        pool.install(|| bencher.iter(|| apply_masks(&mut accumulator, 0, black_box(&all)).expect("it is short")));
    });
    group.finish();
}

fn mask(seed: usize, cipher: Cipher) -> Mask {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&(seed as u64).to_le_bytes());
    let sign = if seed.is_multiple_of(2) { Sign::Add } else { Sign::Subtract };
    Mask { key: MaskKey::new(key), cipher, sign }
}

criterion_group!(benches, masks);
criterion_main!(benches);
