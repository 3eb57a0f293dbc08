//! The tasks of this server, by name.

use crate::{
    clock,
    store::{NewTask, StoreError},
    task::{Driver, Handle, Services, plan},
};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use testudo_engine::TaskSpec;
use testudo_protocol::{Digest, Layout, Model, Reason, Reject, TaskName};
use tokio::sync::Semaphore;

/// Every task and its driver.
#[derive(Debug, Clone)]
pub(crate) struct Registry {
    pub(crate) services: Services,
    tasks: Arc<RwLock<BTreeMap<TaskName, Handle>>>,
    /// Tasks are created one at a time: each holds its model in memory.
    pub(crate) creating: Arc<Semaphore>,
}

impl Registry {
    /// Takes up every task of the ledger.
    pub(crate) async fn load(services: Services) -> Result<Self, String> {
        let rows = services.store.tasks().await.map_err(|error| error.to_string())?;
        let registry = Self { services, tasks: Arc::default(), creating: Arc::new(Semaphore::new(1)) };
        for row in rows {
            let name = row.name.clone();
            match Driver::load(registry.services.clone(), row).await {
                Ok(driver) => registry.insert(name, Handle::spawn(driver)),
                // One task that cannot be read does not take the others down.
                Err(error) => tracing::error!(task = %name, error, "cannot take the task up"),
            }
        }
        Ok(registry)
    }

    pub(crate) fn get(&self, name: &TaskName) -> Result<Handle, Reject> {
        let tasks = self.tasks.read().unwrap_or_else(PoisonError::into_inner);
        tasks.get(name).cloned().ok_or_else(|| Reject::new(Reason::NotFound, format!("no task {name}")))
    }

    /// Creates a task and starts its driver.
    pub(crate) async fn create(&self, toml: String, file: Bytes) -> Result<TaskName, Reject> {
        let spec = TaskSpec::new("task.toml", &toml).map_err(|error| Reject::new(Reason::Spec, error.to_string()))?;
        let layout = check_model(file.clone()).await?;
        spec.check_layout("task.toml", &layout).map_err(|error| Reject::new(Reason::Spec, error.to_string()))?;
        if self.services.config.exposes_samples(&spec) {
            return Err(Reject::new(
                Reason::Spec,
                format!("privacy.sampling: {IMPOSTORS}, or write sampling = \"none\""),
            ));
        }
        let privacy = plan(&spec);
        let name = spec.name;
        let taken = || Reject::new(Reason::Exists, format!("a task {name} is there already; choose another name"));
        {
            let tasks = self.tasks.read().unwrap_or_else(PoisonError::into_inner);
            if tasks.contains_key(&name) {
                return Err(taken());
            }
            if tasks.len() >= self.services.config.limits.tasks {
                let detail = format!("{} tasks are the limit; see tasks in [limits]", tasks.len());
                return Err(Reject::new(Reason::Overloaded, detail));
            }
        }
        let fault = |error: String| {
            tracing::error!(task = %name, error, "cannot create a task");
            Reject::retry(Reason::Overloaded, "the server cannot write the task now", Duration::from_secs(5))
        };
        let gate = self.services.blob_gate.clone().read_owned().await;
        let digest: Digest = self.services.blobs.put(file).await.map_err(|error| fault(error.to_string()))?;
        let task = NewTask { name: name.clone(), toml, model: digest, privacy, at: clock::now() };
        self.services.store.create_task(task).await.map_err(|error| match error {
            StoreError::Exists { .. } => taken(),
            StoreError::Exhausted(exhausted) => Reject::new(Reason::PrivacyBudgetExhausted, exhausted.to_string()),
            refused @ StoreError::WrongState { .. } => Reject::new(Reason::Spec, refused.to_string()),
            other => fault(other.to_string()),
        })?;
        drop(gate);
        let row = self.services.store.task(&name).await.map_err(|error| fault(error.to_string()))?;
        let driver = Driver::load(self.services.clone(), row).await.map_err(fault)?;
        self.insert(name.clone(), Handle::spawn(driver));
        tracing::info!(task = %name, "task created");
        Ok(name)
    }

    /// Stops every driver; open rounds stay open in the ledger.
    pub(crate) async fn shutdown(&self) {
        let handles: Vec<Handle> =
            self.tasks.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for handle in handles {
            handle.shutdown().await;
        }
    }

    fn insert(&self, name: TaskName, handle: Handle) {
        self.tasks.write().unwrap_or_else(PoisonError::into_inner).insert(name, handle);
    }
}

/// Why nobody is sampled in secret here.
pub(crate) const IMPOSTORS: &str = "whoever calls under a client's name hears whether it was drawn, and these clients are not authenticated: serve with mTLS";

/// Reads the model once, off the runtime: a large one takes seconds.
async fn check_model(file: Bytes) -> Result<Layout, Reject> {
    let layout = move || Model::from_safetensors(&file).map(|model| model.layout().clone());
    let read = tokio::task::spawn_blocking(layout).await;
    let read = read.map_err(|error| Reject::new(Reason::Spec, error.to_string()))?;
    read.map_err(|error| Reject::new(Reason::Spec, error.to_string()))
}
