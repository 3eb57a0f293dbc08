//! HTTP beside gRPC: `/metrics`, `/healthz` and `/readyz`. The dashboard will join here.

use crate::telemetry::Metrics;
use axum::{Router, extract::State, http::StatusCode, routing::get};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long requests under way may take after a stop.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Clone)]
struct Web {
    metrics: Metrics,
    ready: Arc<AtomicBool>,
}

/// Serves until cancelled.
pub(crate) async fn serve(listener: TcpListener, metrics: Metrics, ready: Arc<AtomicBool>, stop: CancellationToken) {
    let router = Router::new()
        .route("/metrics", get(|State(web): State<Web>| async move { web.metrics.text() }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .with_state(Web { metrics, ready });
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned()).into_future();
    // A request that never ends must not hold up a stop.
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        result = served => if let Err(error) = result {
            tracing::error!(%error, "the web listener ended");
        },
        () = late => tracing::debug!("a scrape did not end in time"),
    }
}

async fn readiness(State(web): State<Web>) -> (StatusCode, &'static str) {
    match web.ready.load(Ordering::Relaxed) {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    }
}
