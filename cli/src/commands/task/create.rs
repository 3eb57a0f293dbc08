//! `testudo task create`.

use super::{check::Files, describe, object};
use crate::{connection::Connection, exit::Failure, output::Output, progress};
use bytes::Bytes;
use clap::Args;
use serde_json::json;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use testudo_proto::{CreateTaskHeader, CreateTaskPart, framing};
use testudo_protocol::{Reason, limits};

/// Arguments of `testudo task create`.
#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    connection: Connection,
}

impl Create {
    /// Checks both files here, then sends them.
    ///
    /// # Errors
    /// What is wrong with the files, and what the server refuses.
    pub(super) async fn run(self, output: &Output) -> Result<(), Failure> {
        let checked = self.files.check(true)?;
        let fit = checked.fit(None);
        let (bytes, digest) = match checked.model {
            Some(model) => (Bytes::from(model.bytes), model.digest),
            // `check(true)` has failed without a model.
            None => return Ok(()),
        };
        let admin = self.connection.open(output).await?;
        let header = CreateTaskHeader { toml: checked.text, model_bytes: bytes.len() as u64, model_digest: digest };
        let bar = progress::transfer(output, "model", bytes.len() as u64);
        let sent = Arc::new(AtomicU64::new(0));
        let (moved, shown) = (Arc::clone(&sent), bar.clone());
        let chunks = framing::chunks(bytes, limits::CHUNK_BYTES).map(move |chunk| {
            moved.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            shown.inc(chunk.len() as u64);
            CreateTaskPart::Chunk(chunk).to_wire()
        });
        let parts = std::iter::once(CreateTaskPart::Header(header).to_wire()).chain(chunks);
        let mut client = admin.client();
        let call = client.create_task(tokio_stream::iter(parts));
        let answer = admin.answer_while_moving("cannot create the task", &sent, call).await;
        bar.finish_and_clear();
        let task = answer.map_err(|failure| match failure.code == Reason::PrivacyBudgetExhausted.code() {
            true => failure.next(fit),
            false => failure,
        })?;
        output.result(json!({ "task": object(&task) }), |output| describe(&task, output))?;
        if !output.json {
            output
                .note(&format!("next: `testudo round watch {}`; clients join with `testudo join`", checked.spec.name));
        }
        Ok(())
    }
}
