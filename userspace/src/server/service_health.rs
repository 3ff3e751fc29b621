// SPDX-License-Identifier: Apache-2.0
//! Health checks of load balancers: for each service with externalTrafficPolicy Local, a port that
//! tells how many of its endpoints are on this node (`healthCheckNodePort`, KEP-1669).
//!
//! Invariants: address families are independent, each tells of its own endpoints; a service listens
//! on all addresses of a family or on none that it did not listen on before; what could not be had
//! is kept as an error and tried again; a port is free once nobody desires it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr, TcpListener as StdListener},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tracing::{info, warn};

use super::{
    health::{Moment, ProxyHealth},
    http::JSON_HEADERS,
};
use crate::{
    model::{ip::Family, name::ServiceName},
    plan::health::HealthCheck,
};

/// How many endpoints there are: some load balancers weigh by it.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// A service in a family.
type Key = (ServiceName, Family);

/// What a health check tells, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    port: u16,
    local_endpoints: u32,
    addresses: BTreeSet<IpAddr>,
}

/// The servers of all health checks.
#[derive(Debug)]
pub struct ServiceHealth {
    proxy: Arc<ProxyHealth>,
    wanted: BTreeMap<Key, Wanted>,
    running: BTreeMap<Key, Running>,
    failed: BTreeMap<Key, Failure>,
}

/// A health check that cannot be answered, or not everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where it should have been.
    pub address: SocketAddr,
    /// What the operating system said.
    pub error: String,
}

/// The servers of one service.
#[derive(Debug)]
struct Running {
    port: u16,
    local_endpoints: Arc<AtomicU32>,
    listeners: BTreeMap<IpAddr, Listener>,
}

/// A server on one address.
#[derive(Debug)]
struct Listener {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl ServiceHealth {
    /// No servers yet. `proxy` decides with the endpoints whether a check is good.
    pub fn new(proxy: Arc<ProxyHealth>) -> Self {
        Self { proxy, wanted: BTreeMap::new(), running: BTreeMap::new(), failed: BTreeMap::new() }
    }

    /// Makes the servers as planned, on these addresses: those of the node that have node ports, or
    /// the unspecified ones for all. Ports that nobody desires any more are free when it returns.
    pub async fn apply(
        &mut self,
        checks: &BTreeMap<ServiceName, HealthCheck>,
        addresses: &BTreeSet<IpAddr>,
    ) {
        self.wanted.clear();
        for (service, check) in checks {
            for family in Family::ALL {
                let Some(count) = check.local_endpoints(family) else { continue };
                let of_family = addresses.iter().filter(|ip| Family::of(**ip) == family);
                let wanted = Wanted {
                    port: check.port,
                    local_endpoints: u32::try_from(count).unwrap_or(u32::MAX),
                    addresses: of_family.copied().collect(),
                };
                self.wanted.insert((service.clone(), family), wanted);
            }
        }
        self.close_undesired().await;
        self.open_desired();
    }

    /// Tries again what failed; returns at once if nothing did.
    pub fn retry(&mut self) {
        if !self.failed.is_empty() {
            self.open_desired();
        }
    }

    /// What could not be had, by service.
    pub fn failures(&self) -> impl Iterator<Item = (&ServiceName, &Failure)> {
        self.failed.iter().map(|((service, _), failure)| (service, failure))
    }

    async fn close_undesired(&mut self) {
        let mut closing = Vec::new();
        let wanted = &self.wanted;
        self.running.retain(|key, running| {
            let wanted = wanted.get(key).filter(|wanted| wanted.port == running.port);
            for (address, listener) in std::mem::take(&mut running.listeners) {
                match wanted.is_some_and(|wanted| wanted.addresses.contains(&address)) {
                    true => drop(running.listeners.insert(address, listener)),
                    false => closing.push(listener),
                }
            }
            if wanted.is_none() {
                info!(service = %key.0, family = %key.1, port = running.port, "health check closed");
            }
            wanted.is_some()
        });
        for listener in closing {
            listener.close().await;
        }
    }

    fn open_desired(&mut self) {
        let mut failed = BTreeMap::new();
        for (key, wanted) in &self.wanted {
            let running = self.running.entry(key.clone()).or_insert_with(|| Running {
                port: wanted.port,
                local_endpoints: Arc::default(),
                listeners: BTreeMap::new(),
            });
            running.local_endpoints.store(wanted.local_endpoints, Ordering::Relaxed);
            if let Err(failure) = running.open(&key.0, &wanted.addresses, &self.proxy) {
                if self.failed.get(key) != Some(&failure) {
                    let (service, Failure { address, error }) = (&key.0, &failure);
                    warn!(%service, %address, error, "no health check; trying again");
                }
                failed.insert(key.clone(), failure);
            }
        }
        for key in self.failed.keys().filter(|key| !failed.contains_key(key)) {
            if self.wanted.contains_key(key) {
                info!(service = %key.0, family = %key.1, "health check answered after all");
            }
        }
        self.failed = failed;
    }
}

impl Running {
    /// Opens what is missing: all of it, or nothing.
    fn open(
        &mut self,
        service: &ServiceName,
        addresses: &BTreeSet<IpAddr>,
        proxy: &Arc<ProxyHealth>,
    ) -> Result<(), Failure> {
        let missing = addresses.iter().filter(|address| !self.listeners.contains_key(address));
        let mut bound = Vec::new();
        for address in missing {
            let address = SocketAddr::new(*address, self.port);
            let listener = bind(address);
            let listener =
                listener.map_err(|error| Failure { address, error: error.to_string() })?;
            bound.push((address.ip(), listener));
        }
        if !bound.is_empty() {
            info!(%service, port = self.port, addresses = bound.len(), "health check opened");
        }
        for (address, listener) in bound {
            let answer = Answerer {
                service: service.clone(),
                local_endpoints: self.local_endpoints.clone(),
                proxy: proxy.clone(),
            };
            self.listeners.insert(address, Listener::serve(listener, answer));
        }
        Ok(())
    }
}

/// One socket for each family: `[::]` does not take IPv4's port as well.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(StdListener::from(socket))
}

impl Listener {
    fn serve(listener: TcpListener, answerer: Answerer) -> Self {
        let (stop, stopped) = oneshot::channel();
        let routes = Router::new().fallback(answer).with_state(answerer);
        let service = axum::serve(listener, routes).with_graceful_shutdown(async {
            // A sender that is gone means the same.
            let _ = stopped.await;
        });
        let task = tokio::spawn(async move {
            if let Err(error) = service.await {
                warn!(%error, "a health check's server ended");
            }
        });
        Self { stop, task }
    }

    /// Closes the socket, and lets connections end with the answer they wait for.
    async fn close(self) {
        // The task is gone only if its server failed.
        let _ = self.stop.send(());
        // It would wait for the last connection; the socket goes with it.
        self.task.abort();
        let _ = self.task.await;
    }
}

#[derive(Clone, Debug)]
struct Answerer {
    service: ServiceName,
    local_endpoints: Arc<AtomicU32>,
    proxy: Arc<ProxyHealth>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    service: Name<'a>,
    local_endpoints: u32,
    service_proxy_healthy: bool,
}

#[derive(Serialize)]
struct Name<'a> {
    namespace: &'a str,
    name: &'a str,
}

async fn answer(State(answerer): State<Answerer>) -> Response {
    let local_endpoints = answerer.local_endpoints.load(Ordering::Relaxed);
    let healthy = answerer.proxy.is_healthy(Moment::now());
    let service = &answerer.service;
    let body = Body {
        service: Name { namespace: service.namespace(), name: service.name() },
        local_endpoints,
        service_proxy_healthy: healthy,
    };
    let code = match local_endpoints != 0 && healthy {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let weight = [(WEIGHT, HeaderValue::from(local_endpoints))];
    match indented(&body) {
        Ok(body) => (code, JSON_HEADERS, weight, body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// With tabs, as kube-proxy has it.
fn indented(body: &Body<'_>) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    body.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::http::client::{Answer, ask},
        *,
    };

    const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    /// A port that was free a moment ago, for both families.
    fn port() -> u16 {
        StdListener::bind((V4, 0)).unwrap().local_addr().unwrap().port()
    }

    fn name(name: &str) -> ServiceName {
        ServiceName::namespaced("shop", name)
    }

    /// Services of both families, with equally many endpoints in each.
    fn checks(list: &[(&str, u16, usize)]) -> BTreeMap<ServiceName, HealthCheck> {
        let check = |(service, port, count): &(&str, u16, usize)| {
            (name(service), HealthCheck { port: *port, v4: Some(*count), v6: Some(*count) })
        };
        list.iter().map(check).collect()
    }

    fn start() -> (ServiceHealth, Arc<ProxyHealth>) {
        let proxy = Arc::new(ProxyHealth::new(Duration::ZERO));
        (ServiceHealth::new(proxy.clone()), proxy)
    }

    async fn check(ip: IpAddr, port: u16) -> Option<Answer> {
        ask(SocketAddr::new(ip, port), "/any/path", "x: y").await.ok()
    }

    async fn code(ip: IpAddr, port: u16) -> Option<u16> {
        Some(check(ip, port).await?.code)
    }

    fn failures(health: &ServiceHealth) -> Vec<String> {
        health.failures().map(|(service, failure)| format!("{service} {failure:?}")).collect()
    }

    #[tokio::test]
    async fn every_path_tells_how_many_endpoints_are_here() {
        let (mut health, proxy) = start();
        let port = port();
        health.apply(&checks(&[("web", port, 3)]), &[V4].into()).await;
        let answer = check(V4, port).await.unwrap();
        assert_eq!(answer.code, 200);
        let body = "{\n\t\"service\": {\n\t\t\"namespace\": \"shop\",\n\t\t\"name\": \"web\"\n\t},\n\
                    \t\"localEndpoints\": 3,\n\t\"serviceProxyHealthy\": true\n}";
        assert_eq!(answer.body, body);
        for header in [
            "content-type: application/json",
            "x-content-type-options: nosniff",
            "x-load-balancing-endpoint-weight: 3",
        ] {
            assert!(answer.head.contains(header), "no {header} in {}", answer.head);
        }

        health.apply(&checks(&[("web", port, 0)]), &[V4].into()).await;
        let answer = check(V4, port).await.unwrap();
        assert_eq!(answer.code, 503);
        assert!(answer.head.contains("x-load-balancing-endpoint-weight: 0"), "{}", answer.head);

        health.apply(&checks(&[("web", port, 1)]), &[V4].into()).await;
        assert_eq!(code(V4, port).await, Some(200));
        proxy.updated(Family::V6, Moment::now());
        proxy.queued(Family::V6, Moment::now());
        let answer = check(V4, port).await.unwrap();
        assert_eq!(answer.code, 503, "the proxy is late");
        assert!(answer.body.contains("\"serviceProxyHealthy\": false"), "{}", answer.body);
    }

    #[tokio::test]
    async fn services_come_and_go_and_change_their_port() {
        let (mut health, _proxy) = start();
        let [one, two] = [port(), port()];
        health.apply(&checks(&[("a", one, 1), ("b", two, 0)]), &[V4, V6].into()).await;
        assert_eq!(failures(&health), [""; 0]);
        assert_eq!(code(V4, one).await, Some(200));
        assert_eq!(code(V6, one).await, Some(200));
        assert_eq!(code(V4, two).await, Some(503));
        // They change places at once.
        health.apply(&checks(&[("a", two, 1), ("b", one, 0)]), &[V4, V6].into()).await;
        assert_eq!(failures(&health), [""; 0]);
        assert_eq!((code(V4, two).await, code(V6, one).await), (Some(200), Some(503)));
        health.apply(&checks(&[]), &[V4, V6].into()).await;
        assert_eq!((code(V4, one).await, code(V6, two).await), (None, None));
        assert!(health.running.is_empty());
    }

    #[tokio::test]
    async fn all_addresses_of_a_family_are_listened_on_or_none_and_it_is_tried_again() {
        let (mut health, _proxy) = start();
        let port = port();
        let second = IpAddr::from([127, 0, 0, 2]);
        let taken = StdListener::bind((second, port)).unwrap();
        health.apply(&checks(&[("web", port, 1)]), &[V4, second, V6].into()).await;
        assert_eq!(code(V4, port).await, None, "not without the other");
        assert_eq!(code(V6, port).await, Some(200), "families are independent");
        let told = failures(&health);
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("shop/web") && told[0].contains("127.0.0.2"), "{told:?}");
        health.retry();
        assert_eq!(failures(&health).len(), 1);
        drop(taken);
        health.retry();
        assert_eq!(failures(&health), [""; 0]);
        assert_eq!((code(V4, port).await, code(second, port).await), (Some(200), Some(200)));
    }

    #[tokio::test]
    async fn each_family_tells_of_its_own_endpoints() {
        let (mut health, _proxy) = start();
        let [one, two] = [port(), port()];
        let checks = [
            (name("dual"), HealthCheck { port: one, v4: Some(2), v6: Some(0) }),
            (name("single"), HealthCheck { port: two, v4: None, v6: Some(1) }),
        ];
        health.apply(&checks.into(), &[V4, V6].into()).await;
        assert_eq!((code(V4, one).await, code(V6, one).await), (Some(200), Some(503)));
        assert_eq!((code(V4, two).await, code(V6, two).await), (None, Some(200)));
    }

    #[tokio::test]
    async fn addresses_are_followed() {
        let (mut health, _proxy) = start();
        let port = port();
        let desired = checks(&[("web", port, 1)]);
        health.apply(&desired, &[V4].into()).await;
        assert_eq!((code(V4, port).await, code(V6, port).await), (Some(200), None));
        health.apply(&desired, &[V6].into()).await;
        assert_eq!((code(V4, port).await, code(V6, port).await), (None, Some(200)));
        let any = [IpAddr::from([0_u8; 4]), IpAddr::from([0_u8; 16])];
        health.apply(&desired, &any.into()).await;
        assert_eq!(failures(&health), [""; 0]);
        assert_eq!((code(V4, port).await, code(V6, port).await), (Some(200), Some(200)));
    }

    #[tokio::test]
    async fn a_failed_service_that_is_deleted_is_forgotten() {
        let (mut health, _proxy) = start();
        let port = port();
        let _taken = StdListener::bind((V4, port)).unwrap();
        health.apply(&checks(&[("web", port, 1)]), &[V4].into()).await;
        assert_eq!(failures(&health).len(), 1);
        health.apply(&checks(&[]), &[V4].into()).await;
        assert_eq!(failures(&health), [""; 0]);
    }
}
