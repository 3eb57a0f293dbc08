use super::*;
use proptest::prelude::*;

fn client(number: usize) -> ClientId {
    ClientId::new(format!("client-{number:03}")).unwrap()
}

fn round(cohort: usize, target: usize, minimum: usize) -> Round {
    Round::open(RoundParams::new((0..cohort).map(client).collect(), target, minimum, 1000).unwrap())
}

fn offer(round: &mut Round, now: Tick, number: usize) -> Result<Vec<Effect>, Reject> {
    round.handle(now, Input::Offer { client: client(number), digest: Digest::of(&[number as u8]) })
}

fn submit(round: &mut Round, number: usize) -> Vec<Effect> {
    offer(round, 1, number).unwrap();
    round.handle(1, Input::Recorded { client: client(number) }).unwrap()
}

#[test]
fn a_round_closes_when_its_target_is_recorded() {
    let mut round = round(4, 3, 2);
    assert_eq!(submit(&mut round, 2), vec![Effect::Acknowledge { client: client(2) }]);
    submit(&mut round, 0);
    let effects = submit(&mut round, 3);
    assert_eq!(effects[1], Effect::Close { survivors: vec![client(0), client(2), client(3)] });
    assert_eq!(round.seat(&client(1)), Some(Seat::Dropout));
    assert_eq!(offer(&mut round, 2, 1).unwrap_err().reason, Reason::Withdrawn);
}

#[test]
fn a_round_closes_when_everybody_has_answered_in_some_way() {
    let mut round = round(4, 4, 2);
    submit(&mut round, 0);
    submit(&mut round, 1);
    round.handle(2, Input::Refuse { client: client(2), reason: Reason::NonFinite }).unwrap();
    let effects = round.handle(2, Input::Withdraw { client: client(3) }).unwrap();
    assert_eq!(effects, vec![Effect::Close { survivors: vec![client(0), client(1)] }]);
}

#[test]
fn a_secret_sample_takes_its_whole_time_whoever_answered_and_whoever_was_drawn() {
    let mut round = Round::open(RoundParams::secret((0..2).map(client).collect(), 1000).unwrap());
    submit(&mut round, 0);
    assert_eq!(submit(&mut round, 1), vec![Effect::Acknowledge { client: client(1) }]);
    assert_eq!(round.handle(999, Input::Tick).unwrap(), vec![]);
    let closed = Effect::Close { survivors: vec![client(0), client(1)] };
    assert_eq!(round.handle(1000, Input::Tick).unwrap(), vec![closed]);

    let mut nobody = Round::open(RoundParams::secret(vec![], 1000).unwrap());
    assert_eq!(nobody.handle(999, Input::Tick).unwrap(), vec![]);
    assert_eq!(nobody.handle(1000, Input::Tick).unwrap(), vec![Effect::Close { survivors: vec![] }]);
    assert_eq!(RoundParams::secret(vec![client(1), client(1)], 0), Err(ParamsError::Cohort));
}

#[test]
fn an_update_being_recorded_at_the_deadline_still_counts() {
    let mut round = round(3, 3, 1);
    offer(&mut round, 999, 1).unwrap();
    assert_eq!(round.handle(1000, Input::Tick).unwrap(), vec![]);
    assert_eq!(round.phase(), Phase::Draining);
    assert_eq!(offer(&mut round, 1000, 0).unwrap_err().reason, Reason::Late);
    let effects = round.handle(1001, Input::Recorded { client: client(1) }).unwrap();
    assert_eq!(effects[1], Effect::Close { survivors: vec![client(1)] });
}

#[test]
fn too_few_updates_at_the_deadline_abandon_the_round() {
    let mut round = round(3, 3, 2);
    submit(&mut round, 0);
    let effects = round.handle(1000, Input::Tick).unwrap();
    assert_eq!(effects, vec![Effect::Abandon(Abandon::TooFewUpdates { received: 1, minimum: 2 })]);
    assert_eq!(round.handle(2000, Input::Tick).unwrap(), vec![]);
}

#[test]
fn the_same_update_again_is_acknowledged_and_another_is_a_duplicate() {
    let mut round = round(2, 2, 1);
    submit(&mut round, 0);
    assert_eq!(offer(&mut round, 2, 0).unwrap(), vec![Effect::Acknowledge { client: client(0) }]);
    let other = Input::Offer { client: client(0), digest: Digest::of(b"other") };
    assert_eq!(round.handle(2, other).unwrap_err().reason, Reason::Duplicate);
}

#[test]
fn a_refused_client_cannot_send_another_update() {
    let mut round = round(2, 2, 1);
    round.handle(1, Input::Refuse { client: client(0), reason: Reason::WrongShape }).unwrap();
    let error = offer(&mut round, 2, 0).unwrap_err();
    assert_eq!(error.reason, Reason::Duplicate);
    assert!(error.detail.contains("WRONG_SHAPE"));
}

#[test]
fn an_update_the_ledger_could_not_take_may_be_sent_again() {
    let mut round = round(2, 2, 1);
    offer(&mut round, 1, 0).unwrap();
    round.handle(1, Input::Unrecorded { client: client(0) }).unwrap();
    assert_eq!(offer(&mut round, 2, 0).unwrap().len(), 1);
}

#[test]
fn strangers_are_refused_in_every_phase() {
    let mut round = round(2, 2, 1);
    assert_eq!(offer(&mut round, 1, 9).unwrap_err().reason, Reason::NotInCohort);
    round.handle(1, Input::Stop).unwrap();
    assert_eq!(offer(&mut round, 1, 9).unwrap_err().reason, Reason::NotInCohort);
}

#[test]
fn impossible_parameters_are_refused() {
    assert_eq!(RoundParams::new(vec![], 1, 1, 0), Err(ParamsError::Cohort));
    assert_eq!(RoundParams::new(vec![client(1), client(1)], 1, 1, 0), Err(ParamsError::Cohort));
    for (target, minimum) in [(3, 1), (1, 2), (1, 0)] {
        assert!(RoundParams::new(vec![client(0), client(1)], target, minimum, 0).is_err());
    }
}

use crate::ParamsError;

/// All that can be seen of a round.
fn look(round: &Round) -> (Phase, Option<Tick>, Vec<(ClientId, Seat)>) {
    (round.phase(), round.deadline(), round.seats().map(|(client, seat)| (client.clone(), seat)).collect())
}

fn any_input() -> impl Strategy<Value = Input> {
    (0..7usize, 0..8usize, 0..3u8).prop_map(|(kind, number, content)| match kind {
        0 | 1 => Input::Offer { client: client(number), digest: Digest::of(&[content]) },
        2 | 3 => Input::Recorded { client: client(number) },
        4 => Input::Unrecorded { client: client(number) },
        5 => Input::Refuse { client: client(number), reason: Reason::Malformed },
        _ => Input::Withdraw { client: client(number) },
    })
}

proptest! {
    /// Whatever clients do: a refusal changes nothing, the round ends at most once, every acknowledged update is
    /// among the survivors, and at the deadline the round has ended or waits only for the ledger.
    #[test]
    fn no_order_of_inputs_breaks_the_promises(inputs in prop::collection::vec((0..1200u64, any_input()), 0..60)) {
        let mut round = round(6, 5, 2);
        let mut ends = Vec::new();
        let mut acknowledged = std::collections::BTreeSet::new();
        let mut now = 0;
        for (step, input) in inputs {
            now += step / 20;
            let before = look(&round);
            match round.handle(now, input) {
                Err(_) => prop_assert_eq!(&before, &look(&round)),
                Ok(effects) => for effect in effects {
                    match effect {
                        Effect::Acknowledge { client } => { acknowledged.insert(client); }
                        Effect::Record { .. } => {}
                        end => ends.push(end),
                    }
                }
            }
        }
        ends.extend(round.handle(1000.max(now), Input::Tick).unwrap().into_iter());
        let recording: Vec<_> =
            round.seats().filter(|(_, seat)| matches!(seat, Seat::Recording(_))).map(|(c, _)| c.clone()).collect();
        for client in recording {
            for effect in round.handle(1000.max(now), Input::Recorded { client }).unwrap() {
                match effect {
                    Effect::Acknowledge { client } => { acknowledged.insert(client); }
                    end => ends.push(end),
                }
            }
        }
        prop_assert_eq!(ends.len(), 1);
        if let Effect::Close { survivors } = &ends[0] {
            prop_assert!(survivors.len() >= 2 && survivors.is_sorted());
            prop_assert!(acknowledged.iter().all(|client| survivors.contains(client)));
        }
    }

    /// A round is a function of its inputs: written down and read back, they lead to where it stood.
    #[test]
    fn a_recorded_round_replays(inputs in prop::collection::vec(any_input(), 0..30)) {
        let (mut original, mut replayed) = (round(6, 5, 2), round(6, 5, 2));
        for input in inputs {
            let text = serde_json::to_string(&input).unwrap();
            let reread: Input = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(original.handle(1, input), replayed.handle(1, reread));
        }
        prop_assert_eq!(look(&original), look(&replayed));
    }
}
