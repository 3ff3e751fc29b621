// SPDX-License-Identifier: Apache-2.0
//! The way to the API server: where it is, who we are, and connections that notice when it is gone.
//!
//! A token that is read from a file is read again as it is rotated; the client library sees to that.

use std::{sync::Arc, time::Duration};

use http::Uri;
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::ConfigExt,
    config::{KubeConfigOptions, Kubeconfig},
};
use tower::{BoxError, ServiceBuilder};

use super::contact::{Contact, ContactLayer};
use crate::{config::resolved::Api, source::event::SourceError};

/// Fewest requests per second.
const MIN_QPS: f32 = 0.1;
/// What kube-proxy's "no limit", a negative number, is to us: still no flood.
const UNLIMITED_QPS: f32 = 1000.0;
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection without traffic is asked for a sign of life after this time, as often and no longer
/// than the others say: a peer that vanished is noticed within half a minute.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// The same for what was sent and is not acknowledged.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Where the API server is, who we are, and how much we may ask.
#[derive(Debug)]
pub(super) struct Way {
    config: Config,
    /// So many requests at once, and so long until as many may be made again: a watch that ends as
    /// soon as it has begun must not become a flood.
    burst: u64,
    refill: Duration,
}

impl Way {
    /// As a kubeconfig says, or as for any pod of the cluster.
    pub async fn find(api: &Api) -> Result<Self, SourceError> {
        let mut config = match &api.kubeconfig {
            Some(path) => {
                let read = Kubeconfig::read_from(path).map_err(SourceError::api)?;
                let options = KubeConfigOptions::default();
                Config::from_custom_kubeconfig(read, &options).await.map_err(SourceError::api)?
            }
            None => Config::incluster().map_err(|error| {
                SourceError::api(format!(
                    "there is neither a kubeconfig (--kubeconfig) nor a pod's service account: {error}"
                ))
            })?,
        };
        if let Some(master) = &api.master {
            config.cluster_url = master.parse::<Uri>().map_err(SourceError::api)?;
        }
        let burst = api.burst.max(1);
        let qps = if api.qps < 0.0 { UNLIMITED_QPS } else { api.qps.max(MIN_QPS) };
        let refill = f64::from(burst) / f64::from(qps);
        Ok(Self { config, burst: u64::from(burst), refill: Duration::from_secs_f64(refill) })
    }

    /// A client with connections and a pace of its own; whenever the server grants a request,
    /// `contact` hears of it. Credentials are read anew.
    ///
    /// What fails is not tried again here: that is the watch's. Must be called in a runtime.
    pub fn client(&self, contact: Arc<Contact>) -> Result<Client, SourceError> {
        let config = &self.config;
        let https =
            config.rustls_https_connector_with_connector(connector()).map_err(SourceError::api)?;
        let service = ServiceBuilder::new()
            .rate_limit(self.burst, self.refill)
            .layer(config.base_uri_layer())
            .option_layer(config.auth_layer().map_err(SourceError::api)?)
            .layer(config.extra_headers_layer().map_err(SourceError::api)?)
            .layer(ContactLayer(contact))
            .map_err(BoxError::from)
            .service(HttpClient::builder(TokioExecutor::new()).build(https));
        Ok(Client::new(service, config.default_namespace.clone()))
    }
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    connector.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    connector
}
