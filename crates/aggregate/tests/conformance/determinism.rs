//! The same bits for any thread count, unit size and order of units.

use testudo_aggregate::{
    BLOCK, Decision, Element, Inputs, Observation, Plan, Rows, Rule, RuleConfig, StatisticsTree, Units, Weights,
    combine_unit, observe_unit,
};

use crate::common::{Random, rules_for, run_inputs};

const DIMENSION: usize = 11 * BLOCK + 357;

fn bits<T: Element>(values: &[T]) -> Vec<u64> {
    values.iter().map(|value| value.to_f64().to_bits()).collect()
}

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

fn check<T: Element>(rows: &[&[T]]) {
    for config in rules_for(rows.len(), 3).into_iter().chain(rules_for(rows.len(), 1)) {
        let expected = run_inputs(&config, &Inputs::new(rows)).unwrap();
        for threads in [1, 2, 8] {
            for unit_len in [BLOCK, 2 * BLOCK, 8 * BLOCK, 64 * BLOCK] {
                let got = pool(threads)
                    .install(|| run_inputs(&config, &Inputs { unit_len: Some(unit_len), ..Inputs::new(rows) }))
                    .unwrap();
                assert!(
                    bits(&got.output) == bits(&expected.output),
                    "{config}, {threads} threads, units of {unit_len}"
                );
                assert_eq!((got.verdicts, &got.selected), (expected.verdicts.clone(), &expected.selected));
                assert_eq!(got.scores.map(|scores| bits(&scores)), expected.scores.as_deref().map(bits));
            }
        }
    }
}

#[test]
fn threads_and_unit_sizes_cannot_be_seen_in_the_result() {
    let mut random = Random(1);
    let rows = random.rows::<f32>(11, DIMENSION);
    check(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let rows = random.rows::<f64>(9, 3 * BLOCK + 5);
    check(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>());
}

/// What a server does: units observed one by one in any order, statistics and plan sent around as JSON, units combined
/// in any order.
fn by_units(config: &RuleConfig, rows: &[Vec<f32>], unit_len: usize, order: &[usize]) -> Vec<f32> {
    let units = Units::new(DIMENSION, unit_len).unwrap();
    let slices = |unit: usize| -> Vec<&[f32]> { rows.iter().map(|row| &row[units.range(unit).unwrap()]).collect() };
    let observe = |observation: &Observation| {
        let mut tree = StatisticsTree::new(units.count());
        for &unit in order {
            let slices = slices(unit);
            let view = Rows::new(&slices, units.range(unit).unwrap().start).unwrap();
            let sent = serde_json::to_string(&observe_unit(&view, observation).unwrap()).unwrap();
            tree.insert(unit, serde_json::from_str(&sent).unwrap()).unwrap();
        }
        tree.finish(observation).unwrap()
    };
    let mut observation = Observation::first(config.needs(), rows.len(), DIMENSION, 0);
    let mut statistics = if config.needs().is_nothing() { observation.unobserved() } else { observe(&observation) };
    let plan: Plan = loop {
        match config.decide(&statistics, &Weights::equal(rows.len()).unwrap()).unwrap() {
            Decision::Plan(plan) => break serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap(),
            Decision::Refine(refinement) => {
                let sent = serde_json::to_string(&refinement).unwrap();
                observation = observation.refined(serde_json::from_str(&sent).unwrap());
                statistics = observe(&observation);
            }
        }
    };
    let mut output = vec![0.0; DIMENSION];
    for &unit in order.iter().rev() {
        let slices = slices(unit);
        let range = units.range(unit).unwrap();
        combine_unit(&Rows::new(&slices, range.start).unwrap(), &plan, &mut output[range]).unwrap();
    }
    output
}

#[test]
fn units_in_any_order_give_the_bits_of_the_whole() {
    let mut random = Random(2);
    let rows = random.rows::<f32>(11, DIMENSION);
    let views: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    for config in rules_for(rows.len(), 2) {
        if !config.needs().extras.is_empty() {
            continue;
        }
        let expected = run_inputs(&config, &Inputs::new(&views)).unwrap().output;
        for unit_len in [BLOCK, 4 * BLOCK] {
            let order = random.permutation(Units::new(DIMENSION, unit_len).unwrap().count());
            assert!(bits(&by_units(&config, &rows, unit_len, &order)) == bits(&expected), "{config}");
        }
    }
}
