use proptest::prelude::*;
use serde_json::Value;

use super::*;

const CIPHERS: [Cipher; 2] = [Cipher::Aes256Ctr, Cipher::ChaCha20];

fn mask(key: [u8; 32], cipher: Cipher, sign: Sign) -> Mask {
    Mask { key: MaskKey::new(key), cipher, sign }
}

/// A stretch of a stream, by its bytes from the very start.
fn naive(key: [u8; 32], cipher: Cipher, first: usize, length: usize) -> Vec<u32> {
    let mut bytes = vec![0; 4 * (first + length)];
    KeyStream::new(&MaskKey::new(key), cipher).fill(&mut bytes);
    bytes[4 * first..].chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

fn stretch(key: [u8; 32], cipher: Cipher, first: usize, length: usize) -> Vec<u32> {
    let mut words = vec![0; length];
    apply_masks(&mut words, first, &[mask(key, cipher, Sign::Add)]).unwrap();
    words
}

#[test]
fn the_streams_are_those_of_the_reference() {
    let vectors: Value = serde_json::from_str(include_str!("../../vectors/secure_aggregation.json")).unwrap();
    for case in vectors["streams"].as_array().unwrap() {
        let text = case["key"].as_str().unwrap();
        let key = std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap());
        let first = case["first"].as_u64().unwrap() as usize;
        for (name, cipher) in [("aes", Cipher::Aes256Ctr), ("chacha20", Cipher::ChaCha20)] {
            let expected: Vec<u32> =
                case[name].as_array().unwrap().iter().map(|word| word.as_u64().unwrap() as u32).collect();
            assert_eq!(stretch(key, cipher, first, expected.len()), expected, "{name} from {first}");
        }
    }
}

#[test]
fn chacha20_of_the_zero_key_starts_as_in_rfc_8439() {
    // Section A.1, test vectors 1 and 2: the first words of blocks 0 and 1.
    let words = stretch([0; 32], Cipher::ChaCha20, 0, 20);
    assert_eq!(words[..4], [0xade0_b876, 0x903d_f1a0, 0xe56a_5d40, 0x28bd_8653]);
    assert_eq!(words[16..], [0xbee7_079f, 0x7a38_5155, 0x7c97_ba98, 0x0d08_2d73]);
}

#[test]
fn aes_of_the_zero_block_is_the_published_one() {
    // The AES algorithm validation suite, KeySbox, AES-256 of the zero block: 46f2fb34 2d6f0ab4 77476fc5 01242c5f.
    let hex = "c47b0294dbbbee0fec4757f22ffeee3587ca4730c3d33b691df38bab076bc558";
    let key = std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap());
    assert_eq!(stretch(key, Cipher::Aes256Ctr, 0, 4), [0x34fb_f246, 0xb40a_6f2d, 0xc56f_4777, 0x5f2c_2401]);
}

#[test]
fn every_stretch_is_that_part_of_the_whole_stream_at_every_length_and_start() {
    for cipher in CIPHERS {
        for start in 0..20 {
            for length in 0..130 {
                let expected = naive([9; 32], cipher, start, length);
                assert_eq!(stretch([9; 32], cipher, start, length), expected, "{cipher:?} {start} {length}");
            }
        }
    }
}

#[test]
fn tiles_and_threads_cannot_be_seen() {
    let masks: Vec<Mask> = (0..5)
        .map(|i| mask([i; 32], CIPHERS[usize::from(i % 2)], if i < 3 { Sign::Add } else { Sign::Subtract }))
        .collect();
    let length = 3 * TILE + 77;
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut sum = vec![7; length];
        pool.install(|| apply_masks(&mut sum, 13, &masks)).unwrap();
        sum
    };
    let whole = run(1);
    assert_eq!(run(3), whole);
    let mut pieces = vec![7; length];
    let mut first = 0;
    for cut in [1, 5, 16, 4099, TILE + 3, length] {
        let end = (first + cut).min(length);
        apply_masks(&mut pieces[first..end], 13 + first, &masks).unwrap();
        first = end;
    }
    assert_eq!(pieces, whole);
    let expected = naive([0; 32], CIPHERS[0], 13 + length - 1, 1)[0]
        .wrapping_add(naive([1; 32], CIPHERS[1], 13 + length - 1, 1)[0])
        .wrapping_add(naive([2; 32], CIPHERS[0], 13 + length - 1, 1)[0])
        .wrapping_sub(naive([3; 32], CIPHERS[1], 13 + length - 1, 1)[0])
        .wrapping_sub(naive([4; 32], CIPHERS[0], 13 + length - 1, 1)[0])
        .wrapping_add(7);
    assert_eq!(whole[length - 1], expected);
}

#[test]
fn every_bit_of_the_key_changes_the_stream() {
    for cipher in CIPHERS {
        let mut seen = std::collections::HashSet::new();
        assert!(seen.insert(stretch([0x5A; 32], cipher, 0, 4)));
        for bit in 0..256 {
            let mut key = [0x5A; 32];
            key[bit / 8] ^= 1 << (bit % 8);
            assert!(seen.insert(stretch(key, cipher, 0, 4)), "{cipher:?}, bit {bit}");
        }
    }
}

#[test]
fn words_reach_both_ends_of_the_ring() {
    for cipher in CIPHERS {
        let words = stretch([1; 32], cipher, 0, 1 << 20);
        // 2^20 words miss the lowest or highest 2^16 of 2^32 values with probability e^-16.
        assert!(words.iter().any(|word| *word < 1 << 16));
        assert!(words.iter().any(|word| *word >= u32::MAX << 16));
    }
}

#[test]
fn a_mask_ends_after_its_last_coordinate() {
    let (last, masks) = ((MOST_COORDINATES - 3) as usize, [mask([2; 32], Cipher::ChaCha20, Sign::Add)]);
    assert_eq!(apply_masks(&mut [0; 3], last, &masks), Ok(()));
    let mut sum = [5; 4];
    let refused = Err(MaskError::TooLong { first_coordinate: last, coordinates: 4 });
    assert_eq!(apply_masks(&mut sum, last, &masks), refused);
    assert_eq!(sum, [5; 4]);
    assert!(apply_masks(&mut sum, usize::MAX, &masks).is_err());
}

#[test]
fn random_bytes_come_in_pieces_of_any_length() {
    for cipher in CIPHERS {
        let mut whole = [0; 3000];
        KeyStream::new(&MaskKey::new([3; 32]), cipher).fill(&mut whole);
        let mut stream = KeyStream::new(&MaskKey::new([3; 32]), cipher);
        let mut start = 0;
        for length in (0..70).chain([100, 1, 200, 64, 0, 128]) {
            let mut piece = vec![0; length];
            stream.fill(&mut piece);
            assert_eq!(piece, whole[start..start + length]);
            start += length;
        }
    }
}

proptest! {
    #[test]
    fn a_mask_added_and_subtracted_is_gone(
        key: [u8; 32],
        first in 0..1_000_000_usize,
        start in proptest::collection::vec(any::<u32>(), 0..300),
        chacha: bool,
    ) {
        let cipher = CIPHERS[usize::from(chacha)];
        let mut sum = start.clone();
        apply_masks(&mut sum, first, &[mask(key, cipher, Sign::Add)]).unwrap();
        prop_assert!(start.len() < 4 || sum != start);
        apply_masks(&mut sum, first, &[mask(key, cipher, Sign::Subtract)]).unwrap();
        prop_assert_eq!(sum, start);
    }
}
