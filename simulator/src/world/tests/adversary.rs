//! Worlds drive the whole interface of attacks: data, training, updates, memory, messages.

use super::*;
use crate::attacks::catalogue;

/// A world under an attack, after the first round's training and forging: what everybody sends.
fn sent(attack: &str, rest: &str, round: u64) -> Vec<Vec<f32>> {
    let mut world = world(&scenario("kind = \"mean\"", attack, rest), Route::Shortest);
    let model = Arc::clone(&world.state.model);
    let present: Vec<usize> = (0..11).collect();
    let mut rows = world.train(&model, round, &present).unwrap();
    world.forge(&model, round, &present, &mut rows);
    rows
}

fn end(scenario: &Arc<Scenario>) -> Measured {
    finished(scenario, Route::Shortest).measured.pop().unwrap()
}

#[test]
fn every_attack_gives_the_same_bits_by_both_routes_and_from_a_checkpoint() {
    for info in catalogue() {
        let rest = match info.kind {
            "wrong_share" => "[visibility]\ngroup_size = 2\n[cohort]\nminimum = 10",
            _ => "[cohort]\nminimum = 5",
        };
        let parameters = match info.kind {
            "stale" => ", rounds = 2",
            "on_off" => ", start = 2, off = 1, attack = { kind = \"mimic\" }",
            _ => "",
        };
        let scenario =
            scenario("kind = \"trimmed_mean\"\nbyzantine = 2", &format!("kind = \"{}\"{parameters}", info.kind), rest);
        let direct = finished(&scenario, Route::Shortest);
        assert_eq!(direct, finished(&scenario, Route::Engine), "{}", info.kind);
        assert!(direct.abandoned == 0, "{}", info.kind);
        for stop in [1, 3] {
            let mut first = world(&scenario, Route::Shortest);
            (0..stop).for_each(|_| drop(first.step().unwrap()));
            let bytes = first.state().to_bytes("id");
            let mut second = world(&scenario, Route::Shortest);
            let start = second.state().clone();
            second.restore(State::from_bytes(&bytes, "id", &start).unwrap());
            while !second.is_over() {
                second.step().unwrap();
            }
            assert_eq!(second.state(), &direct, "{} stopped after {stop}", info.kind);
        }
    }
}

#[test]
fn what_an_attack_remembers_is_part_of_the_checkpoint() {
    let scenario = scenario("kind = \"mean\"", "kind = \"stale\", rounds = 2", "");
    let mut world = world(&scenario, Route::Shortest);
    let dimension = world.state().model.parameters().len();
    world.step().unwrap();
    world.step().unwrap();
    let remembered = |state: &State| -> Vec<(usize, usize)> {
        state.memories.iter().map(|(client, memory)| (*client, memory.len())).collect()
    };
    assert_eq!(remembered(world.state()), [(9, 2 * dimension), (10, 2 * dimension)]);
    assert_eq!(world.state().previous.len(), dimension);
    let bytes = world.state().to_bytes("id");
    let read = State::from_bytes(&bytes, "id", world.state()).unwrap();
    assert_eq!((&read.memories, &read.previous), (&world.state().memories, &world.state().previous));
}

#[test]
fn data_are_poisoned_only_in_rounds_of_attack() {
    let honest = sent("kind = \"none\"", "", 1);
    let schedule = "schedule = { start = 2 }";
    assert_eq!(sent("kind = \"label_flip\"", schedule, 1), honest);
    let flipped = sent("kind = \"label_flip\"", "", 1);
    assert_eq!(flipped[..9], honest[..9]);
    assert_ne!(flipped[9], honest[9]);
    let dynamic = sent("kind = \"label_flip_dynamic\"", "", 1);
    assert!(dynamic[9] != honest[9] && dynamic[9] != flipped[9]);
}

#[test]
fn attacks_that_see_flipped_gradients_get_them_without_momentum() {
    let rows = sent("kind = \"label_flip_mean\"", "", 1);
    // Softmax from zero: the flipped gradient differs from the honest one only in whose labels are whose.
    assert_eq!(rows[9], rows[10]);
    let honest = sent("kind = \"none\"", "", 1);
    let norm = |row: &[f32]| row.iter().map(|value| f64::from(value * value)).sum::<f64>().sqrt();
    // Momentum 0.9 makes the first honest row a tenth of its gradient.
    assert!(norm(&rows[9]) > 3.0 * norm(&honest[0]), "{} {}", norm(&rows[9]), norm(&honest[0]));
}

#[test]
fn optimised_attacks_know_the_deployed_rule_and_hurt_it_more_than_their_fixed_kin() {
    let distance = |attack: &str| {
        let scenario = scenario("kind = \"trimmed_mean\"\nbyzantine = 2", attack, "");
        let mut world = world(&scenario, Route::Shortest);
        while !world.is_over() {
            world.step().unwrap();
        }
        world.state().measured[1].distance.unwrap()
    };
    assert!(distance("kind = \"ipm_opt\"") > distance("kind = \"ipm\", tau = 0.1"));
    assert!(distance("kind = \"alie_opt\"") > distance("kind = \"alie\""));
}

#[test]
fn backdoors_are_measured_where_there_is_one() {
    let rest = "[examples]\nweighted = false";
    let attack = "kind = \"model_replacement\"";
    let replaced = Arc::new({
        let mut plan = scenario("kind = \"mean\"", attack, rest).plan.clone();
        plan.rounds = 12;
        plan.training.algorithm = crate::scenario::Algorithm::FedAvg;
        Scenario::new(plan).unwrap()
    });
    assert!(end(&replaced).backdoor.unwrap() > 0.8, "{:?}", end(&replaced));
    let clean = end(&scenario("kind = \"mean\"", "kind = \"none\"", rest));
    assert_eq!(clean.backdoor, None);
    let absent = scenario("kind = \"mean\"", attack, rest);
    let mut plan = absent.plan.clone();
    plan.adversary.colluders = 0;
    assert_eq!(end(&Arc::new(Scenario::new(plan).unwrap())).backdoor, None);
}

#[test]
fn protocol_attacks_meet_the_servers_refusals_and_the_round_completes() {
    for (attack, expected) in [
        ("kind = \"late\"", "dropout"),
        ("kind = \"dropout\"", "dropout"),
        ("kind = \"oversize\"", "rejected"),
        ("kind = \"wrong_shape\"", "rejected"),
        ("kind = \"non_finite\"", "rejected"),
        ("kind = \"replay\", of = \"own\"", "rejected"),
        ("kind = \"replay\", of = \"other\"", "rejected"),
        ("kind = \"replay\", of = \"twice\"", "accepted"),
        ("kind = \"false_examples\", claimed = 0", "rejected"),
        ("kind = \"false_examples\", claimed = 1000000001", "rejected"),
        ("kind = \"false_examples\", claimed = 9223372036854775807", "rejected"),
        ("kind = \"false_examples\", claimed = 1000000000", "accepted"),
    ] {
        let state = finished(&scenario("kind = \"mean\"", attack, "[cohort]\nminimum = 3"), Route::Engine);
        let counts = state.measured.iter().fold(Counts::default(), |sum, one| sum.plus(one.colluders));
        let found = [("accepted", counts.accepted), ("rejected", counts.rejected), ("dropout", counts.dropout)]
            .into_iter()
            .find(|(_, count)| *count == 12);
        assert_eq!(found.map(|(name, _)| name), Some(expected), "{attack}: {counts:?}");
        assert_eq!(state.abandoned, 0, "{attack}");
    }
}

#[test]
fn false_claims_weigh_until_they_are_capped() {
    let claim = "kind = \"false_examples\", claimed = 1000000";
    let distance =
        |rest: &str| finished(&scenario("kind = \"mean\"", claim, rest), Route::Shortest).measured[1].distance.unwrap();
    let (believed, capped) = (distance("[examples]\nweighted = true"), distance("[examples]\nmax = 100"));
    assert!(believed > 2.0 * capped, "{believed} {capped}");
}

#[test]
fn acts_on_masked_steps_need_groups_and_change_who_is_in_a_sum() {
    let refused = |attack: &str| {
        let text = format!(
            "rounds = 1\n[data]\nsource = \"digits\"\ntest = 360\n[workload]\nkind = \"softmax\"\n[population]\n\
             clients = 4\n[rule]\nkind = \"mean\"\n[adversary]\ncolluders = 1\nattack = {{ {attack} }}\n"
        );
        Scenario::from_table(&toml::from_str(&text).unwrap()).unwrap_err().to_string()
    };
    for attack in ["kind = \"wrong_share\"", "kind = \"dropout\", step = \"unmask\""] {
        let message = refused(attack);
        assert!(message.contains("adversary.attack") && message.contains("visibility.group_size"), "{message}");
    }
    let groups = "[visibility]\ngroup_size = 2\n[cohort]\nminimum = 5";
    let model = |attack: &str| finished(&scenario("kind = \"mean\"", attack, groups), Route::Shortest).model;
    let honest = model("kind = \"inference_only\"");
    assert_eq!(model("kind = \"dropout\", step = \"unmask\""), honest);
    assert_ne!(model("kind = \"dropout\", step = \"share_keys\""), honest);
}

#[test]
fn a_trigger_that_does_not_fit_the_data_is_named_with_its_value() {
    let scenario = scenario("kind = \"mean\"", "kind = \"backdoor\", target = 12", "");
    let data = Library::default().prepare(&scenario.plan).unwrap();
    let message = World::new(scenario, data, Route::Shortest).unwrap_err().to_string();
    for part in ["adversary.attack", "target = 12", "0 to 9"] {
        assert!(message.contains(part), "{message}");
    }
}
