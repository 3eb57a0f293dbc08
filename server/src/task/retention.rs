//! Which models are kept, and when the others go.

use super::{Driver, Services};
use testudo_protocol::Digest;

impl Driver {
    /// Deletes the models of rounds that are further back than the configuration keeps.
    pub(super) async fn forget_old_models(&mut self, number: u64) {
        let keep = self.services.config.storage.keep_models;
        let Some(last) = number.checked_sub(keep).filter(|_| keep > 0) else { return };
        for old in self.forgotten + 1..=last {
            if let Ok(round) = self.services.store.round(&self.row.name, old).await
                && let Some(digest) = round.model
            {
                self.forget(digest).await;
            }
        }
        self.forgotten = self.forgotten.max(last);
    }

    /// Deletes a blob, unless some task or kept round still refers to the same content.
    pub(super) async fn forget(&self, digest: Digest) {
        let Services { store, blobs, config, blob_gate, .. } = &self.services;
        let _gate = blob_gate.write().await;
        let deleted = match store.refers(&digest, config.storage.keep_models).await {
            Ok(true) => return,
            Ok(false) => blobs.delete(&digest).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = deleted {
            tracing::warn!(error, "an old model or optimiser state stays behind");
        }
    }
}
