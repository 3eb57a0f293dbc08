//! The dropout matrix: exact sums over the survivors, or nothing.

use crate::harness::{Outcome, Play, STEPS};
use testudo_protocol::{
    Abandon,
    secagg::{Step, graph::complete_threshold},
};

/// Plays one round of one group in which some clients vanish before a step.
fn play(clients: usize, gone: usize, step: Step) -> Outcome {
    let group_size = if step == Step::AdvertiseKeys { (clients - gone).max(2) } else { clients };
    // Spread over the roster, not the first ones.
    let leaves = move |number: usize, at: Step| at == step && number * 7 % clients < gone;
    Play::new(clients, group_size).leaving(leaves).run()
}

fn check(clients: usize, percent: usize, step: Step) {
    let gone = (clients * percent + 50) / 100;
    let outcome = play(clients, gone, step);
    let grouped = if step == Step::AdvertiseKeys { clients - gone } else { clients };
    let threshold = complete_threshold(grouped as u32, grouped as u32, None).unwrap() as usize;
    let present = clients - gone;
    let what = format!("{clients} clients, {percent} % gone before {step:?}");
    if present < threshold || grouped < 2 {
        assert!(outcome.sums.is_empty() && !outcome.closed, "{what}: opened below its threshold");
        assert!(outcome.abandoned.is_some(), "{what}");
        if step < Step::Unmask {
            outcome.assert_nothing_given();
        }
        return;
    }
    outcome.assert_exact();
    let survivors = if step < Step::Consistency { present } else { clients };
    assert_eq!(outcome.sums.len(), 1, "{what}: {:?}", outcome.records);
    assert_eq!(outcome.sums[0].survivors.len(), survivors, "{what}");
    // Masks of survivors' own, and of each dropout with every survivor.
    let dropped = if step == Step::MaskedInput { gone } else { 0 };
    assert_eq!(outcome.sums[0].masks, survivors + dropped * survivors, "{what}");
    assert!(outcome.aborts.is_empty(), "{what}: {:?}", outcome.aborts);
}

#[test]
fn three_and_sixteen_clients_give_the_exact_sum_or_nothing_in_every_phase() {
    for clients in [3, 16] {
        for percent in [0, 10, 30, 50] {
            STEPS.into_iter().for_each(|step| check(clients, percent, step));
        }
    }
}

#[test]
fn a_hundred_clients_that_leave_before_the_groups_are_drawn_cost_nothing() {
    [0, 10, 30, 50].into_iter().for_each(|percent| check(100, percent, Step::AdvertiseKeys));
}

#[test]
fn a_hundred_clients_that_leave_before_sharing_are_not_masked_against() {
    [10, 30, 50].into_iter().for_each(|percent| check(100, percent, Step::ShareKeys));
}

#[test]
fn a_hundred_clients_that_leave_before_their_input_are_unmasked_away() {
    [10, 30, 50].into_iter().for_each(|percent| check(100, percent, Step::MaskedInput));
}

#[test]
fn a_hundred_clients_that_leave_before_signing_stay_in_the_sum() {
    [10, 30, 50].into_iter().for_each(|percent| check(100, percent, Step::Consistency));
}

#[test]
fn a_hundred_clients_that_leave_before_answering_stay_in_the_sum() {
    [10, 30, 50].into_iter().for_each(|percent| check(100, percent, Step::Unmask));
}

#[test]
fn one_dropout_in_every_phase_leaves_the_sum_of_those_with_an_input() {
    let leaves = |number: usize, at: Step| at == STEPS[number.min(4)] && number < 5;
    let outcome = Play::new(24, 20).leaving(leaves).run();
    outcome.assert_exact();
    // 23 were grouped; one did not share, one sent no input, two left later.
    assert_eq!(outcome.sums[0].survivors.len(), 21);
}

#[test]
fn a_group_below_its_threshold_is_lost_alone() {
    let outcome = Play::new(24, 8).leaving(|number, at| at == Step::MaskedInput && number < 5).run();
    outcome.assert_exact();
    let lost = outcome.records.iter().filter(|record| record.lost.is_some()).count();
    assert_eq!(outcome.sums.len() + lost, 3);
    for sum in &outcome.sums {
        assert!(outcome.records[sum.group as usize].lost.is_none());
    }
}

#[test]
fn fewer_clients_than_a_group_abandon_the_round() {
    let outcome = Play::new(16, 16).leaving(|number, at| at == Step::AdvertiseKeys && number == 3).run();
    assert_eq!(outcome.abandoned, Some(Abandon::TooFewUpdates { received: 15, minimum: 16 }));
    outcome.assert_nothing_given();
}

#[test]
fn a_sparse_group_unmasks_or_is_lost() {
    let few = Play::new(128, 128).leaving(|number, at| at == Step::MaskedInput && number % 20 == 3).run();
    few.assert_exact();
    assert_eq!(few.sums[0].survivors.len(), 121);
    let many = Play::new(128, 128).leaving(|number, at| at == Step::MaskedInput && number % 2 == 0).run();
    many.assert_nothing_given();
    assert!(many.abandoned.is_some());
}
