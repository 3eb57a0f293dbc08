use super::*;

const KEY: [u8; 32] = *b"a key among many: 32 bytes long.";

fn streams() -> [(&'static str, Stream); 4] {
    [
        ("aes", Stream::aes(&KEY)),
        ("narrow aes", Stream::narrow_aes(&KEY)),
        ("chacha20", Stream::chacha(&KEY)),
        ("narrow chacha20", Stream::narrow_chacha(&KEY)),
    ]
}

fn applied(stream: &Stream, first: u64, length: usize, subtract: bool) -> Vec<u32> {
    let mut sum: Vec<u32> = (0..length as u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
    stream.apply(&mut sum, first, subtract, &mut Scratch::new());
    sum
}

#[test]
fn wide_and_narrow_registers_give_the_same_words() {
    let [aes, narrow_aes, chacha, narrow_chacha] = streams();
    for (wide, narrow) in [(aes, narrow_aes), (chacha, narrow_chacha)] {
        for first in (0..20).chain([4093, (1 << 36) - 40, (1 << 40) + 3]) {
            for length in (0..130).chain([1000, 2048, 5000]) {
                for subtract in [false, true] {
                    let expected = applied(&narrow.1, first, length, subtract);
                    assert_eq!(applied(&wide.1, first, length, subtract), expected, "{} {first} {length}", wide.0);
                }
            }
        }
    }
}

#[test]
fn the_counter_of_chacha20_carries_beyond_32_bits() {
    for (name, stream) in &streams()[2..] {
        let mut lines = [0; 40 * LINE];
        stream.write((1 << 32) - 20, &mut lines);
        for (index, line) in lines.chunks(LINE).enumerate() {
            let mut alone = [0; LINE];
            stream.write((1 << 32) - 20 + index as u64, &mut alone);
            assert_eq!(line, alone, "{name} {index}");
        }
        let mut start = [0; LINE];
        stream.write(0, &mut start);
        assert_ne!(start, lines[20 * LINE..21 * LINE], "{name}");
    }
}

#[test]
fn each_line_of_aes_is_four_blocks_encrypted_alone() {
    let cipher = Aes256Enc::new((&KEY).into());
    for (name, stream) in &streams()[..2] {
        let mut lines = [0; 33 * LINE];
        stream.write(7, &mut lines);
        for (counter, bytes) in (28_u64..).zip(lines.chunks(16)) {
            let mut block = Block::from([0; 16]);
            block[..8].copy_from_slice(&counter.to_le_bytes());
            cipher.encrypt_block(&mut block);
            assert_eq!(bytes, block.as_slice(), "{name} {counter}");
        }
    }
}
