// SPDX-License-Identifier: Apache-2.0
//! Health and metrics over TCP, on the paths and ports that kube-proxy uses.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tracing::{error, info};

use super::state::StateSource;

/// Pause between attempts to listen on an address that is taken.
const RETRY: Duration = Duration::from_secs(5);
/// The content type that `prometheus-client` writes.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The answer to `/proxyMode`. Ours, not `iptables`: tools that ask want to know whose rules to read.
const PROXY_MODE: &str = "pintle";

/// `/healthz`, `/livez` and `/readyz`, by default on port 10256.
#[derive(Debug)]
pub struct HealthServer;

impl HealthServer {
    /// Serves until the future is dropped. A taken address is reported and tried again; the agent
    /// goes on without.
    pub async fn run(address: SocketAddr, source: Arc<dyn StateSource>) {
        listen(address, "healthz", health_routes(source)).await;
    }
}

/// `/metrics`, `/healthz` and `/proxyMode`, by default on port 10249.
#[derive(Debug)]
pub struct MetricsServer;

impl MetricsServer {
    /// Serves until the future is dropped. A taken address is reported and tried again; the agent
    /// goes on without.
    pub async fn run(address: SocketAddr, registry: Arc<Registry>) {
        listen(address, "metrics", metrics_routes(registry)).await;
    }
}

async fn listen(address: SocketAddr, what: &str, routes: Router) {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                info!(%address, what, "listening");
                if let Err(error) = axum::serve(listener, routes.clone()).await {
                    error!(%address, what, %error, "the server ended; trying again");
                }
            }
            Err(error) => error!(%address, what, %error, "cannot listen; trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn health_routes(source: Arc<dyn StateSource>) -> Router {
    async fn ready(State(source): State<Arc<dyn StateSource>>) -> Response {
        let readiness = source.readiness();
        let code = if readiness.synced { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (code, Json(readiness)).into_response()
    }
    // As kube-proxy: load balancers read /healthz to decide whether to send traffic here, so it
    // follows readiness; the kubelet reads /livez to decide whether to restart.
    Router::new()
        .route("/healthz", get(ready))
        .route("/readyz", get(ready))
        .route("/livez", get(async || "ok"))
        .with_state(source)
}

fn metrics_routes(registry: Arc<Registry>) -> Router {
    async fn metrics(State(registry): State<Arc<Registry>>) -> Response {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &registry) {
            Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    }
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok"))
        .route("/proxyMode", get(async || PROXY_MODE))
        .with_state(registry)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::{
        super::state::{Names, Readiness, Status},
        *,
    };

    #[derive(Default)]
    struct Fake(AtomicBool);

    impl StateSource for Fake {
        fn readiness(&self) -> Readiness {
            Readiness { revision: 7, synced: self.0.load(Ordering::Relaxed) }
        }
        fn status(&self) -> Status {
            Status::default()
        }
        fn names(&self) -> Names {
            Names::default()
        }
    }

    async fn get_path(address: SocketAddr, path: &str) -> (u16, String) {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (code, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    async fn serve(routes: Router) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        address
    }

    #[tokio::test]
    async fn readiness_follows_the_agent_and_liveness_does_not() {
        let fake = Arc::new(Fake::default());
        let address = serve(health_routes(fake.clone())).await;
        let body = r#"{"revision":7,"synced":false}"#;
        assert_eq!(get_path(address, "/readyz").await, (503, body.into()));
        assert_eq!(get_path(address, "/healthz").await.0, 503);
        assert_eq!(get_path(address, "/livez").await, (200, "ok".into()));
        fake.0.store(true, Ordering::Relaxed);
        assert_eq!(get_path(address, "/readyz").await.0, 200);
    }

    #[tokio::test]
    async fn metrics_are_encoded_from_the_registry() {
        let mut registry = Registry::default();
        let metric = prometheus_client::metrics::counter::Counter::<u64>::default();
        metric.inc();
        registry.register("things", "Things counted", metric);
        let address = serve(metrics_routes(Arc::new(registry))).await;
        let (code, body) = get_path(address, "/metrics").await;
        assert_eq!(code, 200);
        assert!(body.contains("things_total 1"), "{body}");
        assert_eq!(get_path(address, "/proxyMode").await, (200, "pintle".into()));
    }
}
