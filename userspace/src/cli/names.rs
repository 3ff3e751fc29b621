// SPDX-License-Identifier: Apache-2.0
//! Names for the numbers and addresses in the maps, as far as the agent tells them.

use std::{collections::HashMap, net::IpAddr};

use super::env::Env;
use crate::{
    model::addr::{BackendAddr, FrontendAddr},
    server::state::{Backend, Frontend, Names},
};

/// The agent's names, indexed; empty without an agent.
#[derive(Debug, Default)]
pub struct Directory {
    names: Names,
    frontends: HashMap<(IpAddr, u16, String), usize>,
    backends: HashMap<(IpAddr, u16), usize>,
    numeric: bool,
}

impl Directory {
    /// Asks the agent. Without one, a note goes to stderr and names are unknown.
    pub fn ask(env: &mut Env<'_>) -> anyhow::Result<Self> {
        match env.agent.names() {
            Ok(names) => Ok(Self::new(names, env.style.numeric)),
            Err(error) => {
                writeln!(env.err, "note: names are unknown, the agent does not answer")?;
                if env.verbose {
                    writeln!(env.err, "note: {error}")?;
                }
                Ok(Self { numeric: true, ..Self::default() })
            }
        }
    }

    /// Indexes the names. `numeric`: addresses of pods stay addresses.
    pub fn new(names: Names, numeric: bool) -> Self {
        let frontends = names.frontends.iter().enumerate();
        let frontends =
            frontends.map(|(i, row)| ((row.ip, row.port, row.protocol.clone()), i)).collect();
        let backends = names.backends.iter().enumerate();
        let backends = backends.map(|(i, row)| ((row.ip, row.port), i)).collect();
        Self { names, frontends, backends, numeric }
    }

    /// The pod of an address, unless names are not wanted.
    pub fn pod(&self, ip: IpAddr) -> Option<&str> {
        self.pod_always(ip).filter(|_| !self.numeric)
    }

    /// The pod of an address, for filters.
    pub fn pod_always(&self, ip: IpAddr) -> Option<&str> {
        self.names.pods.get(&ip).map(String::as_str)
    }

    /// The service port of a number, `namespace/name:port`.
    pub fn service(&self, number: u32) -> Option<&str> {
        self.names.services.get(&number).map(String::as_str)
    }

    /// The services, `namespace/name`; one may repeat.
    pub fn services(&self) -> impl Iterator<Item = String> {
        self.names.frontends.iter().map(Frontend::service)
    }

    /// The pods, `namespace/name`; one may repeat.
    pub fn pods(&self) -> impl Iterator<Item = &str> {
        self.names.pods.values().map(String::as_str)
    }

    /// What Kubernetes says of a frontend.
    pub fn frontend(&self, addr: &FrontendAddr) -> Option<&Frontend> {
        let key = (addr.ip, addr.port, addr.protocol.as_str().to_owned());
        self.names.frontends.get(*self.frontends.get(&key)?)
    }

    /// What Kubernetes says of a backend.
    pub fn backend(&self, addr: &BackendAddr) -> Option<&Backend> {
        self.names.backends.get(*self.backends.get(&(addr.ip, addr.port))?)
    }
}
