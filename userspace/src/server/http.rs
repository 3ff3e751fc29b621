// SPDX-License-Identifier: Apache-2.0
//! Listening, and the answers of `/healthz`, `/livez` and `/readyz`, by default on port 10256.
//!
//! The first two are kube-proxy's, byte for byte in their keys: load balancers read `/healthz` to
//! decide whether to send traffic here, the kubelet reads `/livez` to decide whether to restart.
//! `/readyz` is ours.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::any,
};
use tokio::net::TcpListener;
use tracing::{error, info};

use super::{
    health::{Moment, Report},
    recorder::Recorder,
    state::StateSource,
};
use crate::{config::resolved::BindFailure, takeover::running::SERVER};

/// Pause between attempts to listen on an address that is taken.
const RETRY: Duration = Duration::from_secs(5);

/// The headers of every answer of kube-proxy's health servers.
pub(super) const JSON_HEADERS: [(HeaderName, &str); 2] =
    [(header::CONTENT_TYPE, "application/json"), NO_SNIFF];
/// Go's servers say so of everything that is not HTML.
pub(super) const NO_SNIFF: (HeaderName, &str) = (header::X_CONTENT_TYPE_OPTIONS, "nosniff");

/// `/healthz`, `/livez` and `/readyz`.
#[derive(Debug)]
pub struct HealthServer;

impl HealthServer {
    /// Serves until the future is dropped, or the address is taken and that is to be fatal.
    pub async fn run(
        address: SocketAddr,
        source: Arc<dyn StateSource>,
        recorder: Arc<Recorder>,
        failure: BindFailure,
    ) -> anyhow::Result<()> {
        listen(address, "healthz", routes(source, recorder), failure).await
    }
}

/// A taken address is reported and tried again while the agent goes on without, or ends this.
pub(super) async fn listen(
    address: SocketAddr,
    what: &str,
    routes: Router,
    failure: BindFailure,
) -> anyhow::Result<()> {
    loop {
        match (TcpListener::bind(address).await, failure) {
            (Ok(listener), _) => {
                info!(%address, what, "listening");
                if let Err(error) = axum::serve(listener, signed(routes.clone())).await {
                    error!(%address, what, %error, "the server ended; trying again");
                }
            }
            (Err(error), BindFailure::Retry) => {
                error!(%address, what, %error, "cannot listen; trying again");
            }
            (Err(error), BindFailure::Exit) => {
                return Err(error).with_context(|| format!("listen on {address} for {what}"));
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Every answer says whose it is: an agent that starts tells another one from a kube-proxy by it.
fn signed(routes: Router) -> Router {
    routes.layer(middleware::map_response(async |mut answer: Response| {
        answer.headers_mut().insert(header::SERVER, HeaderValue::from_static(SERVER));
        answer
    }))
}

fn routes(source: Arc<dyn StateSource>, recorder: Arc<Recorder>) -> Router {
    async fn ready(State(source): State<Arc<dyn StateSource>>) -> Response {
        let readiness = source.readiness();
        let code = if readiness.synced { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (code, Json(readiness)).into_response()
    }
    async fn healthz(State(recorder): State<Arc<Recorder>>) -> Response {
        let report = recorder.health.healthz(Moment::now());
        recorder.healthz_answered(code(&report).as_u16());
        answer(&report)
    }
    async fn livez(State(recorder): State<Arc<Recorder>>) -> Response {
        let report = recorder.health.livez(Moment::now());
        recorder.livez_answered(code(&report).as_u16());
        answer(&report)
    }
    let own = Router::new().route("/readyz", any(ready)).with_state(source);
    let theirs = Router::new().route("/healthz", any(healthz)).route("/livez", any(livez));
    own.merge(theirs.with_state(recorder))
}

fn code(report: &Report) -> StatusCode {
    if report.is_good() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn answer(report: &Report) -> Response {
    match serde_json::to_string(report) {
        Ok(body) => (code(report), JSON_HEADERS, body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Requests over real sockets, for the tests of all servers.
#[cfg(test)]
pub(super) mod client {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// An answer.
    #[derive(Debug)]
    pub struct Answer {
        /// Its code.
        pub code: u16,
        /// Its head, names in lower case.
        pub head: String,
        /// Its body.
        pub body: String,
    }

    /// Sends a request with one more header, and waits for the answer.
    pub async fn ask(address: SocketAddr, path: &str, header: &str) -> std::io::Result<Answer> {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.0\r\n{header}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        Ok(Answer { code, head: head.to_owned(), body: body.to_owned() })
    }

    /// Sends a plain request.
    pub async fn get(address: SocketAddr, path: &str) -> Answer {
        ask(address, path, "x: y").await.unwrap()
    }

    /// Serves routes on a port of the system's choice.
    pub async fn serve(routes: Router) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, signed(routes)).await });
        address
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        sync::atomic::{AtomicBool, Ordering},
    };

    use super::{
        super::{
            health::NodeFate,
            state::{Names, Readiness, Status},
        },
        client::{get, serve},
        *,
    };
    use crate::model::ip::Family;

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

    #[tokio::test]
    async fn readiness_follows_the_agent_and_health_does_not() {
        let fake = Arc::new(Fake::default());
        let recorder = Arc::new(Recorder::new(Duration::from_secs(30), Moment::now()));
        let address = serve(routes(fake.clone(), recorder)).await;
        let answer = get(address, "/readyz").await;
        assert_eq!((answer.code, &*answer.body), (503, r#"{"revision":7,"synced":false}"#));
        assert_eq!(get(address, "/healthz").await.code, 200);
        let alive = get(address, "/livez").await;
        assert_eq!(alive.code, 200);
        assert!(alive.head.contains("server: pintle"), "or it would be taken for kube-proxy's");
        fake.0.store(true, Ordering::Relaxed);
        assert_eq!(get(address, "/readyz").await.code, 200);
    }

    #[tokio::test]
    async fn health_is_answered_as_kube_proxy_answers_it() {
        // With a period of zero, whatever is pending is late.
        let recorder = Arc::new(Recorder::new(Duration::ZERO, Moment::now()));
        let address = serve(routes(Arc::new(Fake::default()), recorder.clone())).await;
        let both = BTreeSet::from(Family::ALL);
        recorder.queued(&both, Moment::now());
        recorder.settled(&BTreeSet::new(), Moment::now());
        let answer = get(address, "/healthz").await;
        assert_eq!(answer.code, 200);
        assert!(answer.head.contains("content-type: application/json\r\n"), "{}", answer.head);
        assert!(answer.head.contains("x-content-type-options: nosniff"), "{}", answer.head);
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["nodeEligible"], true);
        assert_eq!(body["lastUpdated"], body["currentTime"]);
        assert_eq!(body["status"]["IPv6"]["healthy"], true);

        recorder.health.note_node(NodeFate::Leaves);
        assert_eq!(get(address, "/healthz").await.code, 503);
        assert_eq!(get(address, "/livez").await.code, 200);
        recorder.health.note_node(NodeFate::Stays);

        recorder.queued(&BTreeSet::from([Family::V6]), Moment::now());
        for path in ["/healthz", "/livez"] {
            let answer = get(address, path).await;
            assert_eq!(answer.code, 503, "{path}");
            let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(body["healthy"], false);
            assert_eq!(body["status"]["IPv4"]["healthy"], true);
            assert_eq!(body["status"]["IPv6"]["healthy"], false);
        }
    }

    #[tokio::test]
    async fn a_taken_address_ends_the_server_only_if_that_is_to_be_fatal() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let run = |failure| listen(address, "healthz", Router::new(), failure);
        let error = run(BindFailure::Exit).await.unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        let retry = tokio::time::timeout(Duration::from_millis(50), run(BindFailure::Retry));
        assert!(retry.await.is_err(), "tries again");
    }
}
