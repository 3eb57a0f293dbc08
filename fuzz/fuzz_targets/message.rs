//! Whatever reads as a message is written the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use testudo_protocol::secagg::Message;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = Message::from_bytes(bytes) {
        assert_eq!(message.to_bytes(), bytes);
    }
});
