//! Whatever reads as an announcement is written the same, and so is what reads but for its signature.
#![no_main]

use libfuzzer_sys::fuzz_target;
use testudo_protocol::secagg::Announcement;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(announcement) = Announcement::from_bytes(bytes) {
        assert_eq!(announcement.to_bytes(), bytes);
    }
});
