use super::*;
use crate::data::digits;
use std::collections::BTreeSet;

fn covers_everything_once(parts: &[Vec<usize>], examples: usize) {
    let mut all = parts.concat();
    all.sort_unstable();
    assert_eq!(all, (0..examples).collect::<Vec<_>>());
}

/// Mean over clients of the share of the client's commonest class.
fn concentration(parts: &[Vec<usize>], data: &Dataset) -> f64 {
    let share = |part: &Vec<usize>| {
        let mut counts = [0; 10];
        part.iter().for_each(|&row| counts[data.label(row)] += 1);
        f64::from(counts.iter().copied().max().unwrap_or(0)) / part.len() as f64
    };
    parts.iter().map(share).sum::<f64>() / parts.len() as f64
}

#[test]
fn iid_parts_differ_in_size_by_at_most_one_and_cover_everything() {
    let data = digits::load();
    let parts = Partition::Iid {}.divide(&data, 20, 3).unwrap();
    covers_everything_once(&parts, data.len());
    assert!(parts.iter().all(|part| part.len() == 89 || part.len() == 90));
    assert_eq!(parts, Partition::Iid {}.divide(&data, 20, 3).unwrap());
    assert_ne!(parts, Partition::Iid {}.divide(&data, 20, 4).unwrap());
    assert!(concentration(&parts, &data) < 0.25);
}

#[test]
fn dirichlet_redraws_until_every_client_holds_the_minimum() {
    let data = digits::load();
    let partition = Partition::Dirichlet { alpha: 0.1, min_samples: 4 };
    for seed in 0..20 {
        let parts = partition.divide(&data, 16, seed).unwrap();
        covers_everything_once(&parts, data.len());
        assert!(parts.iter().all(|part| part.len() >= 4));
        assert_eq!(parts, partition.divide(&data, 16, seed).unwrap());
    }
}

#[test]
fn a_smaller_alpha_gives_clients_fewer_classes() {
    let data = digits::load();
    let at = |alpha| {
        let partition = Partition::Dirichlet { alpha, min_samples: 1 };
        concentration(&partition.divide(&data, 16, 1).unwrap(), &data)
    };
    assert!(at(0.1) > at(0.5) + 0.1);
    assert!(at(0.5) > at(100.0) + 0.1);
}

#[test]
fn what_cannot_be_divided_is_refused_with_numbers_and_a_fix() {
    let data = Dataset::new(vec![0.0; 10], vec![0, 1, 0, 1, 0, 1, 0, 1, 0, 1], 1, 2).unwrap();
    let message = |partition: Partition, clients| partition.divide(&data, clients, 0).unwrap_err().to_string();
    assert!(message(Partition::Iid {}, 11).contains("11 clients"));
    assert!(message(Partition::Iid {}, 0).contains("clients = 0"));
    assert!(message(Partition::Dirichlet { alpha: 1.0, min_samples: 6 }, 2).contains("need 12, but there are 10"));
    assert!(message(Partition::Dirichlet { alpha: 1.0, min_samples: usize::MAX }, 2).contains("but there are 10"));
    for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(message(Partition::Dirichlet { alpha, min_samples: 1 }, 2).contains("alpha ="));
    }
    let hopeless = message(Partition::Dirichlet { alpha: 1e-6, min_samples: 2 }, 5);
    assert!(hopeless.contains("raise alpha"), "{hopeless}");
}

#[test]
fn the_configuration_is_strict_and_has_a_default_minimum() {
    let parsed: Partition = serde_json::from_str(r#"{"kind":"dirichlet","alpha":0.5}"#).unwrap();
    assert_eq!(parsed, Partition::Dirichlet { alpha: 0.5, min_samples: 4 });
    assert_eq!(serde_json::from_str::<Partition>(r#"{"kind":"iid"}"#).unwrap(), Partition::Iid {});
    assert!(serde_json::from_str::<Partition>(r#"{"kind":"iid","alpha":1}"#).is_err());
    assert!(serde_json::from_str::<Partition>(r#"{"kind":"dirichlet","alpha":1,"beta":2}"#).is_err());
}

#[test]
fn every_division_covers_everything_once_and_is_the_seeds_own() {
    let data = digits::load();
    for partition in [
        Partition::Gamma { gamma: 0.4 },
        Partition::Shards { per_client: 2 },
        Partition::LabelQuantity { labels: 3 },
        Partition::Extreme {},
    ] {
        let parts = partition.divide(&data, 20, 3).unwrap();
        covers_everything_once(&parts, data.len());
        assert_eq!(parts, partition.divide(&data, 20, 3).unwrap());
        assert_eq!(parts == partition.divide(&data, 20, 4).unwrap(), partition == Partition::Extreme {});
    }
}

#[test]
fn gamma_leads_from_sorted_to_iid() {
    let data = digits::load();
    let at = |gamma| Partition::Gamma { gamma }.divide(&data, 20, 3).unwrap();
    assert_eq!(at(0.0), Partition::Extreme {}.divide(&data, 20, 3).unwrap());
    assert_eq!(at(1.0), Partition::Iid {}.divide(&data, 20, 3).unwrap());
    let concentrations: Vec<f64> = [0.0, 0.33, 0.66, 1.0].map(|gamma| concentration(&at(gamma), &data)).to_vec();
    assert!(concentrations.is_sorted_by(|a, b| a > b), "{concentrations:?}");
}

#[test]
fn clients_hold_no_more_classes_than_their_division_says() {
    let data = digits::load();
    let most = |partition: Partition, clients| {
        let classes = |part: &Vec<usize>| part.iter().map(|&row| data.label(row)).collect::<BTreeSet<_>>().len();
        partition.divide(&data, clients, 1).unwrap().iter().map(classes).max().unwrap()
    };
    assert_eq!(most(Partition::LabelQuantity { labels: 2 }, 20), 2);
    assert_eq!(most(Partition::LabelQuantity { labels: 5 }, 2), 5);
    assert!(most(Partition::Extreme {}, 20) <= 2);
    assert!(most(Partition::Shards { per_client: 2 }, 20) <= 4);
    assert_eq!(most(Partition::LabelQuantity { labels: 10 }, 3), 10);
}

#[test]
fn sorted_parts_are_consecutive_and_the_larger_come_first() {
    let data = digits::load();
    let parts = Partition::Extreme {}.divide(&data, 16, 0).unwrap();
    let sizes: Vec<usize> = parts.iter().map(Vec::len).collect();
    assert_eq!(sizes, [[113; 5].as_slice(), &[112; 11]].concat());
    let highest = |part: &Vec<usize>| part.iter().map(|&row| data.label(row)).max().unwrap();
    let lowest = |part: &Vec<usize>| part.iter().map(|&row| data.label(row)).min().unwrap();
    assert!(parts.windows(2).all(|pair| highest(&pair[0]) <= lowest(&pair[1])));
}

#[test]
fn impossible_skews_are_refused_with_what_would_be_possible() {
    let data = digits::load();
    let message = |partition: Partition| partition.divide(&data, 3, 0).unwrap_err().to_string();
    assert!(message(Partition::Gamma { gamma: 1.5 }).contains("gamma = 1.5; give a number from 0 to 1"));
    assert!(message(Partition::Gamma { gamma: f64::NAN }).contains("gamma = NaN"));
    assert!(message(Partition::Shards { per_client: 0 }).contains("give at least 1"));
    assert!(message(Partition::Shards { per_client: 1_000 }).contains("need 3000, but there are 1797"));
    assert!(message(Partition::LabelQuantity { labels: 3 }).contains("give 4 to 10"));
    assert!(message(Partition::LabelQuantity { labels: 11 }).contains("labels = 11 of 10 classes"));
}
