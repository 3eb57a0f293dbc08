//! Models of several parts: policies, layers, pre-aggregation.

use super::*;

/// Two weights, batch-norm statistics, a counter and a tensor that stays.
const TENSORS: [(&str, usize); 6] =
    [("w1", 5000), ("bn.running_mean", 700), ("bn.running_var", 700), ("w2", 2599), ("steps", 1), ("frozen", 0)];

fn base() -> Arc<Model> {
    let tensor = |&(name, length): &(&str, usize)| Tensor { name: name.into(), shape: vec![length as u64] };
    Arc::new(Model::new(TENSORS.iter().map(tensor).collect(), vec![0.5; DIMENSION]).unwrap())
}

fn run(rule: &str, rest: &str, reverse: bool) -> Box<Release> {
    let spec = spec(rule, rest);
    let params = RoundParams::new((0..7).map(client).collect(), 7, 5, 1000).unwrap();
    let mut engine = Engine::open(spec, base(), Arc::new(Carry::default()), params, [7; 32]);
    let mut actions = Vec::new();
    for number in 0..7 {
        for action in engine.handle(1, offer(number)).unwrap() {
            let Action::Record { client, .. } = action else { panic!("{action:?}") };
            actions.extend(engine.handle(1, EngineInput::Recorded { client }).unwrap());
        }
    }
    released(drive(&mut engine, actions, reverse))
}

const POLICIES: &str = "tensors = { \"bn.*\" = \"stats\", steps = \"counter\" }";

/// Median of the clients' values at a coordinate.
fn median(coordinate: usize) -> f32 {
    let mut values: Vec<f32> = (0..7).map(|number| row(number)[coordinate]).collect();
    values.sort_by(f32::total_cmp);
    values[3]
}

#[test]
fn statistics_and_counters_are_medians_outside_the_rule() {
    let release = run("kind = \"krum\"\nbyzantine = 1", POLICIES, false);
    let parameters = release.model.parameters();
    let chosen = release.seats.iter().find(|seat| seat.verdict == Verdict::Accepted).unwrap();
    let number: usize = chosen.client.as_str()[1..].parse().unwrap();
    assert_eq!(parameters[10], row(number)[10] + 0.5);
    assert_eq!(parameters[6500], row(number)[6500] + 0.5);
    for coordinate in [5000, 5699, 5700, 6399] {
        assert_eq!(parameters[coordinate], 0.5 + median(coordinate));
    }
    assert_eq!(parameters[8999], (0.5 + median(8999)).round_ties_even());
}

#[test]
fn the_optimiser_leaves_statistics_alone() {
    let rest = format!("{POLICIES}\n[optimizer]\nkind = \"fedadam\"\nlearning_rate = 0.01");
    let release = run("kind = \"median\"\nbyzantine = 1", &rest, false);
    assert_eq!(release.model.parameters()[5000], 0.5 + median(5000));
    assert!((release.model.parameters()[0] - 0.5).abs() < 0.2);
}

#[test]
fn an_ignored_tensor_stays_as_it_is() {
    let release = run("kind = \"mean\"", "tensors = { \"w*\" = \"ignore\" }", false);
    assert!(release.model.parameters()[..5000].iter().all(|&value| value == 0.5));
    assert!(release.model.parameters()[5000] != 0.5);
    let nothing = run("kind = \"mean\"", "tensors = { \"*\" = \"ignore\" }", false);
    assert_eq!((nothing.model.parameters(), nothing.aggregate_norm), (base().parameters(), 0.0));
}

#[test]
fn layer_by_layer_each_tensor_has_a_decision_of_its_own() {
    let rule = "kind = \"trimmed_mean\"\nbyzantine = 1\n";
    let whole = run(rule, "", false);
    let layers = run(&format!("{rule}granularity = \"layer\""), "", false);
    // A coordinate rule cannot tell the difference.
    assert_eq!(whole.digest, layers.digest);
    for (a, b) in whole.seats.iter().zip(&layers.seats) {
        let (Verdict::Trimmed { share: a }, Verdict::Trimmed { share: b }) = (a.verdict, b.verdict) else { panic!() };
        assert!((a - b).abs() < 1e-12);
    }
    let krum = run("kind = \"krum\"\nbyzantine = 1\ngranularity = \"layer\"", POLICIES, false);
    let used = krum.seats.iter().filter(|seat| !matches!(seat.verdict, Verdict::Rejected { .. })).count();
    assert!((1..=2).contains(&used), "one row for each of two layers");
    assert_eq!(krum.seats[0].verdict, Verdict::Rejected { reason: Reason::NotSelected });
}

#[test]
fn parts_and_second_looks_give_the_same_bits_in_any_order_of_jobs() {
    for rule in [
        "kind = \"trimmed_mean\"\nbyzantine = 1\npre = [\"arc\", \"nnm\"]",
        "kind = \"krum\"\nbyzantine = 1\npre = [{ kind = \"clip\", radius = 1e-3 }]\ngranularity = \"layer\"",
        "kind = \"median\"\nbyzantine = 1\npre = [\"bucketing\"]",
    ] {
        let (first, second) = (run(rule, POLICIES, false), run(rule, POLICIES, true));
        assert_eq!((first.digest, first.seats), (second.digest, second.seats), "{rule}");
    }
}

#[test]
fn clipped_rows_say_by_how_much() {
    let release = run("kind = \"mean\"\npre = [{ kind = \"clip\", radius = 100.0 }]", "", false);
    let Verdict::Clipped { factor } = release.seats[0].verdict else { panic!("{:?}", release.seats[0].verdict) };
    let norm = row(0).iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    assert!((factor - 100.0 / norm).abs() < 1e-12);
    assert_eq!(release.seats[1].verdict, Verdict::Accepted);
}
