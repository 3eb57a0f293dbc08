//! Every kernel a rule can reach, on one thread, beside the `mean`: one weighted pass over the rows, the time to read
//! them.
//!
//! Sizes are rows x coordinates; throughput is bytes of rows per second.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use testudo_aggregate::{
    Decision, Element, Needs, Observation, Plan, RowStatistics, Rows, RuleConfig, Units, Weights, combine_unit,
    first_non_finite, observe_unit,
};
use testudo_benches::rows;

fn kernels(criterion: &mut Criterion) {
    for (name, count, dimension) in [
        ("16x1M", 16, 1_000_000),
        ("64x1M", 64, 1_000_000),
        ("256x100k", 256, 100_000),
        ("1024x50k", 1024, 50_000),
        ("4096x8k", 4096, 8192),
    ] {
        let rows = rows(count, dimension);
        bench(criterion, &format!("kernel/f32/{name}"), &rows);
    }
    let wide: Vec<Vec<f64>> =
        rows(64, 1_000_000).iter().map(|row| row.iter().copied().map(f64::from).collect()).collect();
    bench(criterion, "kernel/f64/64x1M", &wide);
}

fn bench<T: Element>(criterion: &mut Criterion, name: &str, rows: &[Vec<T>]) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread can be started");
    let views: Vec<&[T]> = rows.iter().map(Vec::as_slice).collect();
    let (count, dimension) = (views.len(), views[0].len());
    let units = Units::for_rows(dimension, count).expect("there are coordinates");
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Bytes((count * dimension * T::BYTES) as u64));
    group.bench_function("finite", |bencher| {
        bencher.iter(|| views.iter().filter_map(|row| first_non_finite(black_box(row))).count());
    });
    for kind in ["mean", "median", "trimmed_mean", "meamed", "rlr"] {
        let config = RuleConfig::with_byzantine(kind, count / 5).expect("catalogued rules take byzantine");
        let weights = Weights::equal(count).expect("there are rows");
        let decision = config.rule().decide(&RowStatistics::unobserved(count), &weights);
        let Ok(Decision::Plan(plan)) = decision else { panic!("{kind} decides without statistics") };
        let mut out = vec![T::ZERO; dimension];
        group.bench_function(kind, |bencher| {
            pool.install(|| bencher.iter(|| combine(black_box(&views), units, &plan, &mut out)));
        });
    }
    // The time grows with the square of the rows.
    if count <= 256 {
        group.bench_function("pair_statistics", |bencher| {
            pool.install(|| bencher.iter(|| observe(black_box(&views), units)));
        });
    }
    group.finish();
}

fn combine<T: Element>(views: &[&[T]], units: Units, plan: &Plan, out: &mut [T]) {
    for unit in units.iter() {
        let slices: Vec<&[T]> = views.iter().map(|row| &row[unit.clone()]).collect();
        let rows = Rows::new(&slices, unit.start).expect("rows of one length");
        combine_unit(&rows, plan, &mut out[unit]).expect("the plan fits the rows");
    }
}

fn observe<T: Element>(views: &[&[T]], units: Units) {
    let observation = Observation::first(Needs::PAIR_DISTANCES, views.len(), units.dimension(), 0);
    for unit in units.iter() {
        let slices: Vec<&[T]> = views.iter().map(|row| &row[unit.clone()]).collect();
        let rows = Rows::new(&slices, unit.start).expect("rows of one length");
        black_box(observe_unit(&rows, &observation).expect("the rows are finite"));
    }
}

criterion_group!(benches, kernels);
criterion_main!(benches);
