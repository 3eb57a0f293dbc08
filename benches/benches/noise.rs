//! Noise on one core and on two, beside clipping: values per second.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::{hint::black_box, time::Duration};
use testudo_privacy::noise::{Law, NoiseSeed, NoiseStream, NoiseTable};

/// Coordinates of a unit: every unit has a stream of its own.
const UNIT: usize = 1 << 20;

fn noise(criterion: &mut Criterion) {
    let seed = NoiseSeed::new([1; 32]);
    let mut group = criterion.benchmark_group("noise");
    group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    for (name, law, sigma) in [
        ("rounded/2^24", Law::Rounded, 1.1 * 16_777_216.0),
        ("rounded/5.5", Law::Rounded, 5.5),
        ("discrete/2^24", Law::Discrete, 1.1 * 16_777_216.0),
        ("discrete/5.5", Law::Discrete, 5.5),
    ] {
        let table = NoiseTable::new(law, sigma).expect("a σ within its limits");
        let mut sums = vec![0_i64; UNIT];
        group.throughput(Throughput::Elements(UNIT as u64));
        let mut unit = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                unit += 1;
                let key = seed.key(&[2; 32], sigma, unit);
                sums.fill(0);
                NoiseStream::new(&table, &key).add_to(black_box(&mut sums)).expect("sums are small");
            });
        });
    }
    let sigma = 1.1 * 16_777_216.0;
    let table = NoiseTable::new(Law::Rounded, sigma).expect("a σ within its limits");
    let mut sums = vec![0_i64; 10_000_000];
    group.throughput(Throughput::Elements(sums.len() as u64));
    group.bench_function("rounded/10M on 2 threads", |bencher| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("two threads can be started");
        bencher.iter(|| {
            pool.install(|| {
                use rayon::prelude::*;
                sums.par_chunks_mut(UNIT / 4).enumerate().for_each(|(unit, sums)| {
                    let key = seed.key(&[2; 32], sigma, unit as u64);
                    sums.fill(0);
                    NoiseStream::new(&table, &key).add_to(sums).expect("sums are small");
                });
            });
        });
    });
    group.bench_function("table", |bencher| {
        bencher.iter(|| NoiseTable::new(Law::Rounded, black_box(sigma)).expect("a σ within its limits"));
    });
    group.finish();
}

criterion_group!(benches, noise);
criterion_main!(benches);
