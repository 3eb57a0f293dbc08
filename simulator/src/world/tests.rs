use super::*;
use crate::scenario::Scenario;

mod adversary;
mod sources;

/// A small study: `rest` replaces or adds sections.
pub(crate) fn scenario(rule: &str, attack: &str, rest: &str) -> Arc<Scenario> {
    let text = format!(
        "rounds = 6\n[data]\nsource = \"digits\"\ntest = 360\n[workload]\nkind = \"softmax\"\n[population]\nclients = 11\n\
         [training]\nmomentum = 0.9\nbatch = 16\n[report]\nevaluate_every = 2\n[rule]\n{rule}\n[adversary]\ncolluders = 2\n\
         attack = {{ {attack} }}\n{rest}\n"
    );
    Arc::new(Scenario::from_table(&toml::from_str(&text).unwrap()).unwrap())
}

pub(crate) fn world(scenario: &Arc<Scenario>, route: Route) -> World {
    let data = Library::default().prepare(&scenario.plan).unwrap();
    World::new(Arc::clone(scenario), data, route).unwrap()
}

fn finished(scenario: &Arc<Scenario>, route: Route) -> State {
    let mut world = world(scenario, route);
    while !world.is_over() {
        world.step().unwrap();
    }
    world.state().clone()
}

#[test]
fn the_shortest_route_gives_the_engines_models_and_verdicts_bit_for_bit_for_every_rule() {
    for info in testudo_aggregate::catalogue() {
        if info.kind == "fltrust" {
            // Needs a client that is trusted; no such key in a study.
            continue;
        }
        let rule = testudo_aggregate::RuleConfig::with_byzantine(info.kind, 2).unwrap();
        let rule = toml::to_string(&rule).unwrap();
        let rest = "[optimizer]\nkind = \"fedavgm\"\nmomentum = 0.5";
        let scenario = scenario(&rule, "kind = \"ipm\", tau = 2.0", rest);
        let (engine, direct) = (finished(&scenario, Route::Engine), finished(&scenario, Route::Shortest));
        assert_eq!(engine.model.digest(), direct.model.digest(), "{}", info.kind);
        assert_eq!(engine, direct, "{}", info.kind);
        assert_ne!(direct.model.parameters(), world_start(&scenario).as_slice(), "{}", info.kind);
    }
}

fn world_start(scenario: &Arc<Scenario>) -> Vec<f32> {
    world(scenario, Route::Engine).state().model.parameters().to_vec()
}

const PRIVATE: &str =
    "[encoding]\nclip_l2 = 0.5\n[privacy]\nmechanism = \"gaussian\"\nnoise_multiplier = 0.7\ndelta = 0.01";

#[test]
fn a_private_run_has_its_noise_from_the_seed_alone_and_knows_its_epsilon() {
    let private = scenario("kind = \"trimmed_mean\"\nbyzantine = 2", "kind = \"sign_flip\"", PRIVATE);
    let rule = "kind = \"trimmed_mean\"\nbyzantine = 2";
    let (one, other) = (finished(&private, Route::Engine), finished(&private, Route::Shortest));
    assert_eq!((one.abandoned, &one), (0, &other));
    // The same data, batches and start without noise, and with other noise.
    let plain = finished(&scenario(rule, "kind = \"sign_flip\"", "[encoding]\nmax_l2 = 1e6"), Route::Engine);
    let louder = PRIVATE.replace("0.7", "0.8");
    let louder = finished(&scenario(rule, "kind = \"sign_flip\"", &louder), Route::Engine);
    let models = [&one, &plain, &louder].map(|state| state.model.digest());
    assert!(models[0] != models[1] && models[0] != models[2] && louder.abandoned == 0);
    // Six releases of trimmed noise: mu = sqrt(6)/z for the rule's sum, whose sensitivity the trimming keeps.
    let epsilon = private.epsilon().unwrap();
    assert!((10.0..20.0).contains(&epsilon), "{epsilon}");
    assert_eq!(scenario("kind = \"mean\"", "kind = \"none\"", "").epsilon(), None);
}

#[test]
fn a_private_run_may_sample_every_client_by_a_coin_of_its_own() {
    let text = format!("{PRIVATE}\nsampling = \"poisson\"\n[cohort]\nsize = 3");
    let sampled = scenario("kind = \"mean\"", "kind = \"sign_flip\"", &text);
    let world = world(&sampled, Route::Shortest);
    let sizes: Vec<usize> = (1..=200).map(|round| world.cohort(round).len()).collect();
    let mean = sizes.iter().sum::<usize>() as f64 / 200.0;
    // Eleven coins of 3/11: the mean of 200 rounds is within five standard deviations of 3.
    assert!((mean - 3.0).abs() < 0.6 && sizes.contains(&0) && sizes.iter().any(|size| *size > 5), "{sizes:?}");
    let (one, other) = (finished(&sampled, Route::Engine), finished(&sampled, Route::Shortest));
    assert_eq!((one.abandoned, &one), (0, &other));
    let all = scenario("kind = \"mean\"", "kind = \"sign_flip\"", PRIVATE);
    assert!(sampled.epsilon().unwrap() < 0.8 * all.epsilon().unwrap());
}

#[test]
fn updates_that_are_not_finite_are_zeros_in_a_private_run() {
    let private = scenario("kind = \"mean\"", "kind = \"non_finite\"", PRIVATE);
    let state = finished(&private, Route::Shortest);
    assert_eq!(state.abandoned, 0);
    assert!(state.model.parameters().iter().all(|value| value.is_finite()));
    let rejected: u64 = state.measured.iter().map(|one| one.colluders.rejected).sum();
    assert_eq!(rejected, 0);
}

#[test]
fn what_does_not_go_with_privacy_is_refused_with_the_key() {
    for (rule, rest, key) in [
        ("kind = \"mean\"", "[visibility]\ngroup_size = 2", "visibility.group_size"),
        ("kind = \"mean\"", "[detection]", "detection"),
        ("kind = \"median\"\nbyzantine = 2", "", "rule.kind"),
        ("kind = \"mean\"", "trust = \"local\"", "privacy.trust"),
        ("kind = \"mean\"", "participations = 2\nseparation = 1\nmechanism = \"tree\"", "privacy.mechanism"),
        ("kind = \"mean\"", "sampling = \"poisson\"\nclients = 12", "privacy.clients"),
        ("kind = \"mean\"", "release_step_s = 1.0", "release_step_s"),
    ] {
        let text = format!(
            "rounds = 6\n[data]\nsource = \"digits\"\ntest = 360\n[workload]\nkind = \"softmax\"\n[population]\nclients = 11\n\
             [rule]\n{rule}\n{}\n{rest}\n",
            if rest.contains("mechanism") {
                PRIVATE.replace("mechanism = \"gaussian\"\n", "")
            } else {
                PRIVATE.to_owned()
            }
        );
        let error = Scenario::from_table(&toml::from_str(&text).unwrap()).unwrap_err().to_string();
        assert!(error.contains(key), "{key}: {error}");
    }
}

#[test]
fn both_routes_agree_with_dropouts_stragglers_encodings_caps_and_refused_updates() {
    let late = "[network]\nmedian_s = 100.0\nstragglers = 0.3\nslowness = 20.0";
    for (attack, rest) in [
        ("kind = \"non_finite\"", "[encoding]\nuplink = \"int8\""),
        ("kind = \"wrong_shape\"", "[encoding]\nmax_l2 = 0.5"),
        ("kind = \"sign_flip\", scale = 10.0", "[encoding]\nuplink = \"sparse\"\nkeep = 0.05"),
        ("kind = \"gaussian\"", late),
        ("kind = \"gaussian\"", "[cohort]\nsize = 5\nover_selection = 1.5\nminimum = 3"),
        ("kind = \"gaussian\"", "[visibility]\ngroup_size = 2\n[cohort]\nminimum = 5"),
        ("kind = \"none\"", "[examples]\nweighted = false"),
    ] {
        let scenario = scenario("kind = \"trimmed_mean\"\nbyzantine = 1", attack, rest);
        let (engine, direct) = (finished(&scenario, Route::Engine), finished(&scenario, Route::Shortest));
        assert_eq!(engine, direct, "{attack} {rest}");
        assert!(engine.abandoned < 6, "{attack} {rest}");
    }
}

#[test]
fn a_checkpoint_taken_anywhere_leads_to_the_same_end() {
    let rest = "[optimizer]\nkind = \"fedadam\"\nlearning_rate = 0.01";
    let scenario = scenario("kind = \"centered_clipping\"\nradius = 1.0", "kind = \"ipm\"", rest);
    let undisturbed = finished(&scenario, Route::Shortest);
    for stop in 0..6 {
        let mut first = world(&scenario, Route::Shortest);
        (0..stop).for_each(|_| drop(first.step().unwrap()));
        let bytes = first.state().to_bytes("id");
        let mut second = world(&scenario, Route::Shortest);
        let start = second.state().clone();
        second.restore(State::from_bytes(&bytes, "id", &start).unwrap());
        while !second.is_over() {
            second.step().unwrap();
        }
        assert_eq!(second.state(), &undisturbed, "stopped after {stop}");
        assert!(State::from_bytes(&bytes, "other", &start).is_err());
        for at in [0, 30, bytes.len() / 2, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(State::from_bytes(&damaged, "id", &start).is_err(), "{at}");
        }
    }
}

#[test]
fn a_world_does_not_depend_on_the_number_of_threads() {
    let scenario = scenario("kind = \"multi_krum\"\nbyzantine = 2", "kind = \"gaussian\"", "");
    let alone = finished(&scenario, Route::Shortest);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    assert_eq!(pool.install(|| finished(&scenario, Route::Shortest)), alone);
    assert_eq!(pool.install(|| finished(&scenario, Route::Engine)), alone);
}

#[test]
fn seeds_are_paired_a_rule_changes_neither_cohorts_nor_batches() {
    let rest = "[cohort]\nsize = 4\nminimum = 2";
    let worlds: Vec<World> = ["kind = \"mean\"", "kind = \"median\""]
        .iter()
        .map(|rule| world(&scenario(rule, "kind = \"none\"", rest), Route::Shortest))
        .collect();
    for round in 1..20 {
        assert_eq!(worlds[0].cohort(round), worlds[1].cohort(round));
    }
    assert_ne!(worlds[0].cohort(1), worlds[0].cohort(2));
    assert_eq!(worlds[0].state().model, worlds[1].state().model);
}

#[test]
fn an_epoch_uses_every_example_once_and_keeps_the_short_batch() {
    let scenario = scenario("kind = \"mean\"", "kind = \"none\"", "");
    let world = world(&scenario, Route::Shortest);
    let data = world.data.of(0);
    let batches = data.len().div_ceil(16) as u64;
    let mut seen: Vec<usize> = (1..=batches).flat_map(|round| training::batch(data, 16, 0, round, 0)).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..data.len()).collect::<Vec<_>>());
    assert_ne!(training::batch(data, 16, 0, 1, 0), training::batch(data, 16, 0, batches + 1, 0));
}

#[test]
fn placements_are_three_different_experiments() {
    let of = |placement: &str, clients: &str| {
        let rest = format!("placement = \"{placement}\"\n[cohort]\nsize = {clients}\nminimum = 1");
        world(&scenario("kind = \"mean\"", "kind = \"ipm\"", &rest), Route::Shortest)
    };
    assert_eq!(of("fixed", "5").colluders, [9, 10]);
    let counts = |world: &World| -> Vec<usize> {
        (1..40).map(|round| world.cohort(round).iter().filter(|client| world.is_colluder(**client)).count()).collect()
    };
    assert!(counts(&of("per_round", "5")).iter().all(|count| *count == 2));
    let pool = counts(&of("pool", "5"));
    assert!(pool.contains(&0) && pool.iter().any(|count| *count > 0), "{pool:?}");
}

#[test]
fn identical_attackers_send_one_update_and_jitter_makes_it_their_own() {
    let rows = |realism: &str| {
        let mut world = world(&scenario("kind = \"mean\"", "kind = \"gaussian\"", realism), Route::Shortest);
        let model = Arc::clone(&world.state.model);
        let present: Vec<usize> = (0..11).collect();
        let mut rows = world.train(&model, 1, &present).unwrap();
        let before = rows.clone();
        world.forge(&model, 1, &present, &mut rows);
        assert_eq!(rows[..9], before[..9]);
        assert_ne!(rows[9], before[9]);
        (rows[9].clone(), rows[10].clone())
    };
    let (a, b) = rows("realism = \"identical\"");
    assert_eq!(a, b);
    let (a, b) = rows("realism = { jitter = 0.1 }");
    assert_ne!(a, b);
    let close = a.iter().zip(&b).filter(|(a, b)| (*a - *b).abs() < 0.6 * a.abs() + 1e-6).count();
    assert!(close > a.len() * 9 / 10, "{close}");
    let (a, b) = rows("");
    assert_ne!(a, b);
    // Digits never use their corner pixels: an honest update has zeros there, and a support-matched one too.
    let (a, _) = rows("realism = \"support_matched\"");
    assert!(a.iter().filter(|value| **value == 0.0).count() > 10);
}

#[test]
fn an_attack_that_is_off_leaves_honest_updates() {
    let schedule = "schedule = { start = 3, stop = 8, on = 2, off = 1 }";
    let scenario = scenario("kind = \"mean\"", "kind = \"gaussian\"", schedule);
    let rounds: Vec<u64> = (1..=10).filter(|round| scenario.plan.adversary.schedule.attacks(*round)).collect();
    assert_eq!(rounds, [3, 4, 6, 7]);
}

#[test]
fn the_mean_gives_way_to_noise_and_a_robust_rule_does_not() {
    let last = |rule: &str| {
        let scenario = scenario(rule, "kind = \"gaussian\", sd = 10.0", "");
        finished(&scenario, Route::Shortest).measured.last().cloned().unwrap()
    };
    let (mean, median) = (last("kind = \"mean\""), last("kind = \"median\"\nbyzantine = 2"));
    assert!(mean.accuracy < 0.5 && median.accuracy > 0.6, "{mean:?} {median:?}");
    assert!(median.kappa.unwrap() < 2.0 && mean.kappa.unwrap() > 100.0, "{mean:?} {median:?}");
    assert!(median.distance.unwrap() * 10.0 < mean.distance.unwrap());
    assert_eq!(mean.colluders.judged(), 4);
}

#[test]
fn groups_give_rows_whose_mean_is_that_of_the_clipped_updates() {
    let grouped =
        scenario("kind = \"mean\"", "kind = \"none\"", "[visibility]\ngroup_size = 3\n[encoding]\nclip_l2 = 5.0");
    let single = scenario("kind = \"mean\"", "kind = \"none\"", "[examples]\nweighted = false");
    let (grouped, single) = (finished(&grouped, Route::Shortest), finished(&single, Route::Shortest));
    // Levels of 16 bits over ±5 have steps of 1.5e-4.
    let far = grouped.model.parameters().iter().zip(single.model.parameters()).map(|(a, b)| (a - b).abs());
    assert!(far.fold(0.0, f32::max) < 2e-3);
    assert_ne!(grouped.model, single.model);
}
