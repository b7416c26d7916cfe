//! `/healthz`, `/readyz`, `/metrics`.

use crate::metrics::Metrics;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use std::sync::Arc;
use taskyard_common::store::Store;
use tokio::net::TcpListener;

#[derive(Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    store: Store,
}

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener, metrics: Arc<Metrics>, store: Store) {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(Shared { metrics, store });
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "health and metrics are no longer served");
    }
}

/// Alive: the engine has turned within the last seconds.
async fn healthz(State(shared): State<Shared>) -> impl IntoResponse {
    match shared.metrics.is_alive() {
        true => (StatusCode::OK, "alive\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the engine has not turned for 10 s\n"),
    }
}

/// Of use: connected to RabbitMQ and Redis; a leader also has seen dead-lettering work.
async fn readyz(State(shared): State<Shared>) -> impl IntoResponse {
    if !shared.metrics.is_ready() {
        return (StatusCode::SERVICE_UNAVAILABLE, "no session with RabbitMQ\n");
    }
    if shared.store.ping().await.is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "Redis does not answer\n");
    }
    match shared.metrics.is_leading() {
        true => (StatusCode::OK, "leading\n"),
        false => (StatusCode::OK, "standing by\n"),
    }
}

async fn scrape(State(shared): State<Shared>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], shared.metrics.encode())
}
