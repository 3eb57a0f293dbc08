//! Attacks over several rounds: on and off, memory, schedules.

use testudo_simulator::attack::{Attack, Colluder, Lesson, Observation, Realism, Replayed, Step, Tamper, View};
use testudo_simulator::attacks;
use testudo_simulator::data::digits;
use testudo_simulator::random::{Purpose, stream};
use testudo_simulator::workload::{LocalTraining, WorkloadConfig};

use super::random;

fn in_round(text: &str, round: u64, own: &[f32]) -> Vec<f32> {
    let attack = attacks::parse(text).unwrap();
    let mut update = own.to_vec();
    let all = Observation { round, ..Observation::default() };
    attack.forge(&View::new(attack.knowledge(), all), &mut update, &mut random());
    update
}

#[test]
fn an_on_off_attack_follows_its_schedule() {
    let own = [1.0, -2.0];
    let acts = |text: &str| -> Vec<u64> { (1..=12).filter(|&round| in_round(text, round, &own) != own).collect() };
    assert_eq!(acts("on_off"), (1..=12).collect::<Vec<_>>());
    assert_eq!(acts("on_off:start=3,on=2,off=3,stop=10"), [3, 4, 8, 9]);
    assert_eq!(acts("on_off:attack=constant:value=7;spread=0,start=11"), [11, 12]);
    // Growing: a quarter, a half, three quarters, all.
    let grown: Vec<f32> = (1..=5).map(|round| in_round("on_off:attack=sign_flip:1,ramp=4", round, &own)[0]).collect();
    assert_eq!(grown, [0.5, 0.0, -0.5, -1.0, -1.0]);
}

#[test]
fn an_on_off_attack_poisons_data_and_messages_in_its_rounds_alone() {
    let attack = attacks::parse("on_off:attack=label_flip,start=2,on=1,off=1").unwrap();
    assert!(attack.wishes().poison_each_round);
    let clean = digits::load().subset(&(0..50).collect::<Vec<_>>());
    let workload = WorkloadConfig::parse("softmax").unwrap().build::<f32>(64, 10).unwrap();
    let model = workload.initial(0);
    let poisoned = |round| {
        let training = LocalTraining::default();
        let lesson = Lesson { round, workload: workload.as_ref(), model: &model, data: &clean, training };
        let mut data = clean.clone();
        let mut same = stream(1, Purpose::Poison, 0, 3);
        attack.poison_round(Colluder::default(), &lesson, &mut data, &mut same).unwrap();
        data != clean
    };
    assert_eq!((1..=5).map(poisoned).collect::<Vec<_>>(), [false, true, false, true, false]);
    let late = attacks::parse("on_off:attack=late,start=3").unwrap();
    assert_eq!((late.tamper_in(2), late.tamper_in(3)), (Tamper::None, Tamper::Late { by_ms: 1000 }));
}

#[test]
fn a_stale_attacker_sends_what_it_trained_that_many_rounds_ago() {
    let attack = attacks::parse("stale:2").unwrap();
    assert!(attack.wishes().memory);
    let mut memory = Vec::new();
    let mut sent = Vec::new();
    for round in 1..=5 {
        let own = vec![round as f32; 3];
        let all = Observation { round, memory: &memory, ..Observation::default() };
        let view = View::new(attack.knowledge(), all);
        let mut update = own.clone();
        attack.forge(&view, &mut update, &mut random());
        sent.push(update[0]);
        memory = attack.remember(&view, &own);
    }
    assert_eq!(sent, [1.0, 2.0, 1.0, 2.0, 3.0]);
}

#[test]
fn a_free_rider_hides_behind_the_last_change_and_falling_noise() {
    let attack = attacks::parse("free_rider:scale=2,noise=1,decay=1").unwrap();
    let previous = vec![3.0; 4_000];
    let spread = |round| {
        let mut update = vec![9.0; 4_000];
        let all = Observation { round, previous: &previous, ..Observation::default() };
        attack.forge(&View::new(attack.knowledge(), all), &mut update, &mut random());
        (update.iter().map(|value| f64::from(value - 6.0).powi(2)).sum::<f64>() / 4_000.0).sqrt()
    };
    assert!((spread(1) - 1.0).abs() < 0.05 && (spread(10) - 0.1).abs() < 0.005, "{} {}", spread(1), spread(10));
}

#[test]
fn protocol_attacks_say_what_a_driver_is_to_do_and_leave_the_update_honest() {
    for (text, expected) in [
        ("dropout:unmask", Tamper::Dropout { step: Step::Unmask }),
        ("replay:of=other", Tamper::Replay { of: Replayed::Other }),
        ("wrong_share", Tamper::WrongShare),
        ("late:by_ms=5", Tamper::Late { by_ms: 5 }),
        ("oversize:8", Tamper::Oversize { factor: 8 }),
        ("false_examples:claimed=9223372036854775808", Tamper::Examples { claimed: 1 << 63 }),
        ("false_examples:claimed=0", Tamper::Examples { claimed: 0 }),
    ] {
        let attack = attacks::parse(text).unwrap();
        assert_eq!((attack.tamper(), attack.tamper_in(9)), (expected, expected), "{text}");
        assert_eq!(in_round(text, 1, &[1.0, 2.0]), [1.0, 2.0]);
        assert_eq!(attack.to_string().parse::<attacks::AttackConfig>().unwrap(), attack);
    }
}

#[test]
fn colluders_may_be_alike_or_not() {
    let common = vec![1.0; 50];
    let copy = |realism: Realism, client| {
        let mut update = common.clone();
        realism.roughen(&mut update, &[], &mut stream(4, Purpose::Attack, 1, client));
        update
    };
    assert_eq!(copy(Realism::Identical, 1), copy(Realism::Identical, 2));
    assert_ne!(copy(Realism::Jitter(0.1), 1), copy(Realism::Jitter(0.1), 2));
}
