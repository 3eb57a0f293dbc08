//! Defects that simulators of poisoned clients are known to have. The number is the row of the design's list.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use testudo_simulator::attack::{Attack, Knowledge, Observation, View};
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
    let all = Observation { round: 1, model: &own, colluders: &honest, honest: &honest };
    assert_eq!(bits(&forged(&flip, &own, all, &mut stream(4, Purpose::Attack, 1, 0))), bits(&own));
}

#[test]
fn defect_20_the_built_in_data_are_there_without_a_download() {
    let digits = data::digits::load();
    assert_eq!((digits.len(), digits.width(), digits.classes()), (1797, 64, 10));
    assert_eq!(digits.digest(), data::digits::load().digest());
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
    let original = data::digits::load();
    let effect = |text: &str| {
        let attack = attacks::parse(text).unwrap();
        let mut data = original.clone();
        attack.attack().poison(&mut data, &mut stream(5, Purpose::Poison, 0, 1)).unwrap();
        let own: Vec<f32> = (1..=40).map(|value| value as f32).collect();
        let sent = forged(&attack, &own, Observation::default(), &mut stream(5, Purpose::Attack, 1, 1));
        (data.labels().to_vec(), bits(&sent))
    };
    let other = |kind: &str, parameter: &str| match (kind, parameter) {
        ("label_flip", "map") => "3>8",
        ("non_finite", "value") => "inf",
        ("wrong_shape", _) => "7",
        _ => "0.5",
    };
    let mut compared = 0;
    for info in attacks::catalogue() {
        for parameter in info.parameters {
            let changed = format!("{}:{}={}", info.kind, parameter.name, other(info.kind, parameter.name));
            assert_ne!(effect(info.kind), effect(&changed), "{changed} has no effect");
            compared += 1;
        }
    }
    assert!(compared >= 8);
    // A key that nobody reads is refused.
    assert!(serde_json::from_str::<AttackConfig>(r#"{"kind":"sign_flip","boost":3}"#).is_err());
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
