//! Every aggregation rule, and some behind pre-aggregations, on one thread.
//!
//! Sizes are rows x coordinates of f32; throughput is bytes of rows per second.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use testudo_aggregate::{Inputs, PreConfig, Rule as _, RuleConfig, aggregate_inputs, catalogue};
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
        for config in configs(count) {
            // Exact searches refuse what would take too long.
            let Ok(config) = config.fit(count) else { continue };
            let extras: Vec<&[f32]> = views.iter().copied().cycle().take(config.needs().extras.count(count)).collect();
            let inputs = Inputs { extras: &extras, ..Inputs::new(&views) };
            group.bench_function(BenchmarkId::from_parameter(&config), |bencher| {
                pool.install(|| bencher.iter(|| aggregate_inputs(config.rule(), black_box(&inputs))));
            });
        }
        group.finish();
    }
}

fn configs(count: usize) -> Vec<RuleConfig> {
    let byzantine = count / 5;
    let rule = |kind: &str| RuleConfig::with_byzantine(kind, byzantine).expect("catalogued rules can be made");
    let pre = |kinds: &[&str]| -> Vec<PreConfig> {
        kinds.iter().map(|kind| PreConfig::example(kind).expect("catalogued pre-aggregations can be made")).collect()
    };
    let mut configs: Vec<RuleConfig> = catalogue().iter().map(|info| rule(info.kind)).collect();
    for kinds in [&["clip"][..], &["arc"], &["nnm"], &["bucketing"], &["arc", "nnm"]] {
        configs.push(rule("trimmed_mean").after(pre(kinds), byzantine));
    }
    configs
}

criterion_group!(benches, rules);
criterion_main!(benches);
