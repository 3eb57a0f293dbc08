use super::*;

const KEY: [u8; 32] = *b"one key among many, 32 bytes long";

fn streams() -> [(&'static str, Stream); 4] {
    [
        ("aes", Stream::aes(&KEY)),
        ("narrow aes", Stream::narrow_aes(&KEY)),
        ("chacha20", Stream::chacha(&KEY)),
        ("narrow chacha20", Stream::narrow_chacha(&KEY)),
    ]
}
