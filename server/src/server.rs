//! Starting and stopping a server.

use crate::{
    accept::{Acceptor, bind},
    blobs::Blobs,
    clock,
    config::{Config, Medium},
    grpc::{AdminService, FederationService},
    identity,
    memory::Budget,
    pool::Pool,
    rate::CheckIns,
    registry::Registry,
    spool::Spool,
    store::{self, Location, batch::Batcher},
    task::Services,
    telemetry::Metrics,
    tls::{TlsError, TlsSource},
    web,
};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use testudo_proto::{
    FILE_DESCRIPTOR_SET, framing,
    v1::{admin_server::AdminServer, federation_server::FederationServer},
};
use testudo_protocol::TaskName;
use tokio::{
    sync::{Semaphore, broadcast},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;

/// A running server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    web: Option<SocketAddr>,
    registry: Registry,
    ready: Arc<AtomicBool>,
    health: HealthReporter,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be used.
    #[error("{0}")]
    Listen(#[from] io::Error),
    /// Certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The ledger, the models or the spool cannot be opened.
    #[error("{what}: {detail}")]
    Storage {
        /// Which.
        what: &'static str,
        /// Why, and what to do.
        detail: String,
    },
}

impl Server {
    /// Opens the storage, takes up every task, and listens.
    ///
    /// # Errors
    /// [`StartError`] says which part could not start. Nothing keeps running then.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let tls = config.tls.as_ref().map(TlsSource::load).transpose()?;
        let listener = bind("gRPC", config.listen.address).await?;
        let address = listener.local_addr()?;
        let web_listener = match config.listen.web {
            None => None,
            Some(address) => Some(bind("the web listener", address).await?),
        };
        let web = web_listener.as_ref().map(tokio::net::TcpListener::local_addr).transpose()?;
        for warning in crate::grpc::warnings(&config) {
            tracing::warn!("{warning}");
        }
        let (stop, ready) = (CancellationToken::new(), Arc::new(AtomicBool::new(true)));
        let services = open_services(config.clone(), stop.clone()).await?;
        let metrics = services.metrics.clone();
        let registry = Registry::load(services).await.map_err(|detail| storage("ledger", detail))?;
        let (routes, health) = routes(&registry).await?;
        let (limits, accept_metrics) = (config.limits.clone(), metrics.clone());
        let acceptor = Acceptor { listener, tls: tls.clone(), limits, routes, metrics: accept_metrics };
        let mut tasks = vec![tokio::spawn(acceptor.run(stop.clone()))];
        if let Some(listener) = web_listener {
            tasks.push(tokio::spawn(web::serve(listener, metrics, ready.clone(), stop.clone())));
        }
        if let Some(tls) = tls {
            tasks.push(tokio::spawn(tls.watch(stop.clone())));
        }
        tracing::info!(%address, transport = config.transport(), "listening");
        Ok(Self { address, web, registry, ready, health, stop, tasks })
    }

    /// Where gRPC listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where `/metrics` and the health pages are.
    pub fn web_address(&self) -> Option<SocketAddr> {
        self.web
    }

    /// Stops: unready, no new connections, held check-ins answered, calls under way given some time. Open rounds stay
    /// open in the ledger and go on at the next start.
    pub async fn stop(self) {
        self.ready.store(false, Ordering::Relaxed);
        self.health.set_not_serving::<FederationServer<FederationService>>().await;
        self.health.set_not_serving::<AdminServer<AdminService>>().await;
        tracing::info!("stopping");
        self.stop.cancel();
        self.registry.shutdown().await;
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a part of the server ended badly");
            }
        }
        self.registry.services.batcher.shutdown().await;
        self.registry.services.store.close().await;
    }
}

async fn open_services(config: Arc<Config>, stop: CancellationToken) -> Result<Services, StartError> {
    let directory = &config.storage.data_dir;
    let on_disk = config.storage.ledger == Medium::File || config.storage.spool == Medium::File;
    if on_disk {
        // Updates, nonces and models lie there: for its owner alone.
        crate::spool::create_private(directory)
            .map_err(|error| storage("data_dir", format!("{}: {error}", directory.display())))?;
    }
    let location = match config.storage.ledger {
        Medium::Memory => Location::Memory,
        Medium::File => Location::File(directory.join("ledger.sqlite")),
    };
    let store = store::open(&location).await.map_err(|error| storage("ledger", error.to_string()))?;
    let blobs = match config.storage.ledger {
        Medium::Memory => Blobs::memory(),
        Medium::File => Blobs::local(directory).map_err(|error| storage("models", error.to_string()))?,
    };
    let spool = match config.storage.spool {
        Medium::Memory => Spool::memory(),
        Medium::File => Spool::local(&directory.join("spool")).map_err(|error| storage("spool", error.to_string()))?,
    };
    let identity = match config.storage.ledger {
        Medium::Memory => identity::random(),
        Medium::File => identity::load_or_create(directory).map_err(|detail| storage("identity", detail))?,
    };
    sweep(&*store, &spool).await?;
    let pool = Pool::new().map_err(|error| StartError::Listen(io::Error::other(error)))?;
    let budget = Budget::new(config.limits.upload_memory_bytes);
    let (ended, _) = broadcast::channel::<(TaskName, u64)>(256);
    let batcher = Batcher::spawn(store.clone());
    let openings = (config.limits.upload_memory_bytes / framing::MESSAGE_BYTES as u64).max(4) as usize;
    let check_ins = Arc::new(CheckIns::new(&config));
    Ok(Services {
        config,
        store,
        batcher,
        spool,
        blobs,
        identity: Arc::new(identity),
        pool,
        budget,
        metrics: Metrics::new(),
        check_ins,
        blob_gate: Arc::default(),
        openings: Arc::new(Semaphore::new(openings)),
        ended,
        stop,
    })
}

/// Deletes what rounds that ended while no server ran have left in the spool.
async fn sweep(store: &dyn store::Store, spool: &Spool) -> Result<(), StartError> {
    let mut live = Vec::new();
    for task in store.tasks().await.map_err(|error| storage("ledger", error.to_string()))? {
        let open = store.open_round_of(&task.name).await.map_err(|error| storage("ledger", error.to_string()))?;
        live.extend(open.map(|round| crate::task::round_prefix(&task.name, round.number)));
    }
    spool.sweep(&live).await.map_err(|error| storage("spool", error.to_string()))
}

async fn routes(registry: &Registry) -> Result<(Routes, HealthReporter), StartError> {
    let federation = FederationServer::new(FederationService { registry: registry.clone() })
        .max_decoding_message_size(framing::MESSAGE_BYTES)
        .max_encoding_message_size(framing::MESSAGE_BYTES.max(framing::REPLY_BYTES));
    let admin = AdminServer::new(AdminService { registry: registry.clone(), started_at: clock::now() })
        .max_decoding_message_size(framing::MESSAGE_BYTES)
        .max_encoding_message_size(64 << 20);
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<FederationServer<FederationService>>().await;
    reporter.set_serving::<AdminServer<AdminService>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| StartError::Listen(io::Error::other(error)))?;
    let routes = Routes::new(federation).add_service(admin).add_service(health).add_service(reflection).prepare();
    Ok((routes, reporter))
}

fn storage(what: &'static str, detail: String) -> StartError {
    StartError::Storage { what, detail }
}

#[cfg(test)]
mod tests;
