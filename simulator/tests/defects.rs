//! Defects that simulators of poisoned clients are known to have. The number is the row of the design's list.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use testudo_aggregate::RuleConfig;
use testudo_simulator::attack::{Attack, Colluder, Crowd, Deployed, Knowledge, Lesson, Observation, Realism, View};
use testudo_simulator::attacks::{self, AttackConfig, Gaussian, LabelFlip, SignFlip};
use testudo_simulator::data::{self, Dataset};
use testudo_simulator::population::{Mix, Placement, Population};
use testudo_simulator::random::{Purpose, Stream, stream};
use testudo_simulator::workload::{LocalTraining, WorkloadConfig};

fn every_attack() -> Vec<AttackConfig> {
    attacks::catalogue().iter().map(|info| attacks::parse(info.kind).unwrap()).collect()
}

fn forged(attack: &AttackConfig, own: &[f32], all: Observation<'_>, random: &mut Stream) -> Vec<f32> {
    let mut update = own.to_vec();
    let attack = attack.attack();
    attack.forge(&View::new(attack.knowledge(), all), &mut update, random);
    attack.tamper().apply(&mut update);
    update
}

fn bits(update: &[f32]) -> Vec<u32> {
    update.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn defect_16_an_attack_with_no_colluders_and_nobody_to_look_at_does_not_crash() {
    for attack in every_attack() {
        for own in [vec![], vec![0.5], vec![1.0, -2.0, 0.25]] {
            for round in [0, 1, u64::MAX] {
                let all = Observation { round, ..Observation::default() };
                forged(&attack, &own, all, &mut stream(1, Purpose::Attack, round, 0));
            }
        }
    }
    // Nobody poisoned is a population too.
    let population = Population::new(5, 0, Placement::Seeded, &Mix::default(), 3).unwrap();
    assert_eq!(population.poisoned().count(), 0);
}

#[test]
fn defect_17_colluders_that_draw_noise_differ_and_label_flip_trains_on_its_own_data_alone() {
    let own = vec![0.0; 50];
    let noise = AttackConfig::from(Gaussian::default());
    let sent = |client| forged(&noise, &own, Observation::default(), &mut stream(4, Purpose::Attack, 1, client));
    assert_ne!(bits(&sent(0)), bits(&sent(1)));
    assert_eq!(bits(&sent(1)), bits(&sent(1)));

    let flip = AttackConfig::from(LabelFlip::default());
    assert_eq!(flip.attack().knowledge(), Knowledge::Data);
    let honest = vec![vec![9.0; 50]; 3];
    let all = Observation { round: 1, model: &own, colluders: &honest, honest: &honest, ..Observation::default() };
    assert_eq!(bits(&forged(&flip, &own, all, &mut stream(4, Purpose::Attack, 1, 0))), bits(&own));
}

#[test]
fn defect_16_optimised_attacks_search_both_sides_and_send_the_mean_without_colluders() {
    let honest: Vec<Vec<f32>> = vec![vec![1.0, 2.0], vec![3.0, 2.5], vec![2.0, 2.1]];
    let rule = RuleConfig::median(1);
    let deployed = Some(Deployed { rule: rule.rule(), extras: &[], seed: 1, memory: None });
    for kind in ["ipm_opt", "alie_opt", "adaptive"] {
        let attack = attacks::parse(kind).unwrap();
        let crowd = Crowd { rows: 3, colluding: 0, declared: 1 };
        let nobody = Observation { round: 1, crowd, honest: &honest, deployed, ..Observation::default() };
        let sent = forged(&attack, &[2.0, 2.2], nobody, &mut stream(1, Purpose::Attack, 1, 0));
        assert!((sent[0] - 2.0).abs() < 1e-6 && (sent[1] - 2.2).abs() < 1e-6, "{kind}: {sent:?}");
    }
    // The honest values lie so that the median moves further the other way.
    let honest: Vec<Vec<f32>> = [0.0, 0.1, 0.2, 5.0, 9.0].iter().map(|value| vec![*value]).collect();
    let crowd = Crowd { rows: 7, colluding: 2, declared: 2 };
    let rule = RuleConfig::median(2);
    let deployed = Some(Deployed { rule: rule.rule(), extras: &[], seed: 1, memory: None });
    let all = Observation { round: 1, crowd, honest: &honest, deployed, ..Observation::default() };
    let of = |text: &str| forged(&attacks::parse(text).unwrap(), &[0.0], all, &mut stream(1, Purpose::Attack, 1, 0))[0];
    assert!(of("alie_opt:directions=both") < 0.0, "down to 0.1 is further from 2.86 than up to 5");
    assert!(of("alie_opt:directions=positive") > 2.0);
}

#[test]
fn defect_17_colluders_in_jitter_mode_are_no_duplicates() {
    let honest = vec![vec![1.0_f32; 50], vec![2.0; 50]];
    let common = forged(
        &attacks::parse("ipm").unwrap(),
        &honest[0],
        Observation { round: 1, honest: &honest, ..Observation::default() },
        &mut stream(1, Purpose::Attack, 1, 0),
    );
    let copy = |realism: Realism, client| {
        let mut update = common.clone();
        realism.roughen(&mut update, &honest, &mut stream(1, Purpose::Attack, 1 | 1 << 63, client));
        update
    };
    for realism in [Realism::Jitter(0.01), Realism::SupportMatched] {
        assert_ne!(bits(&copy(realism, 0)), bits(&copy(realism, 1)), "{realism:?}");
        assert_eq!(bits(&copy(realism, 1)), bits(&copy(realism, 1)), "{realism:?}");
    }
    assert_eq!(bits(&copy(Realism::Identical, 0)), bits(&copy(Realism::Identical, 1)));
}

#[test]
fn defect_20_the_built_in_data_are_there_without_a_download() {
    let digits = data::digits::load();
    assert_eq!((digits.len(), digits.width(), digits.classes()), (1797, 64, 10));
    assert_eq!(digits.digest(), data::digits::load().digest());
}

#[test]
fn defect_24_what_min_max_sends_is_within_its_bound_every_time() {
    let attack = attacks::parse("min_max").unwrap();
    let square = |a: &[f64], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - f64::from(*b)).powi(2)).sum::<f64>();
    for seed in 0..200 {
        let mut random = stream(seed, Purpose::Noise, 0, 0);
        let (count, width) = (3 + random.below(9), 1 + random.below(30));
        let honest: Vec<Vec<f32>> = (0..count).map(|_| (0..width).map(|_| random.normal() as f32).collect()).collect();
        let wide = |row: &Vec<f32>| row.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>();
        let pairs = honest.iter().flat_map(|a| honest.iter().map(move |b| square(&wide(a), b)));
        let bound = pairs.fold(0.0, f64::max);
        let all = Observation { round: 1, honest: &honest, ..Observation::default() };
        let sent = attack.vector(&View::new(Knowledge::Honest, all), &honest[0], &mut random);
        let reach = honest.iter().map(|row| square(&sent, row)).fold(0.0, f64::max);
        assert!(reach <= bound * (1.0 + 1e-12), "{seed}: {reach} beyond {bound}");
    }
}

#[test]
fn defect_25_the_random_part_of_the_examples_is_not_always_the_first() {
    let half = LabelFlip { fraction: 0.5, map: Vec::new() };
    let original = data::digits::load();
    let relabelled = |client| -> Vec<usize> {
        let mut data = original.clone();
        half.poison(&mut data, &mut stream(6, Purpose::Poison, 0, client)).unwrap();
        (0..data.len()).filter(|&row| data.label(row) != original.label(row)).collect()
    };
    let (first, second) = (relabelled(0), relabelled(1));
    assert_ne!(first, second, "every client relabels the same examples");
    for rows in [first, second] {
        let in_front = rows.iter().filter(|&&row| row < original.len() / 2).count();
        let share = in_front as f64 / rows.len() as f64;
        assert!((0.4..0.6).contains(&share), "{share} of the relabelled examples are in the first half");
    }
}

#[test]
fn defect_31_swapping_two_labels_swaps_them() {
    let swap = LabelFlip { fraction: 1.0, map: vec![(0, 9), (9, 0)] };
    let original = data::digits::load();
    let mut data = original.clone();
    swap.poison(&mut data, &mut stream(1, Purpose::Poison, 0, 0)).unwrap();
    let count = |data: &Dataset, label| data.labels().iter().filter(|&&other| other == label).count();
    assert_eq!((count(&data, 0), count(&data, 9)), (count(&original, 9), count(&original, 0)));
    assert!(count(&data, 0) > 0 && count(&data, 9) > 0);
}

#[test]
fn defect_32_an_attack_acts_in_every_round_and_not_only_in_the_first() {
    let own = [1.0, -2.0, 0.5, 4.0];
    for attack in every_attack() {
        let acts = |round| {
            let all = Observation { round, ..Observation::default() };
            bits(&forged(&attack, &own, all, &mut stream(2, Purpose::Attack, round, 3))) != bits(&own)
        };
        let first = acts(1);
        assert!((2..50).all(|round| acts(round) == first), "{attack} stops or starts");
    }
}

#[test]
fn defect_33_poisoning_one_client_changes_no_random_number_of_another() {
    let original = data::digits::load();
    let batch = |poisoned: bool| {
        let mut numbers = stream(8, Purpose::Batch, 1, 4);
        let first = numbers.bits();
        if poisoned {
            let mut data = original.clone();
            LabelFlip { fraction: 0.5, map: Vec::new() }
                .poison(&mut data, &mut stream(8, Purpose::Poison, 0, 3))
                .unwrap();
        }
        (first, numbers.bits(), stream(8, Purpose::Batch, 1, 5).bits())
    };
    assert_eq!(batch(false), batch(true));
    // And the attack's own numbers differ from round to round.
    assert_ne!(stream(8, Purpose::Attack, 1, 3).bits(), stream(8, Purpose::Attack, 2, 3).bits());
}

#[test]
fn defect_34_every_parameter_that_may_be_set_changes_what_is_sent_or_trained_on() {
    let mut compared = 0;
    for info in attacks::catalogue() {
        for parameter in info.parameters {
            if parameter.name == "directions" {
                // Whether a side is better depends on the rows: defect 16 looks at it.
                continue;
            }
            let (base, changed) = varied(info.kind, parameter.name);
            // Not assert_ne: the updates are too long to be shown.
            assert!(effect(&base) != effect(&changed), "{changed} has the effect of {base}");
            compared += 1;
        }
    }
    assert!(compared >= 80, "{compared}");
    // A key that nobody reads is refused.
    assert!(serde_json::from_str::<AttackConfig>(r#"{"kind":"sign_flip","boost":3}"#).is_err());
}

/// The attack without and with another value of one parameter; some matter only beside others.
fn varied(kind: &str, parameter: &str) -> (String, String) {
    let (beside, value) = match (kind, parameter) {
        ("label_flip", "map") => ("", "3>8"),
        ("non_finite", "value") => ("", "inf"),
        ("dropout", _) => ("", "unmask"),
        ("replay", _) => ("", "other"),
        ("alie", "sign") => ("", "+"),
        ("gaussian", "relative" | "shared") => ("", "true"),
        ("constant", "spread") => ("", "2"),
        ("mimic", "row") => ("", "2"),
        ("mimic", "warmup") => ("", "2"),
        ("min_max" | "min_sum", "perturbation") => ("", "sign"),
        ("min_max" | "min_sum", "sign") => ("", "+"),
        ("min_sum", "bound") => ("", "min"),
        ("fang_trim", "deterministic") => ("", "true"),
        ("fang_trim", "b") => ("", "3"),
        ("fang_krum", "threshold") => ("", "1"),
        (_, "evaluations") => ("", "3"),
        ("adaptive", "goal") => ("", "reversal"),
        ("adaptive", "stealth") => ("", "2"),
        ("adaptive", "after") => ("", "9"),
        ("free_rider", "decay") => ("noise=1", "2"),
        ("sybil", "mode") => ("", "split"),
        ("sybil", "spread") => ("mode=jitter", "3"),
        ("on_off" | "sybil", "attack") => ("", "ipm"),
        ("on_off", "start") => ("", "9"),
        ("on_off", "stop") => ("", "1"),
        ("on_off", "on") => ("off=1", "3"),
        ("on_off", "off") => ("", "1"),
        ("on_off", "ramp") => ("", "9"),
        ("pgd_backdoor", "examples") => ("", "tail"),
        ("pgd_backdoor", "every") => ("epsilon=0.01", "1"),
        (_, "trigger") => ("", "square"),
        (_, "target") => ("", "5"),
        (_, "parts") => ("", "2"),
        (_, "most") => ("", "1"),
        (_, "rounds") => ("", "1"),
        (_, "angle") => ("", "45"),
        ("wrong_shape" | "late" | "oversize" | "false_examples", _) => ("", "7"),
        _ => ("", "0.3"),
    };
    let separator = if beside.is_empty() { "" } else { "," };
    (
        format!("{kind}{}{beside}", if beside.is_empty() { "" } else { ":" }),
        format!("{kind}:{beside}{separator}{parameter}={value}"),
    )
}

/// Everything a second colluder in its second round changes: data, training, update, memory, messages.
fn effect(text: &str) -> (Vec<u16>, Vec<u32>, Vec<u32>, Vec<u32>, String) {
    let attack = attacks::parse(text).unwrap();
    let original = data::digits::load().subset(&(0..300).collect::<Vec<_>>());
    let workload = WorkloadConfig::parse("softmax").unwrap().build::<f32>(64, 10).unwrap();
    let model = workload.initial(0);
    let updates = |count: u64, scale: f32| -> Vec<Vec<f32>> {
        let mut random = stream(3, Purpose::Noise, count, 0);
        (0..count).map(|_| (0..model.len()).map(|_| 0.2 + scale * random.normal() as f32).collect()).collect()
    };
    let (honest, colluders, previous) = (updates(9, 1.0), updates(3, 0.7), updates(1, 0.1).remove(0));
    let rule: RuleConfig = serde_json::from_str(r#"{"kind":"multi_krum","byzantine":3}"#).unwrap();
    let colluder = Colluder { index: 1, count: 3 };
    let memory = attack.remember(
        &View::new(attack.knowledge(), Observation { round: 1, honest: &honest, ..Observation::default() }),
        &colluders[2],
    );
    let all = Observation {
        round: 2,
        colluder,
        crowd: Crowd { rows: 12, colluding: 3, declared: 3 },
        accord: 8,
        memory: &memory,
        model: &model,
        previous: &previous,
        colluders: &colluders,
        honest: &honest,
        flipped: &[],
        deployed: Some(Deployed { rule: rule.rule(), extras: &[], seed: 4, memory: None }),
    };
    let view = View::new(attack.knowledge(), all);
    let mut data = original.clone();
    let mut poison = stream(5, Purpose::Poison, 0, 1);
    attack.poison_as(colluder, &mut data, &mut poison).unwrap();
    let lesson = Lesson {
        round: 2,
        workload: workload.as_ref(),
        model: &model,
        data: &data,
        training: LocalTraining::default(),
    };
    let mut round = data.clone();
    if attack.wishes().poison_each_round {
        attack.poison_round(colluder, &lesson, &mut round, &mut poison).unwrap();
    }
    let trained = attack.train(&lesson, &view, &mut stream(5, Purpose::Batch, 2, 1));
    let mut sent = trained.unwrap_or_else(|| colluders[1].clone());
    attack.forge(&view, &mut sent, &mut stream(5, Purpose::Attack, 2, 1));
    attack.tamper_in(2).apply(&mut sent);
    let remembered = attack.remember(&view, &colluders[1]);
    let acts = format!("{:?} {:?}", attack.tamper_in(2), attack.backdoor());
    (round.labels().to_vec(), bits(round.features()), bits(&sent), bits(&remembered), acts)
}

#[test]
fn defect_35_honest_clients_stay_honest_when_others_are_poisoned() {
    let mix = Mix::Same(SignFlip::default().into());
    let clean = Population::new(20, 0, Placement::Seeded, &mix, 9).unwrap();
    for poisoned in [1, 3, 19] {
        let population = Population::new(20, poisoned, Placement::Seeded, &mix, 9).unwrap();
        assert_eq!(population.poisoned().count(), poisoned);
        let honest: Vec<usize> = (0..20).filter(|&client| !population.is_poisoned(client)).collect();
        assert_eq!(honest.len(), 20 - poisoned);
        assert!(honest.iter().all(|&client| population.attack(client) == clean.attack(client)));
    }
    // What an honest client trains does not depend on who is poisoned: its stream is its own.
    let digits = data::digits::load();
    let workload = WorkloadConfig::parse("softmax").unwrap().build::<f32>(digits.width(), digits.classes()).unwrap();
    let model = workload.initial(9);
    let train = |client| {
        let own = digits.subset(&(0..40).collect::<Vec<_>>());
        bits(&workload.local_sgd(&model, &own, &LocalTraining::default(), &mut stream(9, Purpose::Batch, 1, client)))
    };
    let before = train(2);
    forged(&SignFlip::default().into(), &model, Observation::default(), &mut stream(9, Purpose::Attack, 1, 3));
    assert_eq!(train(2), before);
}

#[test]
fn defect_37_the_two_bounds_of_min_sum_have_names_and_differ() {
    let honest: Vec<Vec<f32>> = vec![vec![0.0, 0.0], vec![1.0, 0.2], vec![0.3, 4.0], vec![-2.0, 1.0]];
    let all = Observation { round: 1, honest: &honest, ..Observation::default() };
    let sent =
        |text: &str| forged(&attacks::parse(text).unwrap(), &honest[0], all, &mut stream(1, Purpose::Attack, 1, 0));
    assert_ne!(bits(&sent("min_sum:bound=max")), bits(&sent("min_sum:bound=min")));
    assert_eq!(bits(&sent("min_sum")), bits(&sent("min_sum:bound=max")), "the paper's is the default");
    let sum = |row: &[f32]| {
        let square = |other: &Vec<f32>| row.iter().zip(other).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        honest.iter().map(square).sum::<f64>()
    };
    let sums: Vec<f64> = honest.iter().map(|row| sum(row)).collect();
    let (least, most) = (sums.iter().copied().fold(f64::INFINITY, f64::min), sums.iter().copied().fold(0.0, f64::max));
    assert!((sum(&sent("min_sum:bound=max")) / most - 1.0).abs() < 1e-5);
    assert!((sum(&sent("min_sum:bound=min")) / least - 1.0).abs() < 1e-5);
}
