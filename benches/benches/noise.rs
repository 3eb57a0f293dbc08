//! Noise on one core and on two, clipping on one, and every accountant.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::{hint::black_box, time::Duration};
use testudo_benches::rows;
use testudo_privacy::{
    accountant::{Mechanism, Sampling, fixed_size, gaussian, laplace, pld, poisson, tree, zcdp},
    clip::{ClippedSum, Grid},
    noise::{Law, NoiseSeed, NoiseStream, NoiseTable},
};

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

fn clip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("clip");
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    let update = rows(1, 10_000_000).remove(0);
    let grid = Grid::new(1.0, 24, 1.1, 1_000_000).expect("a grid that fits");
    let mut sum = ClippedSum::new(grid, update.len());
    group.throughput(Throughput::Elements(update.len() as u64));
    group.bench_function("norm, quantise, check, add/10M", |bencher| {
        bencher.iter(|| sum.add(black_box(&update)).expect("within the planned contributions"));
    });
    group.bench_function("norm/10M", |bencher| bencher.iter(|| grid.factor(black_box(&update))));
    group.finish();
}

fn accountants(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("accountant");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let mut bench = |name: &str, work: &dyn Fn() -> f64| {
        group.bench_function(name, |bencher| bencher.iter(|| black_box(work())));
    };
    bench("gaussian_exact", &|| gaussian::epsilon(gaussian::mu(1.0, 10), 1e-6));
    bench("zcdp", &|| zcdp::epsilon(zcdp::rho(1.0, 10), 1e-6));
    bench("rdp/poisson", &|| poisson::curve(0.0043, 1.1).repeated(14062).epsilon(1e-5).0);
    bench("rdp/fixed", &|| fixed_size::curve(50, 3400, 2.0).repeated(1500).epsilon(3e-4).0);
    bench("rdp/fixed, z = 100", &|| fixed_size::curve(50, 3400, 100.0).repeated(1500).epsilon(3e-4).0);
    bench("rdp/order 2.5", &|| poisson::divergence(0.1, 4.0, 2.5));
    bench("pld/q = 0.0043", &|| pld::poisson(0.0043, 1.1, 14062, 1e-5));
    bench("pld/q = 0.002, z = 0.5", &|| pld::poisson(0.002, 0.5, 200, 1e-6));
    bench("pld/unsampled", &|| pld::poisson(1.0, 1.0, 10, 1e-6));
    bench("pld/cut to a cap", &|| pld::truncated_poisson(0.0355, 3383, 160, 1.2, 100, 1e-5));
    bench("pld/laplace", &|| pld::laplace(1.0, 10, 1e-5));
    bench("laplace", &|| laplace::pure(1.0, 10));
    bench("tree/T = 2000, k = 6, b = 313", &|| {
        tree::sensitivity_squared(2000, 6, 313).map_or(0.0, |square| square as f64)
    });
    let sampling = Sampling::Poisson { rate: 0.01 };
    let mechanism = Mechanism::Gaussian { noise_multiplier: 1.0, rounds: 1000, sampling };
    bench("calibrate/rdp", &|| mechanism.calibrate(1.0, 1e-5, Some("rdp")).unwrap_or(0.0));
    bench("calibrate/pld", &|| mechanism.calibrate(1.0, 1e-5, None).unwrap_or(0.0));
    group.finish();
}

criterion_group!(benches, noise, clip, accountants);
criterion_main!(benches);
