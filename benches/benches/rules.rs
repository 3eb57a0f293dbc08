//! Every aggregation rule, and its observing and combining passes, on one thread.
//!
//! Sizes are rows x coordinates of f32; throughput is bytes of rows per second.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use testudo_aggregate::{Needs, Rows, RuleConfig, aggregate, catalogue, combine_unit, first_non_finite, observe_unit};
use testudo_benches::rows;

const DIMENSION: usize = 1 << 20;

fn rules(criterion: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread can be started");
    for count in [16, 64] {
        let rows = rows(count, DIMENSION);
        let views: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let mut group = criterion.benchmark_group(format!("rule/{count}x1M"));
        group.sample_size(10).measurement_time(Duration::from_secs(3));
        group.throughput(Throughput::Bytes((count * DIMENSION * size_of::<f32>()) as u64));
        for info in catalogue() {
            let config = RuleConfig::with_byzantine(info.kind, count / 5).expect("catalogued rules take byzantine");
            group.bench_function(BenchmarkId::from_parameter(info.kind), |bencher| {
                pool.install(|| bencher.iter(|| aggregate(config.rule(), black_box(&views), None, None)));
            });
        }
        group.finish();
    }
}

fn kernels(criterion: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread can be started");
    for count in [16, 64] {
        let rows = rows(count, DIMENSION);
        let views: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let unit = Rows::new(&views, 0).expect("rows of one length");
        let mut out = vec![0.0; DIMENSION];
        let mut group = criterion.benchmark_group(format!("kernel/{count}x1M"));
        group.sample_size(10).measurement_time(Duration::from_secs(3));
        group.throughput(Throughput::Bytes((count * DIMENSION * size_of::<f32>()) as u64));
        group.bench_function("finite", |bencher| {
            bencher.iter(|| views.iter().filter_map(|row| first_non_finite(black_box(row))).count());
        });
        group.bench_function("pair_statistics", |bencher| {
            pool.install(|| bencher.iter(|| observe_unit(black_box(&unit), Needs::PAIR_DISTANCES)));
        });
        for (name, kind) in [("weighted_sum", "mean"), ("median", "median"), ("trimmed_mean", "trimmed_mean")] {
            let config = RuleConfig::with_byzantine(kind, count / 5).expect("catalogued rules take byzantine");
            let statistics = testudo_aggregate::RowStatistics::unobserved(count);
            let weights = testudo_aggregate::Weights::equal(count).expect("there are rows");
            let plan = config.rule().decide(&statistics, &weights).expect("the rule accepts these rows");
            group.bench_function(name, |bencher| {
                pool.install(|| bencher.iter(|| combine_unit(black_box(&unit), &plan, &mut out)));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, rules, kernels);
criterion_main!(benches);
