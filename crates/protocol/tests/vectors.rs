//! The primitives of secure aggregation against the independent reference in `vectors/`.
#![allow(clippy::unwrap_used, reason = "a malformed vector fails the test")]

use serde_json::Value;
use std::sync::LazyLock;
use testudo_aggregate::{Cipher, Mask, MaskKey, Sign, apply_masks};
use testudo_protocol::{
    ClientId, Digest,
    secagg::{
        agreement::{Ends, Key, PublicKey, Refused, SecretKey, seed_commitment},
        assignment,
        graph::{Adversary, Graph, Parameters, complete_threshold},
        identity::{Certificate, Signature, SigningKey, VerifyingKey},
        merkle,
        seal::{Route, open, seal},
        shamir::{ShamirError, Share, Weights, decode, reconstruct, share_at},
        transcript::{Reader, Writer},
    },
};
use zeroize::Zeroizing;

static VECTORS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../vectors/primitives.json")).unwrap());

/// The cases of a part; never none.
fn cases(part: &str) -> &'static [Value] {
    list(&VECTORS[part])
}

fn list(value: &Value) -> &[Value] {
    let list = value.as_array().unwrap();
    assert!(!list.is_empty());
    list
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn number(value: &Value) -> u32 {
    value.as_u64().unwrap().try_into().unwrap()
}

fn numbers(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(text(value)).unwrap()
}

fn array<const LENGTH: usize>(value: &Value) -> [u8; LENGTH] {
    bytes(value).try_into().unwrap()
}

fn digest(value: &Value) -> Digest {
    Digest(array(value))
}

fn key(value: &Value) -> Key {
    Zeroizing::new(array(value)).into()
}

#[test]
fn transcripts_have_the_reference_encoding_and_read_back() {
    for case in cases("transcripts") {
        let fields = case["fields"].as_array().unwrap();
        let mut writer = Writer::new(text(&case["label"]));
        for field in fields {
            let value = &field["value"];
            writer = match text(&field["kind"]) {
                "u8" => writer.u8(number(value).try_into().unwrap()),
                "u32" => writer.u32(number(value)),
                "u64" => writer.u64(value.as_u64().unwrap()),
                "f64" => writer.f64(value.as_f64().unwrap()),
                "fixed" => writer.fixed(&bytes(value)),
                "bytes" => writer.bytes(&bytes(value)),
                "text" => writer.text(text(value)),
                kind => panic!("{kind}"),
            };
        }
        assert_eq!(writer.digest(), digest(&case["digest"]));
        let encoding = bytes(&case["encoding"]);
        assert_eq!(writer.finish(), encoding);

        let mut reader = Reader::new(&encoding);
        reader.label(case["label"].as_str().unwrap()).unwrap();
        for field in fields {
            let value = &field["value"];
            match text(&field["kind"]) {
                "u8" => assert_eq!(u32::from(reader.u8("x").unwrap()), number(value)),
                "u32" => assert_eq!(reader.u32("x").unwrap(), number(value)),
                "u64" => assert_eq!(reader.u64("x").unwrap(), value.as_u64().unwrap()),
                "f64" => assert_eq!(reader.f64("x").unwrap(), value.as_f64().unwrap()),
                "fixed" => assert_eq!(reader.fixed("x", bytes(value).len()).unwrap(), bytes(value)),
                "bytes" => assert_eq!(reader.bytes("x", bytes(value).len()).unwrap(), bytes(value)),
                _ => assert_eq!(reader.text("x", text(value).len()).unwrap(), text(value)),
            }
        }
        reader.end().unwrap();
    }
}

#[test]
fn both_ends_agree_on_the_reference_key_and_every_input_changes_it() {
    let mut keys = Vec::new();
    for case in cases("agreements") {
        let (ours, theirs) = (number(&case["our_place"]), number(&case["their_place"]));
        let (our_ends, their_ends) = match text(&case["ends"]) {
            "sending" => (Ends::Sending { ours, theirs }, Ends::Receiving { ours: theirs, theirs: ours }),
            "receiving" => (Ends::Receiving { ours, theirs }, Ends::Sending { ours: theirs, theirs: ours }),
            _ => (Ends::Pair { ours, theirs }, Ends::Pair { ours: theirs, theirs: ours }),
        };
        let (one, other) =
            (SecretKey::from_bytes(&array(&case["our_secret"])), SecretKey::from_bytes(&array(&case["their_secret"])));
        assert_eq!(one.public().0, array(&case["our_public"]));
        assert_eq!(other.public().0, array(&case["their_public"]));
        let (session, label) = (digest(&case["session"]), text(&case["label"]));
        let agreed = one.agree(&other.public(), &session, label, our_ends).unwrap();
        assert_eq!(hex::encode(agreed.as_bytes()), text(&case["key"]), "{}", case["what"]);
        assert_eq!(other.agree(&one.public(), &session, label, their_ends).unwrap(), agreed);
        assert!(!keys.contains(&agreed), "{}", case["what"]);
        keys.push(agreed);
    }
}

#[test]
fn weak_and_non_canonical_public_keys_are_refused() {
    let secret = SecretKey::from_bytes(&[0x55; 32]);
    let ends = Ends::Pair { ours: 0, theirs: 1 };
    for (part, refused) in [("small_order", Refused::NonContributory), ("not_canonical", Refused::NonCanonical)] {
        for key in list(&VECTORS["refused_public_keys"][part]) {
            let found = secret.agree(&PublicKey(array(key)), &Digest([0; 32]), "box", ends);
            assert_eq!(found.unwrap_err(), refused, "{key}");
            assert!(!PublicKey(array(key)).is_usable(), "{key}");
        }
    }
    assert!(secret.public().is_usable());
}

#[test]
fn self_mask_keys_and_commitments_are_the_references() {
    let mut keys = Vec::new();
    for case in cases("self_keys") {
        let (seed, session, place) = (array(&case["seed"]), digest(&case["session"]), number(&case["place"]));
        let found = Key::of_seed(&seed, &session, text(&case["label"]), place);
        assert!(found == key(&case["key"]) && !keys.contains(&found));
        keys.push(found);
        assert_eq!(seed_commitment(&seed, &session, place), digest(&case["commitment"]));
    }
}

#[test]
fn boxes_have_the_reference_bytes_and_open_only_unchanged() {
    for case in cases("boxes") {
        let opened = |case: &Value| {
            let (sender, receiver) = (number(&case["sender"]), number(&case["receiver"]));
            let route = Route { session: digest(&case["session"]), sender, receiver };
            open(&key(&case["key"]), &route, &bytes(&case["sealed"]))
        };
        let route = Route { session: digest(&case["session"]), sender: 3, receiver: 8 };
        let content = bytes(&case["content"]);
        assert_eq!(seal(key(&case["key"]), &route, &content), bytes(&case["sealed"]));
        assert_eq!(*opened(case).unwrap(), content);
        for refused in list(&case["refused"]) {
            assert!(opened(refused).is_err(), "{}", refused["what"]);
        }
    }
}

#[test]
fn mask_streams_are_the_references() {
    for case in cases("streams") {
        let key: [u8; 32] = array(&case["key"]);
        let cipher = match text(&case["cipher"]) {
            "chacha20" => Cipher::ChaCha20,
            _ => Cipher::Aes256Ctr,
        };
        for (expected, first) in [(&case["first_words"], 0), (&case["late_words"], case["late_word"].as_u64().unwrap())]
        {
            let expected = numbers(expected);
            // The kernel that masks and unmasks, from any coordinate on and in any pieces.
            for piece in [1, 3, 7, expected.len()] {
                let mut words = vec![5; expected.len()];
                for (at, words) in words.chunks_mut(piece).enumerate() {
                    let masks = [Mask { key: MaskKey::new(key), cipher, sign: Sign::Add }];
                    apply_masks(words, first as usize + at * piece, &masks).unwrap();
                }
                assert_eq!(words, expected.iter().map(|word| word.wrapping_add(5)).collect::<Vec<_>>());
                let masks = [Mask { key: MaskKey::new(key), cipher, sign: Sign::Subtract }];
                apply_masks(&mut words, first as usize, &masks).unwrap();
                assert!(words.iter().all(|word| *word == 5));
            }
        }
    }
}

#[test]
fn shares_are_the_references_and_rebuild_the_secret() {
    for case in cases("sharings") {
        let (secret, threshold, places) =
            (array(&case["secret"]), number(&case["threshold"]), numbers(&case["places"]));
        let random = bytes(&case["random"]);
        let mut source = &random[..];
        let mut draw = |out: &mut [u8]| {
            let (now, later) = source.split_at(out.len());
            out.copy_from_slice(now);
            source = later;
        };
        let shares = share_at(&secret, threshold, &places, &mut draw).unwrap();
        for (share, expected) in shares.iter().zip(list(&case["shares"])) {
            assert_eq!(hex::encode(*share.to_bytes()), text(expected), "{}", case["name"]);
            assert_eq!(&Share::from_bytes(&bytes(expected)).unwrap(), share);
        }
        let chosen: Vec<(u32, Share)> =
            numbers(&case["chosen"]).into_iter().map(|i| (places[i as usize], shares[i as usize].clone())).collect();
        assert_eq!(*reconstruct(&chosen, threshold).unwrap(), secret);
        let weights = Weights::new(&chosen.iter().map(|(place, _)| *place).collect::<Vec<_>>()).unwrap();
        assert_eq!(*weights.reconstruct(chosen.iter().map(|(_, share)| share)).unwrap(), secret);
    }
}

#[test]
fn shares_that_are_not_canonical_are_refused() {
    for share in cases("refused_shares") {
        assert_eq!(Share::from_bytes(&bytes(share)), Err(ShamirError::NotCanonical), "{share}");
    }
}

#[test]
fn wrong_shares_are_corrected_and_named() {
    for case in cases("decodings") {
        let shares: Vec<(u32, Share)> =
            (0..).zip(list(&case["shares"]).iter().map(|share| Share::from_bytes(&bytes(share)).unwrap())).collect();
        let secret: [u8; 32] = array(&case["secret"]);
        let decoded = decode(&shares, number(&case["threshold"]), &|candidate| candidate == &secret).unwrap();
        assert_eq!((*decoded.secret, decoded.bad), (secret, numbers(&case["bad"])));
    }
}

#[test]
fn neighbours_are_the_references() {
    for case in cases("graphs") {
        let count = number(&case["count"]);
        let graph = match case["degree"].as_u64() {
            Some(degree) => Graph::harary(count, degree.try_into().unwrap()).unwrap(),
            None => Graph::complete(count),
        };
        for (index, neighbours) in case["neighbours"].as_object().unwrap() {
            assert_eq!(graph.neighbours(index.parse().unwrap()), numbers(neighbours));
        }
    }
}

#[test]
fn degrees_and_thresholds_equal_those_of_exact_arithmetic() {
    for case in cases("parameters") {
        let rate = |name: &str| f64::from(number(&case[name])) / 100.0;
        let malicious = case["malicious"].as_bool().unwrap();
        let model = if malicious { Adversary::Malicious } else { Adversary::HonestButCurious };
        let found = Parameters::find(number(&case["count"]), rate("gamma_percent"), rate("delta_percent"), model);
        let expected = case["degree"].as_u64().map(|_| (number(&case["degree"]), number(&case["threshold"])));
        assert_eq!(found.ok().map(|found| (found.degree, found.threshold)), expected, "{case}");
    }
}

#[test]
fn thresholds_of_complete_graphs_are_the_references() {
    for case in cases("thresholds") {
        let configured = case["configured"].as_u64().map(|threshold| threshold.try_into().unwrap());
        let found = complete_threshold(number(&case["members"]), number(&case["group_size"]), configured);
        assert_eq!(found, Ok(number(&case["threshold"])), "{case}");
    }
}

#[test]
fn groups_are_the_references_and_every_client_finds_its_place() {
    for case in cases("assignments") {
        let (random, count, group_size) =
            (array(&case["server_random"]), number(&case["count"]), number(&case["group_size"]));
        assert_eq!(assignment::commitment(&random), digest(&case["server_commitment"]));
        let seed = assignment::seed(&digest(&case["session"]), &random, &digest(&case["advertise_root"]), count);
        assert_eq!(seed, digest(&case["seed"]));
        let groups: Vec<Vec<u32>> = list(&case["groups"]).iter().map(numbers).collect();
        assert_eq!(assignment::assign(&seed, count, group_size).unwrap(), groups);
        for (group, roster) in (0..).zip(&groups) {
            for (index, &position) in (0..).zip(roster) {
                let group_len = roster.len().try_into().unwrap();
                let place = assignment::Place { group, index, group_len };
                assert_eq!(assignment::place(&seed, count, group_size, position), Ok(place));
            }
        }
    }
}

#[test]
fn merkle_roots_and_paths_are_the_references_and_verify() {
    for case in cases("merkle_trees") {
        let leaves: Vec<Vec<u8>> = case["leaves"].as_array().unwrap().iter().map(bytes).collect();
        let tree = merkle::Tree::new(&leaves);
        assert_eq!(tree.root(), digest(&case["root"]));
        for ((index, leaf), path) in (0..).zip(&leaves).zip(case["paths"].as_array().unwrap()) {
            let path: Vec<Digest> = path.as_array().unwrap().iter().map(digest).collect();
            assert_eq!(tree.path(index), Some(path.clone()));
            assert_eq!(merkle::verify(&tree.root(), index, tree.count(), leaf, &path), Ok(()));
        }
    }
}

#[test]
fn certificates_are_the_references_and_forgeries_are_refused() {
    let part = &VECTORS["certificates"];
    let (authority, client) = (
        SigningKey::from_bytes(&array(&part["authority_secret"])),
        SigningKey::from_bytes(&array(&part["client_secret"])),
    );
    assert_eq!(authority.verifying_key().0, array(&part["authority"]));
    assert_eq!(&**client.to_text(), text(&part["client_text"]));
    let name = ClientId::new(text(&part["client"])).unwrap();
    let certificate = Certificate::issue(&authority, name, client.verifying_key()).unwrap();
    assert_eq!(certificate.key.to_string(), text(&part["key"]));
    assert_eq!(certificate.signature, Signature(array(&part["signature"])));
    assert_eq!(certificate.verify(&authority.verifying_key()), Ok(()));
    for case in list(&part["refused"]) {
        let forged = Certificate {
            client: ClientId::new(text(&case["client"])).unwrap(),
            key: VerifyingKey(array(&case["key"])),
            signature: Signature(array(&case["signature"])),
        };
        assert!(forged.verify(&VerifyingKey(array(&case["authority"]))).is_err(), "{}", case["what"]);
    }
    for key in list(&part["not_canonical_keys"]) {
        assert!(VerifyingKey(array(key)).check().is_err(), "{key}");
    }
}
