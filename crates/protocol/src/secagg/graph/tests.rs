use super::*;
use proptest::prelude::*;

/// Shares of colluders and of dropouts, in percent.
const RATES: [(u32, u32); 8] = [(5, 5), (5, 10), (10, 5), (10, 10), (10, 20), (10, 30), (20, 10), (33, 10)];
/// Degree and threshold against a malicious server.
const TABLE: [(u32, [(u32, u32); 8]); 4] = [
    (128, [(20, 14), (30, 19), (26, 20), (38, 26), (62, 38), (90, 52), (50, 38), (66, 54)]),
    (256, [(34, 24), (48, 31), (44, 33), (62, 43), (102, 64), (158, 92), (84, 63), (116, 92)]),
    (1_000, [(52, 37), (78, 52), (66, 49), (96, 67), (194, 124), (414, 247), (140, 104), (218, 171)]),
    (10_000, [(62, 44), (96, 64), (80, 59), (122, 85), (280, 179), (778, 465), (184, 136), (310, 242)]),
];

fn malicious(count: u32, gamma: f64, delta: f64) -> (u32, u32) {
    let found = Parameters::find(count, gamma, delta, Adversary::Malicious).unwrap();
    (found.degree, found.threshold)
}

#[test]
fn degrees_and_thresholds_are_those_of_the_published_table() {
    for (count, row) in TABLE {
        for ((gamma, delta), expected) in RATES.into_iter().zip(row) {
            let found = malicious(count, f64::from(gamma) / 100.0, f64::from(delta) / 100.0);
            assert_eq!(found, expected, "{count} clients, {gamma} % colluders, {delta} % dropouts");
        }
    }
}

#[test]
fn an_independent_implementation_finds_the_same_two_rows() {
    assert_eq!(malicious(1_000, 0.05, 0.33), (398, 223));
    assert_eq!(malicious(10_000, 0.05, 0.33), (746, 420));
}

#[test]
fn an_honest_but_curious_server_needs_no_more_than_a_malicious_one() {
    for (count, row) in TABLE {
        for ((gamma, delta), (degree, threshold)) in RATES.into_iter().zip(row) {
            let (gamma, delta) = (f64::from(gamma) / 100.0, f64::from(delta) / 100.0);
            let found = Parameters::find(count, gamma, delta, Adversary::HonestButCurious).unwrap();
            assert!(found.degree <= degree && found.threshold <= threshold && found.threshold >= 2, "{found:?}");
        }
    }
}

#[test]
fn impossible_rates_are_refused_with_what_to_change() {
    let error = |gamma, delta| Parameters::find(1_000, gamma, delta, Adversary::Malicious).unwrap_err().to_string();
    assert_eq!(error(0.1, 0.4), "colluders + 2 x dropouts = 0.9 must be less than 0.9: declare fewer of either");
    assert_eq!(error(f64::NAN, 0.1), "the share of colluders = NaN must be at least 0 and less than 1");
    assert_eq!(error(0.1, -0.1), "the share of dropouts = -0.1 must be at least 0 and less than 1");
    assert_eq!(error(1.0, 0.0), "the share of colluders = 1 must be at least 0 and less than 1");
    for count in [0, 1, 2] {
        let error = Parameters::find(count, 0.3, 0.29, Adversary::Malicious).unwrap_err();
        assert_eq!(error, Infeasible::Degree { count });
    }
}

#[test]
fn a_decimal_rate_is_not_rounded_down_to_one_client_less() {
    assert_eq!((0.29_f64 * 100.0).floor(), 28.0, "the pitfall");
    assert_eq!(part(0.29, 100), 29);
    assert_eq!(part(0.999, 1_000), 999);
    assert_eq!(part(0.0, 1_000), 0);
}

#[test]
fn a_complete_graph_needs_more_than_two_thirds() {
    for (members, expected) in [(3, 3), (8, 6), (16, 11), (32, 22), (64, 43), (100, 67)] {
        assert_eq!(complete_threshold(members, members, None), Ok(expected));
    }
}

#[test]
fn an_operator_may_raise_the_threshold_but_never_lower_it() {
    assert_eq!(complete_threshold(32, 32, Some(26)), Ok(26));
    assert_eq!(complete_threshold(33, 32, Some(26)), Ok(27), "scaled to the larger group, rounded up");
    assert_eq!(complete_threshold(32, 32, Some(2)), Ok(22));
    assert_eq!(complete_threshold(32, 32, Some(32)), Ok(32));
    assert_eq!(
        complete_threshold(32, 32, Some(33)).unwrap_err().to_string(),
        "threshold 33 is above the group size 32: no group could reach it"
    );
}

#[test]
fn no_harary_graph_has_an_odd_or_too_large_degree() {
    for (count, degree) in [(10, 0), (10, 1), (10, 3), (10, 10), (0, 2), (2, 2), (u32::MAX, u32::MAX)] {
        assert_eq!(Graph::harary(count, degree), Err(BadGraph { count, degree }));
    }
    assert_eq!(Graph::harary(3, 2).unwrap().neighbours(1), [0, 2]);
    assert_eq!(Graph::harary(7, 4).unwrap().neighbours(0), [1, 2, 5, 6]);
    assert_eq!(Graph::complete(4).neighbours(2), [0, 1, 3]);
    assert!(Graph::complete(4).neighbours(4).is_empty() && Graph::complete(0).neighbours(0).is_empty());
}

proptest! {
    #[test]
    fn being_neighbours_is_mutual_and_everybody_has_as_many(count in 3u32..60, half in 1u32..30, complete: bool) {
        let degree = (2 * half).min((count - 1) / 2 * 2);
        let graph = if complete { Graph::complete(count) } else { Graph::harary(count, degree).unwrap() };
        for one in 0..count {
            let neighbours = graph.neighbours(one);
            prop_assert_eq!(neighbours.len(), graph.degree() as usize);
            prop_assert!(neighbours.is_sorted_by(|a, b| a < b));
            for other in 0..count + 2 {
                prop_assert_eq!(neighbours.contains(&other), graph.are_neighbours(one, other));
                prop_assert_eq!(graph.are_neighbours(one, other), graph.are_neighbours(other, one));
            }
        }
    }

    #[test]
    fn two_thresholds_do_not_fit_beside_each_other_in_a_complete_graph(members in 1u32..100_000) {
        // Both kinds of share of one client would need 2t answers.
        let threshold = complete_threshold(members, members, None).unwrap();
        prop_assert!(threshold <= members && 3 * threshold > 2 * members);
    }
}
