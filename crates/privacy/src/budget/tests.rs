use super::*;
use crate::{
    accountant::{gaussian, zcdp},
    sensitivity::Adjacency,
};
use proptest::prelude::*;

fn charge(z: f64) -> Charge {
    let sigma = (z * 16_777_216.0) as u64;
    Charge::new(Adjacency::ZeroOut, ChargeMechanism::Gaussian, sigma, 1 << 24, 1).unwrap()
}

fn account(epsilon: f64) -> Account {
    Account::new("phones", Gate::Rho, epsilon, 1e-6).unwrap()
}

/// Reserves, finalises and commits a round.
fn release(account: &mut Account, round: u64, charge: Charge) -> Entry {
    account.reserve("a", round, charge).unwrap();
    account.finalising("a", round).unwrap();
    account.commit("a", round, [7; 32]).unwrap()
}

#[test]
fn every_mechanism_has_bytes_of_its_own_in_the_chain() {
    let mechanisms = [
        ChargeMechanism::Gaussian,
        ChargeMechanism::PoissonGaussian { rate: 0.0 },
        ChargeMechanism::Correlated { rounds: 1, participations: 1, separation: 1 },
        ChargeMechanism::CorrelatedStep { step: 2 },
        ChargeMechanism::Local,
        ChargeMechanism::Shares { honest: 1, coordinates: 1 },
    ];
    let encoded = |mechanism| {
        let mut bytes = Vec::new();
        Charge { mechanism, ..charge(1.0) }.encode(&mut bytes);
        // The adjacency, then the mechanism.
        bytes[1]
    };
    let tags: Vec<u8> = mechanisms.into_iter().map(encoded).collect();
    assert_eq!(tags, [0, 1, 2, 3, 4, 5], "earlier ledgers are verified with these");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn rho_units_are_the_exact_ceiling(sigma in 1_u64..1 << 36, sensitivity in 1_u64..1 << 36, releases in 1_u32..1000) {
        let charge = Charge::new(Adjacency::ZeroOut, ChargeMechanism::Gaussian, sigma, sensitivity, releases).unwrap();
        if let Some(units) = charge.rho_units() {
            let rho = f64::from(releases) * (sensitivity as f64 / sigma as f64).powi(2) / 2.0;
            let units = units as f64 * zcdp::RHO_UNIT;
            prop_assert!(units >= rho * (1.0 - 1e-12) && units <= rho * (1.0 + 1e-12) + zcdp::RHO_UNIT * 1.001);
        }
    }

    #[test]
    fn charges_add_up_alike_in_any_grouping(z in 0.5..20.0_f64, parts in prop::collection::vec(1_u32..50, 1..6)) {
        let mut account = account(1e5);
        let mut expected = 0;
        for (round, part) in (0..).zip(&parts) {
            let charge = Charge { releases: *part, ..charge(z) };
            release(&mut account, round, charge);
            expected += charge.rho_units().unwrap();
        }
        prop_assert_eq!(account.units().1, expected);
        let total = Charge { releases: parts.iter().sum(), ..charge(z) }.rho_units().unwrap();
        // Each part rounds up once.
        prop_assert!(expected >= total && expected <= total + parts.len() as i64);
    }
}

fn shares(sigma: u64, honest: u32) -> Charge {
    let mechanism = ChargeMechanism::Shares { honest, coordinates: 1 << 30 };
    Charge::new(Adjacency::ZeroOut, mechanism, sigma, 1 << 20, 1).unwrap()
}

#[test]
fn shares_are_charged_what_their_sum_guarantees_and_only_where_nothing_gaussian_is_claimed() {
    let charge = shares(1 << 20, 16);
    assert_eq!((charge.noise_multiplier(), charge.mechanism.trust()), (4.0, "distributed"));
    // Four times the sensitivity: ρ = 1/32, and next to nothing for the sum not being quite a discrete Gaussian.
    let (units, exact) = (charge.rho_units().unwrap(), (1_i64 << 40) / 32);
    assert!(units >= exact && units <= exact + exact / 1_000_000, "{units} {exact}");
    assert_eq!(Charge { releases: 5, ..charge }.rho_units(), Some(5 * units));
    assert_eq!((Gate::Rho.amount(&charge), Gate::Zcdp.amount(&charge)), (None, Some(units)));
    assert!(Gate::Zcdp.epsilon(units, 1e-6) > Gate::Rho.epsilon(units, 1e-6), "the exact bound is a Gaussian's alone");
    let mut gaussian = account(2.0);
    assert!(matches!(gaussian.plan("a", &charge, 1), Err(ReservationError::Exhausted(_))));
    let mut any = Account::new("phones", Gate::Zcdp, 4.0, 1e-6).unwrap();
    any.plan("a", &charge, 3).unwrap();
    any.plan("b", &self::charge(10.0), 3).unwrap();
    let Err(ReservationError::Exhausted(full)) = any.plan("c", &charge, 100) else { panic!("it does not fit") };
    assert!(full.z_needed.is_some_and(|z| z > 4.0), "{full}");
    // Near the least share the sum is no longer close to a discrete Gaussian: more than Δ²/2σ².
    let near = ChargeMechanism::Shares { honest: 100, coordinates: 1 << 30 };
    let near = Charge::new(Adjacency::ZeroOut, near, 2, 8, 1).unwrap();
    assert!(near.rho_units().unwrap() > (64 << 39) / 400);
    let small = ChargeMechanism::Shares { honest: 100, coordinates: 1 << 30 };
    assert!(Charge::new(Adjacency::ZeroOut, small, 1, 8, 1).is_err(), "a share below the least");
    let nobody = ChargeMechanism::Shares { honest: 0, coordinates: 1 << 30 };
    assert!(Charge::new(Adjacency::ZeroOut, nobody, 100, 8, 1).is_err());
}

#[test]
fn a_clients_own_noise_is_charged_like_a_gaussian_of_twice_the_clip() {
    let local = Charge::new(Adjacency::ReplaceOne, ChargeMechanism::Local, 8 << 20, 2 << 20, 1).unwrap();
    let central = Charge { mechanism: ChargeMechanism::Gaussian, ..local };
    assert_eq!((local.rho_units(), local.mechanism.trust()), (central.rho_units(), "local"));
    assert!(local.mechanism.is_spent_by_uploads() && !central.mechanism.is_spent_by_uploads());
    let hash = |charge| Entry::new(0, [0; 32], "phones", "a", 1, charge, None).hash;
    assert!(
        [hash(local), hash(shares(1 << 20, 16)), hash(shares(1 << 20, 17))].iter().all(|one| *one != hash(central))
    );
}

#[test]
fn the_limit_is_the_last_unit_that_keeps_epsilon() {
    for gate in [Gate::Rho, Gate::Zcdp, Gate::Renyi { order: 8 }] {
        let account = Account::new("phones", gate, 2.0, 1e-6).unwrap();
        let limit = account.units().0;
        assert!(gate.epsilon(limit, 1e-6) <= 2.0, "{gate:?}");
        assert!(gate.epsilon(limit + limit / 1_000_000 + 2, 1e-6) > 2.0, "{gate:?}");
    }
}

#[test]
fn a_hundred_rounds_cost_what_the_exact_accountant_says() {
    let mut account = account(3.0);
    for round in 0..100 {
        release(&mut account, round, charge(20.0));
    }
    let exact = gaussian::epsilon(gaussian::mu(20.0, 100), 1e-6);
    let (spent, limit, _) = account.epsilon();
    assert!(spent >= exact && spent < exact * (1.0 + 1e-6) && spent <= limit, "{spent} {exact}");
}

#[test]
fn what_does_not_fit_is_refused_with_what_would() {
    let mut account = account(2.0);
    let expensive = charge(5.0);
    let affordable = account.affordable(&expensive);
    let error = account.plan("a", &expensive, 1000).unwrap_err();
    let ReservationError::Exhausted(exhausted) = error else { panic!("{error}") };
    assert_eq!(exhausted.largest_affordable, affordable);
    assert!(exhausted.requested_epsilon > 2.0);
    assert!(account.plan("a", &expensive, u32::try_from(affordable).unwrap()).is_ok());
    account.end_plan("a");
    let z = exhausted.z_needed.unwrap();
    assert!(account.plan("b", &charge(z * 1.000_001), 1000).is_ok(), "{z}");
    account.end_plan("b");
    assert!(account.plan("c", &charge(z * 0.999), 1000).is_err());
}

#[test]
fn unspent_plans_of_other_tasks_count() {
    let mut account = account(2.0);
    let fits = u32::try_from(account.affordable(&charge(20.0))).unwrap();
    account.plan("a", &charge(20.0), fits).unwrap();
    assert!(account.reserve("b", 1, charge(20.0)).is_err());
    account.reserve("a", 1, charge(20.0)).unwrap();
    assert!(matches!(account.reserve("a", 2, charge(0.5)), Err(ReservationError::BeyondPlan { .. })));
    account.end_plan("a");
    account.reserve("b", 1, charge(20.0)).unwrap();
}

#[test]
fn one_round_is_charged_exactly_once() {
    let mut account = account(2.0);
    assert!(account.commit("a", 1, [0; 32]).is_err());
    account.reserve("a", 1, charge(20.0)).unwrap();
    assert!(account.reserve("a", 1, charge(20.0)).is_err());
    assert!(account.commit("a", 1, [0; 32]).is_err(), "noise before finalising");
    account.finalising("a", 1).unwrap();
    account.finalising("a", 1).unwrap();
    account.commit("a", 1, [0; 32]).unwrap();
    let units = account.units();
    let stored = serde_json::to_string(&account).unwrap();
    assert_eq!(serde_json::from_str::<Account>(&stored).unwrap(), account);
    assert!(account.commit("a", 1, [0; 32]).is_err());
    assert!(account.abandon("a", 1, Outcome::IndependentOfUpdates).is_err());
    assert!(account.reserve("a", 1, charge(20.0)).is_err());
    assert_eq!(account.units(), units);
}

#[test]
fn only_rounds_that_never_finalised_and_ignored_the_updates_are_returned() {
    let mut account = account(2.0);
    account.plan("a", &charge(20.0), 10).unwrap();
    let before = account.units();
    account.reserve("a", 1, charge(20.0)).unwrap();
    assert_eq!(account.abandon("a", 1, Outcome::IndependentOfUpdates).unwrap(), None);
    assert_eq!(account.units(), before);
    account.reserve("a", 2, charge(20.0)).unwrap();
    assert!(account.abandon("a", 2, Outcome::MayDependOnUpdates).unwrap().is_some());
    account.reserve("a", 3, charge(20.0)).unwrap();
    account.finalising("a", 3).unwrap();
    assert!(account.abandon("a", 3, Outcome::IndependentOfUpdates).unwrap().is_some());
    let one = charge(20.0).rho_units().unwrap();
    assert_eq!((account.units().1, account.units().2), (2 * one, 0));
}

#[test]
fn only_reservations_that_ended_are_forgotten() {
    let mut account = account(2.0);
    account.plan("a", &charge(20.0), 10).unwrap();
    let planned = account.planned("a").unwrap();
    account.reserve("a", 1, charge(20.0)).unwrap();
    assert_eq!(account.planned("a"), Some(planned - charge(20.0).rho_units().unwrap()));
    account.forget("a", 1);
    assert_eq!(account.state("a", 1), Some(ReservationState::Reserved));
    account.finalising("a", 1).unwrap();
    account.forget("a", 1);
    account.commit("a", 1, [0; 32]).unwrap();
    let units = account.units();
    account.forget("a", 1);
    assert_eq!((account.state("a", 1), account.units()), (None, units));
    account.end_plan("a");
    assert_eq!(account.planned("a"), None);
}

#[test]
fn the_chain_shows_every_change() {
    let mut account = account(8.0);
    let entries: Vec<Entry> = (0..5).map(|round| release(&mut account, round, charge(20.0))).collect();
    let head = account.head();
    assert_eq!(verify(&entries, Gate::Rho, head), Ok(account.units().1));
    assert_eq!(verify(&entries[..4], Gate::Rho, head), Err(VerifyError::Head), "a rollback");
    assert_eq!(verify(&entries[1..], Gate::Rho, head), Err(VerifyError::Order(0)));
    let changed = |change: fn(&mut Entry)| {
        let mut entries = entries.clone();
        change(&mut entries[2]);
        verify(&entries, Gate::Rho, head)
    };
    assert_eq!(changed(|entry| entry.charge.sigma_grid += 1), Err(VerifyError::Content(2)));
    assert_eq!(changed(|entry| entry.round += 100), Err(VerifyError::Content(2)));
    assert_eq!(changed(|entry| entry.release = None), Err(VerifyError::Content(2)));
    assert_eq!(changed(|entry| entry.task.push('x')), Err(VerifyError::Content(2)));
    assert_eq!(changed(|entry| entry.previous[0] ^= 1), Err(VerifyError::Chain(2)));
    assert_eq!(
        changed(|entry| {
            entry.charge.sigma_grid += 1;
            entry.hash = entry.digest_for_test();
        }),
        Err(VerifyError::Chain(3))
    );
    let text = serde_json::to_string(&entries).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Entry>>(&text).unwrap(), entries);
}

#[test]
fn amplified_charges_count_amplified_at_an_order_and_plain_in_rho() {
    let mechanism = ChargeMechanism::PoissonGaussian { rate: 0.01 };
    let sampled = Charge::new(Adjacency::ZeroOut, mechanism, 2 << 24, 1 << 24, 1).unwrap();
    assert_eq!(sampled.rho_units(), charge(2.0).rho_units());
    assert!(sampled.renyi_units(8).unwrap() < charge(2.0).renyi_units(8).unwrap() / 100);
}

#[test]
fn delta_is_measured_against_the_population() {
    assert_eq!(check_delta(1e-9, 1000), Ok(false));
    assert_eq!(check_delta(2e-4, 1000), Ok(true));
    for bad in [1e-3, 0.5, 0.0, -1.0, f64::NAN] {
        assert!(check_delta(bad, 1000).is_err(), "{bad}");
    }
    assert!((default_delta(1000) / 1000_f64.powf(-1.1) - 1.0).abs() < 1e-12);
    assert!(check_delta(default_delta(1_000_000), 1_000_000).is_ok());
}

/// A run of three steps, charged as a whole.
fn run() -> Charge {
    let mechanism = ChargeMechanism::Correlated { rounds: 3, participations: 1, separation: 1 };
    Charge::new(Adjacency::ZeroOut, mechanism, 4 << 24, 1 << 24, 2).unwrap()
}

#[test]
fn a_correlated_run_is_charged_once_and_every_step_has_its_entry() {
    let mut account = account(10.0);
    account.plan("a", &run(), 1).unwrap();
    let whole = run().rho_units().unwrap();
    let mut entries = vec![release(&mut account, 1, run())];
    for step in 2..=3 {
        entries.push(release(&mut account, step + 4, run().step(step)));
        assert_eq!(account.units(), (account.units().0, whole, 0, 0));
    }
    assert_eq!(verify(&entries, Gate::Rho, account.head()), Ok(whole));
    assert_eq!(run().step(2).renyi_units(8), Some(0));
    assert!(run().step(1).check().is_err());
}

#[test]
fn a_run_that_does_not_fit_is_refused_as_a_whole() {
    let mut account = account(0.01);
    let error = account.plan("a", &run(), 1).unwrap_err();
    let ReservationError::Exhausted(exhausted) = &error else { panic!("{error}") };
    assert_eq!(exhausted.largest_affordable, 0);
    let text = error.to_string();
    assert!(text.contains("0 more releases like it fit") && !text.contains("000000"), "{text}");
}

#[test]
fn a_step_without_its_run_or_out_of_order_is_found_in_the_chain() {
    for (charges, wrong) in [
        (vec![run().step(2)], 0),
        (vec![run(), run().step(3)], 1),
        (vec![run(), run().step(2), run().step(2)], 2),
        (vec![run(), run().step(2), run().step(3), run().step(4)], 3),
        (vec![run(), Charge { sigma_grid: 5 << 24, ..run().step(2) }], 1),
        (vec![run(), run()], 1),
        (vec![charge(4.0), charge(4.0).step(2)], 1),
    ] {
        let mut account = account(100.0);
        let entries: Vec<Entry> =
            (1..).zip(charges).map(|(round, charge)| release(&mut account, round, charge)).collect();
        assert_eq!(verify(&entries, Gate::Rho, account.head()), Err(VerifyError::Step(wrong)), "{entries:?}");
    }
}
