//! Backdoors: what is planted, what is trained, and whether the model answers the trigger.

use testudo_aggregate::RuleConfig;
use testudo_simulator::attack::{Attack, Colluder, Lesson, Observation, View};
use testudo_simulator::attacks;
use testudo_simulator::data::digits;
use testudo_simulator::federation::Federation;
use testudo_simulator::random::{Purpose, stream};
use testudo_simulator::workload::{LocalTraining, WorkloadConfig};

/// Accuracy and success rate of federated averaging with the plain mean.
fn federated(attack: &str, rounds: u64) -> (f64, f64) {
    let attack = attacks::parse(attack).unwrap();
    let mut federation =
        Federation::new(&digits::load(), 360, &WorkloadConfig::parse("mlp").unwrap(), 20, 4, 5).unwrap();
    federation.training.epochs = 4;
    let outcome = federation.run(RuleConfig::mean().rule(), &attack, rounds).unwrap();
    (*outcome.accuracy.last().unwrap(), outcome.success.unwrap())
}

#[test]
fn backdoors_work_against_the_mean_and_leave_the_task_alone() {
    // Without triggered examples the trigger means nothing.
    let (clean, by_chance) = federated("backdoor:fraction=0", 12);
    assert!(clean > 0.9 && by_chance < 0.1, "{clean} {by_chance}");
    for attack in [
        "backdoor",
        "backdoor:scale=5",
        "model_replacement",
        "model_replacement:gamma=5,bound=3",
        "dba:scale=5",
        "neurotoxin:scale=3",
        "constrain_and_scale:alpha=0.8",
        "pgd_backdoor:epsilon=2,scale=2",
    ] {
        let (accuracy, success) = federated(attack, 12);
        assert!(accuracy > 0.75, "{attack}: accuracy {accuracy}");
        assert!(success > 0.5, "{attack}: success {success}");
    }
}

#[test]
fn a_distributed_trigger_is_planted_in_parts_and_tested_whole() {
    let attack = attacks::parse("dba:fraction=1").unwrap();
    let clean = digits::load();
    let mut touched = Vec::new();
    for index in 0..4 {
        let mut data = clean.clone();
        let colluder = Colluder { index, count: 4 };
        attack.poison_as(colluder, &mut data, &mut stream(1, Purpose::Poison, 0, 0)).unwrap();
        let changed: Vec<usize> =
            (0..64).filter(|&c| (0..data.len()).any(|row| data.row(row)[c] != clean.row(row)[c])).collect();
        assert_eq!(changed.len(), 1);
        touched.extend(changed);
    }
    assert_eq!(touched, attack.backdoor().unwrap().features(64));
}

#[test]
fn exactly_the_asked_share_is_poisoned_the_same_way_each_time() {
    let attack = attacks::parse("backdoor:fraction=0.25,target=7").unwrap();
    let clean = digits::load().subset(&(0..200).collect::<Vec<_>>());
    let poisoned = |client| {
        let mut data = clean.clone();
        attack.poison(&mut data, &mut stream(1, Purpose::Poison, 0, client)).unwrap();
        data
    };
    let stamped = (0..200).filter(|&row| poisoned(0).row(row) != clean.row(row));
    assert_eq!(stamped.count(), 50);
    assert_eq!(poisoned(0), poisoned(0));
    assert_ne!(poisoned(0), poisoned(1));
    let error = attacks::parse("backdoor:target=12").unwrap().poison(&mut clean.clone(), &mut super::random());
    assert!(error.unwrap_err().to_string().contains("target = 12; the data have the labels 0 to 9"));
}

#[test]
fn neurotoxin_leaves_the_coordinates_that_moved_most_alone() {
    let attack = attacks::parse("neurotoxin:top=0.25").unwrap();
    let previous = [0.1, -9.0, 0.2, 0.3, 8.0, 0.0, 0.4, 0.5];
    let view = View::new(attack.knowledge(), Observation { round: 2, previous: &previous, ..Observation::default() });
    let mut update = [1.0; 8];
    attack.forge(&view, &mut update, &mut super::random());
    assert_eq!(update, [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0]);
}

#[test]
fn constrained_training_stays_near_the_model() {
    let data = digits::load().subset(&(0..200).collect::<Vec<_>>());
    let workload = WorkloadConfig::parse("mlp").unwrap().build::<f32>(64, 10).unwrap();
    let model = workload.initial(1);
    let length = |text: &str| {
        let attack = attacks::parse(text).unwrap();
        let view = View::new(attack.knowledge(), Observation { round: 1, model: &model, ..Observation::default() });
        let training = LocalTraining { epochs: 5, ..LocalTraining::default() };
        let lesson = Lesson { round: 1, workload: workload.as_ref(), model: &model, data: &data, training };
        let mut update = attack
            .train(&lesson, &view, &mut stream(1, Purpose::Batch, 1, 0))
            .unwrap_or_else(|| workload.local_sgd(&model, &data, &training, &mut stream(1, Purpose::Batch, 1, 0)));
        attack.forge(&view, &mut update, &mut super::random());
        update.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
    };
    let free = length("constrain_and_scale:alpha=1,gamma=1");
    assert!((free / length("backdoor") - 1.0).abs() < 1e-5, "alpha = 1 is plain training");
    assert!(length("constrain_and_scale:alpha=0.3,gamma=1") < 0.7 * free);
    let bounded = length("pgd_backdoor:epsilon=0.5,every=1");
    assert!((bounded - 0.5).abs() < 1e-3, "{bounded}");
    assert!((length("model_replacement:gamma=100,bound=2") - 2.0).abs() < 1e-5);
    // Uphill: training on the ascended model makes the loss larger.
    let ascended = length("inverse_gradient");
    assert!(ascended > 0.0);
}

#[test]
fn dynamic_flips_choose_what_the_model_finds_least_likely() {
    let attack = attacks::parse("label_flip_dynamic").unwrap();
    let clean = digits::load().subset(&(0..100).collect::<Vec<_>>());
    let workload = WorkloadConfig::parse("softmax").unwrap().build::<f32>(64, 10).unwrap();
    let mut model: Vec<f32> = workload.initial(0);
    // Biases alone decide: class 6 is the least likely for everyone.
    model[640..].copy_from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -1.0, 7.0, 8.0, 9.0]);
    let lesson = Lesson {
        round: 1,
        workload: workload.as_ref(),
        model: &model,
        data: &clean,
        training: LocalTraining::default(),
    };
    let mut data = clean.clone();
    attack.poison_round(Colluder::default(), &lesson, &mut data, &mut super::random()).unwrap();
    assert!(data.labels().iter().all(|label| *label == 6));
    assert_eq!(data.features(), clean.features());
}
