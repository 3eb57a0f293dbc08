use super::{super::spoiled::spoiled_rows, *};
use crate::{Assumed, Masking};
use proptest::prelude::*;

const CLIENTS: usize = 1000;

fn masking(group_size: usize, threshold: Option<usize>, colluders: f64, dropout: f64) -> Masking {
    Masking {
        group_size,
        threshold,
        clip_l2: 1.0,
        kappa: 1.0,
        bits: 16,
        max_weight: None,
        step_limit_ms: 60_000,
        assumed: Assumed { colluders, byzantine: None, dropout },
        authority: None,
        accept_weak_guarantee: None,
    }
}

fn feasibility(masking: &Masking, clients: usize) -> Feasibility {
    let sizes = masking.groups(clients);
    let (first, last) = (sizes[0], sizes[sizes.len() - 1]);
    let kinds = if first == last { vec![first] } else { vec![first, last] };
    Feasibility::new(clients, sizes.len(), kinds.into_iter().map(|size| masking.group(size).unwrap()).collect())
}

/// The same cohort with thresholds by a formula of its own.
fn with_thresholds(feasibility: Feasibility, threshold: impl Fn(usize) -> usize) -> Feasibility {
    let kinds = feasibility.kinds.iter().map(|group| Group { threshold: threshold(group.size), ..*group }).collect();
    Feasibility { kinds, ..feasibility }
}

/// Two significant digits, as tables print them.
fn digits(probability: f64) -> String {
    format!("{probability:.1e}")
}

/// One row: g, B, t; colluders with an honest-but-curious server at 2^-40, malicious at 2^-40 and at 2^-100; Byzantine
/// clients at β = 0.45 and 0.24; the probability of a lost group at 5 and 10 % dropouts.
type Row = (usize, usize, usize, [usize; 3], [usize; 2], [&'static str; 2]);

/// 1000 clients. Default thresholds are ⌊2n/3⌋+1, raised ones ⌊4n/5⌋+1, of each group's own size n.
const TABLE: [Row; 8] = [
    (8, 125, 6, [4, 3, 3], [56, 30], ["5.8e-3", "3.8e-2"]),
    (16, 62, 11, [21, 5, 5], [27, 14], ["8.1e-5", "3.3e-3"]),
    (16, 62, 13, [43, 21, 9], [27, 14], ["7.0e-3", "6.8e-2"]),
    (32, 31, 22, [106, 21, 11], [13, 7], ["2.4e-7", "1.7e-4"]),
    (32, 31, 26, [175, 93, 21], [13, 7], ["8.7e-4", "3.6e-2"]),
    (64, 15, 43, [239, 59, 22], [6, 3], ["2.5e-13", "1.2e-7"]),
    (64, 15, 52, [350, 200, 78], [6, 3], ["1.4e-5", "9.9e-3"]),
    (100, 10, 67, [316, 92, 38], [4, 2], ["1.3e-19", "7.0e-11"]),
];

#[test]
fn every_cell_of_the_table_for_a_thousand_clients_is_recomputed() {
    for (size, rows, threshold, colluders, byzantine, lost) in TABLE {
        let masking = masking(size, None, 0.05, 0.05);
        let raised = threshold != 2 * size / 3 + 1;
        let by_size = |n: usize| if raised { 4 * n / 5 + 1 } else { 2 * n / 3 + 1 };
        let cohort = with_thresholds(feasibility(&masking, CLIENTS), by_size);
        assert_eq!((cohort.rows, by_size(size)), (rows, threshold), "{size}");
        let found = [(Server::Curious, 40.0), (Server::Malicious, 40.0), (Server::Malicious, 100.0)]
            .map(|(server, bits)| cohort.colluders(server, bits, 0.05).unwrap());
        assert_eq!(found, colluders, "{size} {threshold}");
        let tolerated = [0.45, 0.24].map(|beta| (beta * rows as f64) as usize);
        assert_eq!(tolerated.map(|rows| cohort.byzantine(rows)), byzantine, "{size}");
        // The table's dropout columns are for a group of exactly g.
        let group = Group { size, degree: size - 1, threshold };
        let exact = Feasibility::new(CLIENTS, rows, vec![group]);
        assert_eq!([0.05, 0.10].map(|dropout| digits(exact.group_lost(dropout))), lost, "{size} {threshold}");
    }
}

#[test]
fn a_configured_threshold_scales_up_with_the_group_so_it_withstands_no_fewer_colluders() {
    for (size, _, threshold, colluders, ..) in TABLE {
        let configured = feasibility(&masking(size, Some(threshold), 0.05, 0.05), CLIENTS);
        let found = [(Server::Curious, 40.0), (Server::Malicious, 40.0), (Server::Malicious, 100.0)]
            .map(|(server, bits)| configured.colluders(server, bits, 0.05).unwrap());
        assert!(found.iter().zip(colluders).all(|(found, table)| *found >= table), "{size} {threshold}: {found:?}");
        if size != 64 {
            assert_eq!(found, colluders, "{size} {threshold}");
        }
    }
}

#[test]
fn one_group_of_a_hundred_leaves_nothing_to_draw() {
    let alone = feasibility(&masking(100, None, 0.05, 0.05), 100);
    for (server, most) in [(Server::Curious, 65), (Server::Malicious, 33)] {
        assert_eq!(alone.secrecy_bits(server), 40.0);
        assert_eq!(alone.colluders(server, alone.secrecy_bits(server), 0.05), Some(most));
    }
    let groups = feasibility(&masking(50, None, 0.05, 0.05), 100);
    assert_eq!(groups.secrecy_bits(Server::Malicious), 100.0);
    assert_eq!(groups.secrecy_bits(Server::Curious), 40.0);
}

#[test]
fn one_sparse_group_withstands_the_colluders_its_parameters_were_computed_for() {
    for (clients, gamma, delta) in [(1000, 0.05, 0.05), (1000, 0.10, 0.10), (1000, 0.05, 0.33), (256, 0.20, 0.10)] {
        let cohort = feasibility(&masking(clients, None, gamma, delta), clients);
        assert!(!cohort.kinds[0].is_complete());
        for server in [Server::Curious, Server::Malicious] {
            let most = cohort.colluders(server, 40.0, delta).unwrap();
            assert!(most >= (gamma * clients as f64) as usize, "{clients} {gamma} {delta} {server:?}: {most}");
        }
        // Neighbours are drawn, so a malicious server is charged with its trials.
        assert_eq!(cohort.secrecy_bits(Server::Malicious), 100.0);
        assert!(cohort.group_lost(delta / 2.0) < 1e-3);
    }
}

#[test]
fn robustness_counts_clients_surely_and_by_chance() {
    // As many as bad rows, surely, where rows are few.
    assert_eq!(feasibility(&masking(8, None, 0.05, 0.05), 96).byzantine(3), 3);
    // With 1250 rows of 8 chance does better than one row for each: 1 − C(n−8, b)/C(n, b) < 0.45.
    let many = feasibility(&masking(8, None, 0.05, 0.05), 10_000);
    let (surely, most) = (562, many.byzantine(562));
    assert!(most > surely, "{most}");
    assert!(spoiled::row_spoiled(10_000, most, 8) < 0.45);
    assert_eq!(many.byzantine(0), 0);
    assert_eq!(many.byzantine(1250), 10_000);
}

proptest! {
    #[test]
    fn more_colluders_never_help_and_a_stricter_claim_never_holds_for_more(
        group_size in 2..=60usize, rows in 1..20usize, raise in 0..20usize,
    ) {
        let threshold = (2 * group_size / 3 + 1 + raise).min(group_size);
        let cohort = feasibility(&masking(group_size, Some(threshold), 0.05, 0.05), group_size * rows);
        let mut last = f64::NEG_INFINITY;
        for colluders in 0..group_size * rows {
            let failure = cohort.secrecy_failure(Server::Curious, colluders, 0.05);
            prop_assert!(failure >= last - 1e-6, "{colluders}: {failure} {last}");
            prop_assert!(cohort.secrecy_failure(Server::Malicious, colluders, 0.05) >= failure - 1e-6);
            last = failure;
        }
        let most = |server, bits| cohort.colluders(server, bits, 0.05);
        prop_assert!(most(Server::Malicious, 100.0) <= most(Server::Malicious, 40.0));
        prop_assert!(most(Server::Malicious, 40.0) <= most(Server::Curious, 40.0));
    }

    #[test]
    fn two_honest_clients_are_in_every_sum_and_no_two_sets_of_answers_are_disjoint(
        size in 2..=100usize, raise in 0..100usize,
    ) {
        let threshold = (2 * size / 3 + 1 + raise).min(size);
        let curious = most_colluders(size, threshold, Server::Curious).unwrap();
        let malicious = most_colluders(size, threshold, Server::Malicious).unwrap();
        prop_assert!(threshold - curious >= 2 && malicious <= curious);
        prop_assert!(2 * threshold > size + malicious);
    }

    #[test]
    fn the_tolerated_byzantine_clients_spoil_too_many_rows_with_at_most_the_promised_probability(
        group_size in 2..8usize, rows in 3..14usize, tolerated in 1..6usize,
    ) {
        let tolerated = tolerated.min(rows - 1);
        let cohort = feasibility(&masking(group_size, None, 0.05, 0.05), group_size * rows);
        let most = cohort.byzantine(tolerated);
        let spoiled = spoiled_rows(&vec![group_size; rows], most).unwrap();
        prop_assert!(spoiled.iter().skip(tolerated + 1).sum::<f64>() <= 2f64.powi(-20) + 1e-12);
    }

    #[test]
    fn a_group_is_lost_more_often_with_more_dropouts_and_a_round_with_fewer_spare_rows(
        size in 2..=100usize, rows in 1..30usize, needed in 1..30usize, dropout in 0.0..0.5f64, more in 0.0..0.4f64,
    ) {
        let cohort = feasibility(&masking(size, None, 0.05, 0.05), size * rows);
        prop_assert!(cohort.group_lost(dropout) <= cohort.group_lost(dropout + more) + 1e-12);
        prop_assert!(cohort.round_lost(dropout, needed) <= cohort.round_lost(dropout, needed + 1) + 1e-12);
        prop_assert!((0.0..=1.0 + 1e-12).contains(&cohort.round_lost(dropout, needed)));
    }
}

/// The table of the documentation, by what a task is checked with: the same formulas and configured thresholds.
fn documented_table() -> String {
    let mut lines = vec![
        "| group size | rows | threshold | colluders, curious server, 2^-40 | malicious, 2^-40 | malicious, 2^-100 | \
         Byzantine at 45 % / 24 % | group lost at 5 % / 10 % dropouts |"
            .to_string(),
        "|---|---|---|---|---|---|---|---|".to_string(),
    ];
    for (size, rows, threshold, ..) in TABLE {
        let default = 2 * size / 3 + 1;
        let cohort = feasibility(&masking(size, Some(threshold).filter(|&t| t > default), 0.05, 0.05), CLIENTS);
        let colluders = [(Server::Curious, 40.0), (Server::Malicious, 40.0), (Server::Malicious, 100.0)]
            .map(|(server, bits)| cohort.colluders(server, bits, 0.05).unwrap().to_string());
        let byzantine = [0.45, 0.24].map(|beta| cohort.byzantine((beta * rows as f64) as usize).to_string());
        let lost = [0.05, 0.10].map(|dropout| digits(cohort.group_lost(dropout)));
        lines.push(format!(
            "| {size} | {rows} | {threshold} | {} | {} | {} |",
            colluders.join(" | "),
            byzantine.join(" / "),
            lost.join(" / ")
        ));
    }
    lines.join("\n")
}

#[test]
fn the_threat_model_shows_the_table_that_tasks_are_checked_with() {
    let text = include_str!("../../../../../docs/threat-model.md");
    let (_, rest) = text.split_once("feasibility/tests.rs -->\n").unwrap();
    let (table, _) = rest.split_once("\n<!-- end of table -->").unwrap();
    assert_eq!(table, documented_table(), "put this table there:\n{}", documented_table());
    // What the text says beside it.
    let four = feasibility(&masking(4, None, 0.05, 0.05), CLIENTS);
    let five = feasibility(&masking(5, None, 0.05, 0.05), CLIENTS);
    assert!(four.byzantine(112) >= 100 && five.byzantine(90) < 100);
}
