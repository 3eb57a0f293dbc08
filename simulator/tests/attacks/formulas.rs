//! Each formula, and what it does to the plain mean.

use testudo_aggregate::{RuleConfig, aggregate};
use testudo_simulator::attack::{Attack, Colluder, Crowd, Knowledge, Observation, View};
use testudo_simulator::attacks;
use testudo_simulator::random::{Purpose, stream};

use super::{deployed, distance2, dot, mean, random, rows, rule, seen, sent};

fn of_mean(honest: &[Vec<f64>], forged: &[f64], colluding: usize) -> Vec<f64> {
    let mut all: Vec<&[f64]> = honest.iter().map(Vec::as_slice).collect();
    all.extend(std::iter::repeat_n(forged, colluding));
    aggregate(RuleConfig::mean().rule(), &all, None, None).unwrap().output
}

fn close(actual: &[f64], expected: &[f64]) {
    assert_eq!(actual.len(), expected.len());
    for (actual, expected) in actual.iter().zip(expected) {
        assert!((actual - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{actual} {expected}");
    }
}

#[test]
fn attacks_on_the_mean_move_it_by_what_their_formulas_say() {
    let honest = rows(16, 40, 1);
    let mu = mean(&honest);
    let scaled = |factor: f64| mu.iter().map(|value| factor * value).collect::<Vec<f64>>();
    let after = |text: &str| of_mean(&honest, &sent(text, seen(&honest, 4)), 4);
    // n = 20, f = 4: the mean becomes ((n - f) - f tau)/n times mu.
    close(&after("sign_flip_mean"), &scaled(0.6));
    close(&after("ipm:2"), &scaled(0.4));
    close(&after("ipm:4"), &scaled(0.0));
    close(&after("ipm:100"), &scaled(-19.2));
    close(&after("free_rider"), &scaled(0.8));
    let sd: Vec<f64> =
        (0..40).map(|c| (honest.iter().map(|row| (row[c] - mu[c]).powi(2)).sum::<f64>() / 15.0).sqrt()).collect();
    let moved: Vec<f64> = mu.iter().zip(&sd).map(|(mu, sd)| mu + 0.2 * 1.5 * sd).collect();
    close(&after("alie:z=1.5,sign=+"), &moved);
    let copied: Vec<f64> = mu.iter().zip(&honest[3]).map(|(mu, x)| 0.8 * mu + 0.2 * x).collect();
    close(&after("mimic:3"), &copied);
}

#[test]
fn min_max_and_min_sum_use_their_bounds_up_and_never_exceed_them() {
    for seed in 0..30 {
        let honest = rows(4 + seed as usize % 9, 3 + seed as usize, seed);
        let pair = |i: usize, j: usize| distance2(&honest[i], &honest[j]);
        let all = 0..honest.len();
        let furthest = all.clone().flat_map(|i| all.clone().map(move |j| (i, j))).map(|(i, j)| pair(i, j));
        let most = furthest.fold(0.0, f64::max);
        let sums: Vec<f64> = all.clone().map(|i| all.clone().map(|j| pair(i, j)).sum()).collect();
        for perturbation in ["sd", "unit", "sign"] {
            let m = sent(&format!("min_max:{perturbation}"), seen(&honest, 2));
            let reach = honest.iter().map(|x| distance2(&m, x)).fold(0.0, f64::max);
            assert!(reach <= most * (1.0 + 1e-12) && reach >= most * (1.0 - 1e-9), "{reach} {most}");
            for (bound, most) in [
                ("max", sums.iter().copied().fold(0.0, f64::max)),
                ("min", sums.iter().copied().fold(f64::INFINITY, f64::min)),
            ] {
                let m = sent(&format!("min_sum:perturbation={perturbation},bound={bound}"), seen(&honest, 2));
                let reach: f64 = honest.iter().map(|x| distance2(&m, x)).sum();
                assert!(reach <= most * (1.0 + 1e-12) && reach >= most * (1.0 - 1e-9), "{reach} {most}");
            }
        }
    }
    // Nothing to hide in: the mean itself.
    let alike = vec![vec![1.0, 2.0]; 5];
    assert_eq!(sent("min_max", seen(&alike, 1)), [1.0, 2.0]);
    assert_eq!(sent("min_sum", seen(&alike, 1)), [1.0, 2.0]);
}

#[test]
fn optimised_attacks_hurt_their_rule_at_least_as_much_as_the_fixed_ones() {
    let honest = rows(16, 60, 4);
    let mu = mean(&honest);
    for text in [
        r#"{"kind":"trimmed_mean","byzantine":4}"#,
        r#"{"kind":"median","byzantine":4}"#,
        r#"{"kind":"krum","byzantine":4}"#,
        r#"{"kind":"multi_krum","byzantine":4}"#,
        r#"{"kind":"geometric_median","byzantine":4}"#,
        r#"{"kind":"trimmed_mean","byzantine":4,"pre":["nnm"]}"#,
    ] {
        let rule = rule(text);
        let all = Observation { deployed: deployed(&rule), ..seen(&honest, 4) };
        let damage = |attack: &str| {
            let forged = sent(attack, all);
            let mut rows: Vec<&[f64]> = honest.iter().map(Vec::as_slice).collect();
            rows.extend([forged.as_slice(); 4]);
            distance2(&aggregate(rule.rule(), &rows, None, None).unwrap().output, &mu).sqrt()
        };
        let adaptive = damage("adaptive");
        for fixed in ["none", "ipm:0.1", "sign_flip_mean", "alie", "min_max", "min_sum"] {
            assert!(adaptive >= 0.95 * damage(fixed), "{text} {fixed}: {adaptive} {}", damage(fixed));
        }
        let positive = |kind: &str| damage(&format!("{kind}:directions=positive"));
        assert!(damage("alie_opt") >= positive("alie_opt") && damage("ipm_opt") >= positive("ipm_opt"), "{text}");
        assert!(positive("alie_opt") > 0.0, "{text}");
    }
}

#[test]
fn the_detector_in_view_keeps_an_adaptive_attack_inconspicuous() {
    let honest = rows(16, 60, 5);
    let mu = mean(&honest);
    let rule = RuleConfig::mean();
    let all = Observation { deployed: deployed(&rule), ..seen(&honest, 4) };
    let score = |forged: &[f64]| {
        let z = |value: f64, mut others: Vec<f64>| {
            let median = |values: &mut Vec<f64>| {
                values.sort_by(f64::total_cmp);
                (values[7] + values[8]) / 2.0
            };
            let middle = median(&mut others);
            let mut off = others.iter().map(|other| (other - middle).abs()).collect();
            (value - middle).abs() / (1.4826 * median(&mut off))
        };
        let length = |x: &[f64]| dot(x, x).sqrt();
        z(length(forged), honest.iter().map(|x| length(x)).collect())
            .max(z(distance2(forged, &mu).sqrt(), honest.iter().map(|x| distance2(x, &mu).sqrt()).collect()))
    };
    assert!(score(&sent("adaptive", all)) > 100.0);
    let hidden = sent("adaptive:stealth=3", all);
    assert!(score(&hidden) <= 3.0 * (1.0 + 1e-9), "{}", score(&hidden));
    assert!(distance2(&of_mean(&honest, &hidden, 4), &mu) > 0.0);
    assert_eq!(sent("adaptive:after=1", all), honest[0], "honest rounds first");
}

#[test]
fn fang_on_trimmed_mean_lies_beyond_the_honest_values_against_their_direction() {
    let honest = rows(11, 200, 6);
    let mu = mean(&honest);
    let forged = sent("fang_trim", seen(&honest, 3));
    for (c, forged) in forged.iter().enumerate() {
        let least = honest.iter().map(|row| row[c]).fold(f64::INFINITY, f64::min);
        let greatest = honest.iter().map(|row| row[c]).fold(f64::NEG_INFINITY, f64::max);
        match mu[c] > 0.0 {
            true => assert!((least - least.abs()..=least).contains(forged)),
            false => assert!((greatest..=greatest + greatest.abs()).contains(forged)),
        }
    }
    // Partial knowledge: 3 to 4 deviations of the colluders' own.
    let own = Observation { colluders: &honest, ..Observation::default() };
    let forged = sent("fang_trim", own);
    let sd = |c: usize| (honest.iter().map(|row| (row[c] - mu[c]).powi(2)).sum::<f64>() / 10.0).sqrt();
    assert!((0..200).all(|c| (3.0..=4.0).contains(&((mu[c] - forged[c]) * mu[c].signum() / sd(c)))));
}

#[test]
fn fang_on_krum_is_chosen_by_krum_and_points_backwards() {
    let rule = rule(r#"{"kind":"krum","byzantine":4}"#);
    for seed in 0..10 {
        let honest = rows(16, 30, seed);
        let mu = mean(&honest);
        let forged = sent("fang_krum", seen(&honest, 4));
        let mut all: Vec<&[f64]> = vec![forged.as_slice(); 4];
        all.extend(honest.iter().map(Vec::as_slice));
        let chosen = aggregate(rule.rule(), &all, None, None).unwrap();
        assert_eq!(chosen.selected, [0], "{seed}");
        assert!(dot(&forged, &mu) < 0.0);
        assert!(forged.iter().zip(&mu).all(|(forged, mu)| forged * mu < 0.0));
        // The others are near, not equal.
        let attack = attacks::parse("fang_krum").unwrap();
        let second = Observation { colluder: Colluder { index: 1, count: 4 }, ..seen(&honest, 4) };
        let near = attack.vector(&View::new(Knowledge::Honest, second), &honest[0], &mut random());
        let distance = distance2(&near, &forged).sqrt();
        assert!(distance > 0.0 && distance <= 0.01, "{distance}");
    }
}

#[test]
fn mimic_keeps_the_client_that_stands_out_in_the_direction_of_most_difference() {
    let mut honest = rows(12, 20, 8);
    for (row, values) in honest.iter_mut().enumerate() {
        values[3] += 10.0 * (row as f64 - 5.5);
    }
    let forged = sent("mimic", seen(&honest, 4));
    assert!(forged == honest[0] || forged == honest[11]);
    // Memory settles on one client, even if another stands out later.
    let attack = attacks::parse("mimic:warmup=2").unwrap();
    let single: Vec<Vec<f32>> = honest.iter().map(|row| row.iter().map(|value| *value as f32).collect()).collect();
    let mut memory = Vec::new();
    let mut copied = Vec::new();
    for round in 1..=5 {
        let mut now = single.clone();
        if round > 2 {
            now[6].iter_mut().for_each(|value| *value *= 1e3);
        }
        let all = Observation { round, honest: &now, memory: &memory, ..Observation::default() };
        let view = View::new(attack.knowledge(), all);
        let mut update = now[0].clone();
        attack.forge(&view, &mut update, &mut random());
        copied.push((0..12).find(|&row| now[row] == update).unwrap());
        memory = attack.remember(&view, &now[0]);
    }
    assert!(copied[1..].iter().all(|row| *row == copied[1]), "{copied:?}");
    assert!(copied[1] == 0 || copied[1] == 11);
}

#[test]
fn names_of_one_attacker_send_the_same_sum_however_it_is_divided() {
    let colluders = rows(4, 30, 9);
    let update = |mode: &str, index: usize| {
        let attack = attacks::parse(&format!("sybil:attack=sign_flip:3,mode={mode}")).unwrap();
        let all = Observation {
            round: 3,
            accord: 77,
            colluder: Colluder { index, count: 4 },
            colluders: &colluders,
            ..Observation::default()
        };
        let mut own = stream(1, Purpose::Attack, 3, index as u64);
        attack.vector(&View::new(attack.knowledge(), all), &colluders[index], &mut own)
    };
    let expected: Vec<f64> = colluders[0].iter().map(|value| 4.0 * -3.0 * value).collect();
    for mode in ["exact", "split", "balanced"] {
        let all: Vec<Vec<f64>> = (0..4).map(|index| update(mode, index)).collect();
        let sum: Vec<f64> = (0..30).map(|c| all.iter().map(|row| row[c]).sum()).collect();
        for (sum, expected) in sum.iter().zip(&expected) {
            assert!((sum - expected).abs() < 1e-9 * expected.abs().max(1.0), "{mode}: {sum} {expected}");
        }
        assert_eq!(all[0] == all[1], mode == "exact", "{mode}");
        assert_eq!(all[0] == all[2], mode == "exact", "{mode}");
    }
    assert_ne!(update("jitter", 0), update("jitter", 1));
}

#[test]
fn a_gaussian_attack_may_be_relative_and_shared() {
    let honest = rows(5, 4_000, 3);
    let mu = mean(&honest);
    let forged = sent("gaussian:sd=2,relative=true", seen(&honest, 1));
    let ratio = (dot(&forged, &forged) / dot(&mu, &mu)).sqrt();
    assert!((ratio - 2.0).abs() < 0.1, "{ratio}");
    let attack = attacks::parse("gaussian:shared=true").unwrap();
    let of = |client: u64| {
        let view = View::new(attack.knowledge(), Observation { round: 2, accord: 5, ..Observation::default() });
        attack.vector(&view, &[0.0_f64; 20], &mut stream(1, Purpose::Attack, 2, client))
    };
    assert_eq!(of(1), of(2));
}

#[test]
fn rop_stays_as_far_from_its_centre_as_told_and_at_the_angle_told() {
    let honest = rows(9, 50, 2);
    let mu = mean(&honest);
    let previous: Vec<f64> = rows(1, 50, 7).remove(0);
    for (angle, cosine) in [(90.0, 0.0), (0.0, 1.0), (180.0, -1.0), (60.0, 0.5), (135.0, -(0.5_f64.sqrt()))] {
        let all = Observation { previous: &previous, ..seen(&honest, 2) };
        let forged = sent(&format!("rop:z=2,angle={angle},pull=1"), all);
        let off: Vec<f64> = forged.iter().zip(&previous).map(|(forged, centre)| forged - centre).collect();
        let length = dot(&off, &off).sqrt();
        assert!((length / (2.0 * dot(&mu, &mu).sqrt()) - 1.0).abs() < 1e-12, "{length}");
        let actual = dot(&off, &previous) / (length * dot(&previous, &previous).sqrt());
        assert!((actual - cosine).abs() < 1e-12, "{angle}: {actual}");
    }
}

#[test]
fn declared_and_real_numbers_of_attackers_are_both_told() {
    let honest = rows(16, 30, 1);
    let told = |colluding, declared| {
        let crowd = Crowd { rows: 16 + colluding, colluding, declared };
        Observation { crowd, ..seen(&honest, colluding) }
    };
    // ALIE reckons with the real number, Fang on Krum with the declared one too.
    assert_ne!(sent("alie", told(4, 4)), sent("alie", told(6, 4)));
    assert_eq!(sent("alie", told(4, 4)), sent("alie", told(4, 1)));
    assert_ne!(sent("fang_krum", told(4, 1)), sent("fang_krum", told(4, 7)));
}

#[test]
fn forging_in_single_precision_rounds_what_double_precision_sends() {
    let honest = rows(9, 33, 3);
    let single: Vec<Vec<f32>> = honest.iter().map(|row| row.iter().map(|value| *value as f32).collect()).collect();
    let widened: Vec<Vec<f64>> = single.iter().map(|row| row.iter().map(|value| f64::from(*value)).collect()).collect();
    for info in attacks::catalogue() {
        let attack = attacks::parse(info.kind).unwrap();
        let crowd = Crowd { rows: 12, colluding: 3, declared: 3 };
        let wide =
            Observation { round: 1, crowd, honest: &widened, colluders: &widened[..3], ..Observation::default() };
        let narrow =
            Observation { round: 1, crowd, honest: &single, colluders: &single[..3], ..Observation::default() };
        let expected = attack.vector(&View::new(attack.knowledge(), wide), &widened[0], &mut random());
        let mut update = single[0].clone();
        attack.forge(&View::new(attack.knowledge(), narrow), &mut update, &mut random());
        for (update, expected) in update.iter().zip(&expected) {
            let same = update.to_bits() == (*expected as f32).to_bits();
            assert!(same || (f64::from(*update) - expected).abs() <= 1e-6 * expected.abs(), "{}", info.kind);
        }
    }
}
