use super::*;

const CLIENTS: usize = 20;
const D: usize = 60;

/// Rounds of honest updates around a common direction; from round 31 the last `bad` clients send `attack(update)`.
fn watched(rounds: u64, bad: usize, attack: impl Fn(&mut [f32])) -> Detector {
    let settings = Detection::default();
    let mut detector = Detector::new(CLIENTS);
    let mut histories = vec![Vec::new(); CLIENTS];
    for number in 1..=rounds {
        let mut rows: Vec<Vec<f32>> = (0..CLIENTS as u64)
            .map(|client| {
                let mut random = stream(5, Purpose::Batch, number, client);
                (0..D).map(|at| ((at as f64 / 10.0).sin() * 0.5 + random.normal()) as f32).collect()
            })
            .collect();
        if number > 30 {
            rows.iter_mut().skip(CLIENTS - bad).for_each(|row| attack(row));
        }
        let round = Round { number, seed: 1, every: 1, declared: 4, least: 10 };
        let seen: Vec<Seen<'_>> = (rows.iter().zip(&histories).enumerate())
            .map(|(client, (row, history))| Seen { client, update: Some(row), history, verdict: Verdict::Accepted })
            .collect();
        detector.observe(&settings, &round, &seen);
        for (history, row) in histories.iter_mut().zip(&rows) {
            history.resize(D, 0.0);
            history.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
    }
    detector
}

fn flagged(detector: &Detector) -> (usize, usize) {
    let count = |from: usize, to: usize| {
        detector.dossiers()[from..to].iter().filter(|dossier| dossier.flagged.is_some()).count()
    };
    (count(0, CLIENTS - 4), count(CLIENTS - 4, CLIENTS))
}

#[test]
fn honest_clients_of_like_data_are_left_alone_for_a_hundred_rounds() {
    assert_eq!(flagged(&watched(100, 0, |_| {})), (0, 0));
}

#[test]
fn clients_that_begin_to_reverse_or_blow_up_their_updates_are_found() {
    let reverse = |row: &mut [f32]| row.iter_mut().for_each(|value| *value *= -3.0);
    let (honest, bad) = flagged(&watched(100, 4, reverse));
    assert!(honest == 0 && bad >= 3, "{honest} {bad}");
    // Length alone shows in two of six signals, which is slower.
    let blown = |row: &mut [f32]| row.iter_mut().for_each(|value| *value *= 8.0);
    let (honest, bad) = flagged(&watched(100, 4, blown));
    assert!(honest == 0 && bad >= 1, "{honest} {bad}");
}

#[test]
fn proofs_strike_at_once() {
    let mut detector = Detector::new(6);
    let nothing =
        Seen { client: 3, update: None, history: &[], verdict: Verdict::Rejected { reason: Reason::NonFinite } };
    let late = Seen { client: 4, verdict: Verdict::Dropout, ..nothing };
    let outvoted = Seen { client: 5, verdict: Verdict::Rejected { reason: Reason::NotSelected }, ..nothing };
    for number in 1..=3 {
        let round = Round { number, seed: 1, every: 1, declared: 1, least: 2 };
        detector.observe(&Detection::default(), &round, &[nothing, late, outvoted]);
    }
    let levels: Vec<Level> = detector.dossiers().iter().map(|dossier| dossier.level).collect();
    assert_eq!(levels[3..], [Level::Quarantine, Level::Normal, Level::Normal]);
    assert_eq!((detector.dossiers()[3].flagged, detector.dossiers()[3].strikes), (Some(1), 3));
}

#[test]
fn everything_it_knows_survives_as_text() {
    let detector = watched(40, 4, |row| row.iter_mut().for_each(|value| *value *= -3.0));
    let text = serde_json::to_string(&detector).unwrap();
    assert_eq!(serde_json::from_str::<Detector>(&text).unwrap(), detector);
}
