//! What the server writes to its log. In a process of its own, because there is one log in each.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "server/common.rs"]
mod common;

use common::*;
use std::{
    io::Write,
    sync::{Arc, Mutex},
};
use testudo_proto::framing;
use testudo_protocol::Reason;
use tracing_subscriber::fmt::MakeWriter;

/// Everything that was written.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_line_of_the_log_holds_a_payload_or_a_nonce() {
    let lines = Lines::default();
    // All there is of ours; the transport's own frames are the operator's choice to log.
    let filter = "testudo_server=trace,testudo_engine=trace,testudo_proto=trace,testudo_protocol=trace";
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(lines.clone()).init();
    let directory = tempfile::tempdir().unwrap();
    for host in [Host::start().await, Host::on(directory.path(), |_| {}).await] {
        host.create(&task_toml("logged", 1, "size = 3\nminimum = 2", "kind = \"mean\"", ""), &small_model(4)).await;
        let seats = host.seats("logged", &["a", "b", "nan"]).await;
        // Readable wherever it is printed: the bytes of this number are SECR.
        let secret = f32::from_le_bytes(*b"SECR");
        let payload = framing::payload(&vec![secret; seats[0].dimension()]);
        assert_eq!(reason(seats[2].send(with_value(&seats[2], f32::NAN, 0)).await), Reason::NonFinite);
        let stolen = Seat {
            place: testudo_proto::Place { nonce: seats[1].place.nonce, ..seats[0].place.clone() },
            ..seats[0].clone()
        };
        assert_eq!(reason(stolen.submit().await), Reason::NotInCohort);
        for seat in &seats[..2] {
            seat.send(seat.parts(&payload, |_| {})).await.unwrap();
        }
        assert_eq!(host.ended("logged", 1).await.state, "released");
        host.stop().await;
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(
            text.contains("round opened") && text.contains("update rejected") && text.contains("round ended"),
            "{text}"
        );
        assert!(!text.contains("SECR") && !text.contains(&secret.to_string()), "a payload in the log");
        for seat in &seats {
            let nonce = seat.place.nonce.0;
            let (hexadecimal, list) = (hex::encode(nonce), format!("{nonce:?}"));
            assert!(
                !text.contains(&hexadecimal) && !text.contains(list.trim_matches(['[', ']'])),
                "a nonce in the log"
            );
        }
    }
}
