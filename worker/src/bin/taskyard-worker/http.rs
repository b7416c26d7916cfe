//! `/healthz` and `/readyz`, where somebody asks for them.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use taskyard_worker::Health;
use tokio::net::TcpListener;
use tracing::error;

type Answer = (StatusCode, &'static str);

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener, health: Health) {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(health);
    if let Err(error) = axum::serve(listener, router).await {
        error!(%error, "health is no longer served");
    }
}

async fn healthz(State(health): State<Health>) -> Answer {
    match health.is_alive() {
        true => (StatusCode::OK, "alive\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the engine has not turned for 10 s\n"),
    }
}

async fn readyz(State(health): State<Health>) -> Answer {
    if !health.is_alive() {
        return healthz(State(health)).await;
    }
    match health.is_ready() {
        true => (StatusCode::OK, "taking tasks\n"),
        false => (
            StatusCode::SERVICE_UNAVAILABLE,
            "no tasks arrive: draining, no session with RabbitMQ, or no dispatcher\n",
        ),
    }
}
