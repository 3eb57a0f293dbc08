//! Whatever reads as a reply is written the same. The first byte is the size of the reader's group.
#![no_main]

use libfuzzer_sys::fuzz_target;
use testudo_protocol::secagg::Reply;

fuzz_target!(|bytes: &[u8]| {
    let Some((members, bytes)) = bytes.split_first() else { return };
    if let Ok(reply) = Reply::from_bytes(bytes, usize::from(*members)) {
        assert_eq!(reply.to_bytes(), bytes);
    }
});
