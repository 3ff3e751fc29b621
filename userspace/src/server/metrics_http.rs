// SPDX-License-Identifier: Apache-2.0
//! The metrics server, by default on port 10249 of the loopback address: `/metrics`,
//! `/metrics/slis`, `/healthz`, `/proxyMode` and `/configz`.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use prometheus_client::{encoding::text::encode, registry::Registry};

use super::{
    http::{JSON_HEADERS, NO_SNIFF, listen},
    text_format,
};
use crate::config::resolved::BindFailure;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: [(HeaderName, &str); 2] =
    [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), NO_SNIFF];

/// The server of metrics, and what it answers.
#[derive(Debug)]
pub struct MetricsServer {
    /// Metrics of `/metrics`.
    pub registry: Registry,
    /// The answer to `/proxyMode`. Tools that ask want to know whose rules to read: a configured
    /// mode is what they expect, and without one the truth.
    pub proxy_mode: &'static str,
    /// The answer to `/configz`.
    pub configuration: serde_json::Value,
}

struct Served {
    server: MetricsServer,
    /// Answers of `/healthz`.
    probes: AtomicU64,
}

type Shared = State<Arc<Served>>;

impl MetricsServer {
    /// Serves until the future is dropped, or the address is taken and that is to be fatal.
    pub async fn run(self, address: SocketAddr, failure: BindFailure) -> anyhow::Result<()> {
        listen(address, "metrics", self.routes(), failure).await
    }

    fn routes(self) -> Router {
        Router::new()
            .route("/metrics", any(metrics))
            .route("/metrics/slis", any(indicators))
            .route("/healthz", any(healthz))
            .route("/proxyMode", any(proxy_mode))
            .route("/configz", any(configz))
            .with_state(Arc::new(Served { server: self, probes: AtomicU64::new(0) }))
    }
}

async fn metrics(State(served): Shared, headers: HeaderMap) -> Response {
    let mut text = String::new();
    if let Err(error) = encode(&mut text, &served.server.registry) {
        return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response();
    }
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    match accepted.is_some_and(|types| types.contains("application/openmetrics-text")) {
        true => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        false => {
            ([(header::CONTENT_TYPE, PROMETHEUS)], text_format::prometheus(&text)).into_response()
        }
    }
}

async fn healthz(State(served): Shared) -> Response {
    served.probes.fetch_add(1, Ordering::Relaxed);
    (PLAIN, "ok").into_response()
}

/// Kubernetes' service level indicators of a component (KEP-3466): its health checks and how they
/// came out. We have the one that kube-proxy has here, and who gets an answer finds it good.
async fn indicators(State(served): Shared) -> Response {
    let probes = served.probes.load(Ordering::Relaxed);
    let mut text = String::new();
    if probes > 0 {
        text = format!(
            "# HELP kubernetes_healthcheck The last result of a health check.\n\
             # TYPE kubernetes_healthcheck gauge\n\
             kubernetes_healthcheck{{name=\"ping\",type=\"healthz\"}} 1\n\
             # HELP kubernetes_healthchecks_total Results of all health checks.\n\
             # TYPE kubernetes_healthchecks_total counter\n\
             kubernetes_healthchecks_total\
             {{name=\"ping\",status=\"success\",type=\"healthz\"}} {probes}\n"
        );
    }
    ([(header::CONTENT_TYPE, PROMETHEUS)], text).into_response()
}

async fn proxy_mode(State(served): Shared) -> Response {
    (PLAIN, served.server.proxy_mode).into_response()
}

async fn configz(State(served): Shared) -> Response {
    (JSON_HEADERS, served.server.configuration.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::{
        super::http::client::{ask, get, serve},
        *,
    };

    async fn start() -> SocketAddr {
        let mut registry = Registry::default();
        let metric = Counter::<u64>::default();
        metric.inc();
        registry.register("things", "Things counted", metric);
        let configuration = serde_json::json!({ "pintle": { "mode": "nftables" } });
        serve(MetricsServer { registry, proxy_mode: "nftables", configuration }.routes()).await
    }

    #[tokio::test]
    async fn a_scraper_gets_the_format_it_accepts() {
        let address = start().await;
        let plain = get(address, "/metrics").await;
        assert_eq!(plain.code, 200);
        assert!(plain.head.contains("content-type: text/plain; version=0.0.4"), "{}", plain.head);
        assert!(plain.body.contains("# TYPE things_total counter\nthings_total 1\n"), "{plain:?}");
        let accept = "accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
        let open = ask(address, "/metrics", accept).await.unwrap();
        assert!(open.head.contains("application/openmetrics-text"), "{}", open.head);
        assert!(open.body.ends_with("things_total 1\n# EOF\n"), "{open:?}");
    }

    #[tokio::test]
    async fn kube_proxy_s_other_paths_are_answered() {
        let address = start().await;
        let mode = get(address, "/proxyMode").await;
        assert_eq!((mode.code, &*mode.body), (200, "nftables"));
        assert!(mode.head.contains("content-type: text/plain"), "{}", mode.head);
        assert_eq!(get(address, "/configz").await.body, r#"{"pintle":{"mode":"nftables"}}"#);
        assert_eq!(get(address, "/metrics/slis").await.body, "");
        assert_eq!(get(address, "/healthz").await.body, "ok");
        let indicators = get(address, "/metrics/slis").await.body;
        let last = "kubernetes_healthchecks_total\
                    {name=\"ping\",status=\"success\",type=\"healthz\"} 1\n";
        assert!(indicators.ends_with(last), "{indicators}");
        assert_eq!(get(address, "/nothing").await.code, 404);
    }
}
