//! Leak games: what a server can tell from its whole transcript, and that each distinguisher finds what it is made for.
//!
//! Two inputs with equal sums are shared out to two clients in one of two ways; the distinguisher sees all that the
//! server sees, the unmasked sum and the rebuilt secrets included. Every game has a negative control: with one part of
//! the masks taken away, the same distinguisher must succeed.

use crate::{
    forger,
    harness::{Outcome, Play, add, client, masked, session},
    statistics::{CHANCE, bit_planes, chi_squared, kolmogorov_smirnov, learned, serial_correlation, worst},
};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};
use testudo_aggregate::{Cipher, Mask, MaskKey, Sign, apply_masks};
use testudo_protocol::{
    Digest,
    secagg::{
        Advertise, Message, Session, Step,
        agreement::{Ends, Key, MASK_AES, MASK_CHACHA, PublicKey, SELF_AES, SecretKey},
        shamir,
    },
};

const CLIENTS: usize = 5;

/// What is wrong with the masks.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Weakness {
    None,
    /// No mask of a client's own.
    NoSelfMask,
    /// Words of 28 bits.
    Range28,
    /// Words that never are the ring's highest values.
    NoTop,
}

fn of_dimension(dimension: usize) -> Session {
    session(CLIENTS, CLIENTS, dimension)
}

/// A round in which clients 0 and 1 have the inputs in this order, or exchanged.
fn play(dimension: usize, seed: u64, exchanged: bool, weakness: Weakness, late: bool) -> Outcome {
    let mut play = Play::of(CLIENTS, of_dimension(dimension)).saying(move |_, number, message| {
        match late && number == 0 && message.step() == Step::MaskedInput {
            // Its upload is there, its header never: for the server it is a dropout whose masking key is rebuilt.
            true => Vec::new(),
            false => vec![message],
        }
    });
    play.seed = seed;
    play.inputs = Box::new(move |number| vec![level(number ^ usize::from(exchanged && number < 2)); dimension]);
    play.sends = Box::new(move |_, masks, plain| Some(weakly_masked(masks, plain, weakness)));
    play.run()
}

/// Inputs far apart, as two clients' are at worst.
fn level(number: usize) -> u32 {
    [1_000, 64_000, 30_000, 31_000, 32_000][number]
}

fn weakly_masked(masks: &[Mask], plain: Vec<u32>, weakness: Weakness) -> Vec<u32> {
    match weakness {
        Weakness::None => masked(masks, plain),
        // The first mask is the client's own.
        Weakness::NoSelfMask => masked(&masks[1..], plain),
        Weakness::Range28 | Weakness::NoTop => {
            let mask = masked(masks, vec![0; plain.len()]);
            let weak = |word: u32| match weakness {
                Weakness::Range28 => word >> 4,
                _ => ((u64::from(word) * 4_200_000_000) >> 32) as u32,
            };
            plain.iter().zip(mask).map(|(plain, mask)| plain.wrapping_add(weak(mask))).collect()
        }
    }
}

/// What the server makes of the upload of client 0 when it has rebuilt that client's masking key.
fn stripped(outcome: &Outcome) -> Vec<u32> {
    let entries: std::collections::BTreeMap<usize, Advertise> = outcome
        .taken
        .iter()
        .filter_map(|(number, message)| match message {
            Message::Advertise(entry) => Some((*number, entry.clone())),
            _ => None,
        })
        .collect();
    let sorted: Vec<Advertise> = entries.values().cloned().collect();
    let session = of_dimension(outcome.uploads[&0].len());
    let (terms, _) = forger::terms(&session, &forger::roster(&session, [7; 32], &sorted, &client(0)));
    let place =
        |number: usize| outcome.records[0].members.iter().position(|member| *member == client(number)).unwrap() as u32;
    let shares: Vec<(u32, shamir::Share)> = outcome
        .taken
        .iter()
        .filter_map(|(number, message)| {
            let Message::Unmask(unmask) = message else { return None };
            let (_, share) = unmask.shares.iter().find(|(index, _)| *index == place(0))?;
            Some((place(*number), share.clone()))
        })
        .collect();
    let secret = SecretKey::from_bytes(&shamir::reconstruct(&shares, terms.threshold as u32).unwrap());
    assert_eq!(secret.public().0, entries[&0].mask_key);
    let masks: Vec<Mask> = (1..CLIENTS)
        .map(|other| {
            let ends = Ends::Pair { ours: place(0), theirs: place(other) };
            let aes = entries[&0].aes && entries[&other].aes;
            let (cipher, label) = if aes { (Cipher::Aes256Ctr, MASK_AES) } else { (Cipher::ChaCha20, MASK_CHACHA) };
            let key = secret.agree(&PublicKey(entries[&other].mask_key), &terms.tau, label, ends).unwrap();
            let sign = if place(other) > place(0) { Sign::Subtract } else { Sign::Add };
            Mask { key: MaskKey::new(*key.as_bytes()), cipher, sign }
        })
        .collect();
    masked(&masks, outcome.uploads[&0].clone())
}

/// Features of words for the learner: every bit and the words themselves, around 0.
fn features(words: &[u32]) -> impl Iterator<Item = f64> + '_ {
    words.iter().flat_map(|&word| {
        let bits = (0..32).map(move |bit| f64::from(word >> bit & 1) - 0.5);
        bits.chain([f64::from(word) / 4_294_967_296.0 - 0.5])
    })
}

/// Plays many rounds, each with its own coin, and lets the learner guess the coins from the transcript.
fn guessed(rounds: u64, weakness: Weakness, late: bool) -> f64 {
    let mut coin = ChaCha20Rng::seed_from_u64(99);
    let samples: Vec<(Vec<f64>, bool)> = (0..rounds)
        .map(|round| {
            let exchanged = coin.next_u32() & 1 == 1;
            let outcome = play(6, 1000 + round, exchanged, weakness, late);
            let mut seen: Vec<f64> = features(&outcome.uploads[&0]).chain(features(&outcome.uploads[&1])).collect();
            if late {
                seen.extend(features(&stripped(&outcome)));
            } else if let Some(sum) = outcome.sums.first() {
                seen.extend(features(&sum.sum[..1]));
            }
            // All that is signed, sealed and committed to besides, by its bytes.
            for (_, message) in outcome.taken.iter().filter(|(number, _)| *number < 2) {
                let digest = match message {
                    Message::Shares(shares) => shares.boxes[0].1[..32].to_vec(),
                    message => Digest::of(&message.to_bytes()).0.to_vec(),
                };
                seen.extend(digest.iter().map(|&byte| f64::from(byte) / 255.0 - 0.5));
            }
            (seen, exchanged)
        })
        .collect();
    learned(&samples)
}

#[test]
fn who_has_which_input_is_not_learned_from_a_round() {
    let score = guessed(500, Weakness::None, false);
    assert!(score < CHANCE, "{score}");
}

#[test]
fn a_round_with_words_of_28_bits_is_caught_by_one_upload() {
    let outcome = play(4096, 5, false, Weakness::Range28, false);
    assert!(worst(&outcome.uploads[&0]) > 10.0 * CHANCE);
}

#[test]
fn a_late_upload_tells_nothing_when_its_masking_key_is_rebuilt() {
    let score = guessed(400, Weakness::None, true);
    assert!(score < CHANCE, "{score}");
    let outcome = play(1 << 14, 7, false, Weakness::None, true);
    assert!(worst(&stripped(&outcome)) < CHANCE);
}

#[test]
fn a_late_upload_tells_all_when_there_is_no_mask_of_its_own() {
    let score = guessed(100, Weakness::NoSelfMask, true);
    assert!(score > 6.0, "{score}: all right would be 7");
    let outcome = play(1 << 10, 7, false, Weakness::NoSelfMask, true);
    assert!(stripped(&outcome).iter().all(|&word| word == level(0)));
}

/// Uploads of one client over some rounds.
fn uploads(dimension: usize, seeds: std::ops::Range<u64>, weakness: Weakness) -> Vec<u32> {
    seeds.flat_map(|seed| play(dimension, seed, false, weakness, false).uploads.remove(&0).unwrap()).collect()
}

#[test]
fn masked_words_look_like_any_words() {
    let words = uploads(1 << 17, 1..5, Weakness::None);
    for (name, score) in scores(&words) {
        assert!(score < CHANCE, "{name}: {score}");
    }
}

#[test]
fn words_that_miss_the_top_of_the_ring_are_caught() {
    // 2.2 % of the range is missing: as if a generator took the range for something else than the ring.
    let words = uploads(1 << 17, 1..2, Weakness::NoTop);
    let (squared, distance) = (chi_squared(&words), kolmogorov_smirnov(&words));
    assert!(squared > 3.0 * CHANCE && distance > 2.0 * CHANCE, "{squared} {distance}");
    let words = uploads(1 << 12, 1..2, Weakness::Range28);
    for (name, score) in scores(&words).into_iter().take(3) {
        assert!(score > 5.0 * CHANCE, "{name}: {score}");
    }
}

fn scores(words: &[u32]) -> [(&'static str, f64); 4] {
    [
        ("χ²", chi_squared(words)),
        ("Kolmogorov-Smirnov", kolmogorov_smirnov(words)),
        ("bit planes", bit_planes(words)),
        ("serial correlation", (1..=4).map(|lag| serial_correlation(words, lag)).fold(0.0, f64::max)),
    ]
}

#[test]
fn a_constant_mask_for_all_coordinates_is_caught() {
    let outcome = play(1 << 12, 3, false, Weakness::None, false);
    let constant: Vec<u32> = (0..1 << 12).map(|at| (at % 97 + 5) as u32).map(|plain| plain + 0x9e37_79b9).collect();
    assert!(serial_correlation(&constant, 1) > CHANCE);
    assert!(serial_correlation(&outcome.uploads[&0], 1) < CHANCE);
}

#[test]
fn the_difference_of_two_rounds_shows_nothing_unless_masks_are_used_again() {
    let difference = |one: &Outcome, other: &Outcome| -> Vec<u32> {
        let words = one.uploads[&0].iter().zip(&other.uploads[&0]);
        words.map(|(one, other)| one.wrapping_sub(*other)).collect()
    };
    let round = |seed: u64, id: u8| {
        let mut play = Play::of(CLIENTS, of_dimension(1 << 15));
        play.session.id = [id; 32];
        play.session.round = u64::from(id);
        play.seed = seed;
        play.inputs = Box::new(move |number| vec![level(number) + u32::from(id); 1 << 15]);
        play.run()
    };
    // Fresh keys in each round.
    assert!(worst(&difference(&round(1, 1), &round(2, 2))) < CHANCE);
    // Even a client whose generator repeats itself has other masks, since the session is another.
    assert!(worst(&difference(&round(1, 1), &round(1, 2))) < CHANCE);
    // The control: the same session and the same randomness, so the same masks.
    let mut again = Play::of(CLIENTS, of_dimension(1 << 15));
    again.session.id = [1; 32];
    again.session.round = 1;
    again.inputs = Box::new(|number| vec![level(number) + 7; 1 << 15]);
    let reused = difference(&again.run(), &round(1, 1));
    assert!(reused.iter().all(|&word| word == 6));
    assert!(worst(&reused) > 100.0 * CHANCE);
}

/// How many of many masks begin alike, with seeds of so many bits.
fn collisions(masks: usize, bits: u32) -> usize {
    let mut rng = ChaCha20Rng::seed_from_u64(11);
    let mut beginnings: Vec<[u32; 4]> = (0..masks)
        .map(|_| {
            let mut seed = [0; 32];
            rng.fill_bytes(&mut seed);
            if bits < 256 {
                let low = u64::from_le_bytes(seed[..8].try_into().unwrap()) & ((1 << bits) - 1);
                seed = [0; 32];
                seed[..8].copy_from_slice(&low.to_le_bytes());
            }
            let key = Key::of_seed(&seed, &Digest([5; 32]), SELF_AES, 3);
            let mut words = [0; 4];
            let mask = Mask { key: MaskKey::new(*key.as_bytes()), cipher: Cipher::Aes256Ctr, sign: Sign::Add };
            apply_masks(&mut words, 0, &[mask]).unwrap();
            words
        })
        .collect();
    beginnings.sort_unstable();
    beginnings.windows(2).filter(|pair| pair[0] == pair[1]).count()
}

#[test]
fn seeds_of_28_bits_are_caught_by_masks_that_begin_alike() {
    // 2^17 masks of 2^28 seeds: 32 pairs are alike on average. Each test of randomness on one stream would miss it.
    let masks = 1 << 17;
    assert_eq!(collisions(masks, 256), 0);
    let alike = collisions(masks, 28);
    assert!((10..80).contains(&alike), "{alike}");
}

#[test]
#[ignore = "minutes: ci/leaks runs it"]
fn a_hundred_million_masked_words_look_like_any_words() {
    // 2^25 words of one round's upload, four times.
    let mut all = Vec::with_capacity(1 << 27);
    for seed in 1..5 {
        let mut play = Play::of(3, session(3, 3, 1 << 25));
        play.seed = seed;
        play.inputs = Box::new(|number| vec![level(number); 1 << 25]);
        let mut outcome = play.run();
        outcome.assert_exact();
        let mut sum = vec![0; 1 << 25];
        outcome.uploads.values().for_each(|upload| add(&mut sum, upload));
        all.extend(outcome.uploads.remove(&0).unwrap());
    }
    assert!(all.len() >= 100_000_000);
    for (name, score) in scores(&all) {
        assert!(score < CHANCE, "{name}: {score}");
    }
}

#[test]
#[ignore = "minutes: ci/leaks runs it"]
fn who_has_which_input_is_not_learned_from_ten_thousand_rounds() {
    for late in [false, true] {
        let score = guessed(10_000, Weakness::None, late);
        assert!(score < CHANCE, "{score}");
    }
}
