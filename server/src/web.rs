//! HTTP beside gRPC: `/metrics`, `/healthz` and `/readyz`. The dashboard will join here.

use crate::telemetry::Metrics;
use axum::{Router, extract::State, http::StatusCode, routing::get};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

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
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await {
        tracing::error!(%error, "the web listener ended");
    }
}

async fn readiness(State(web): State<Web>) -> (StatusCode, &'static str) {
    match web.ready.load(Ordering::Relaxed) {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    }
}
