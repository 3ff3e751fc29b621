// SPDX-License-Identifier: Apache-2.0
//! What the agent tells about itself: the words of its state endpoint.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::policy::PolicySummary;

/// The agent's knowledge, asked for when a request arrives.
pub trait StateSource: Send + Sync + 'static {
    /// Is the initial state programmed? Called by every probe, so cheap.
    fn readiness(&self) -> Readiness;
    /// The agent and its progress.
    fn status(&self) -> Status;
    /// Names for the numbers and addresses in the maps.
    fn names(&self) -> Names;
}

/// The body of `/readyz`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Revision that the maps hold.
    pub revision: u64,
    /// Everything that existed when the agent started is programmed.
    pub synced: bool,
}

/// The agent and its progress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Name of the node.
    pub node: String,
    /// Version of the agent.
    pub version: String,
    /// Start, seconds since 1970.
    pub started_unix: i64,
    /// Time since the start, in seconds of the monotonic clock.
    pub uptime_seconds: u64,
    /// Last revision read from the source.
    pub revision_read: u64,
    /// Last revision that the maps hold completely.
    pub revision_programmed: u64,
    /// Seconds since the maps last changed; `None` before the first change.
    pub programmed_ago_seconds: Option<u64>,
    /// Everything that existed when the agent started is programmed.
    pub synced: bool,
    /// Services known.
    pub services: u64,
    /// Services whose frontends are all programmed.
    pub services_programmed: u64,
    /// Something the agent cannot do at present, such as write to a full map.
    pub errors: Vec<String>,
    /// Objects that cannot be used, sorted.
    pub rejections: Vec<Rejection>,
    /// Interfaces with programs, sorted by name.
    pub interfaces: Vec<Interface>,
    /// Uplinks, sorted by name.
    pub uplinks: Vec<Uplink>,
    /// Sockets that are translated when they dial.
    pub socket_lb: SocketLb,
    /// Policies in brief.
    pub policy: PolicySummary,
}

/// Sockets that are translated when they dial.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketLb {
    /// Whose sockets: `off`, `host` or `all`.
    pub mode: String,
    /// The cgroup whose processes they are; `None` if no socket is translated.
    pub cgroup: Option<String>,
    /// Why no socket is translated although some should be.
    pub failed: Option<String>,
}

/// An object that cannot be used, or only in part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rejection {
    /// Kind and name, `Service shop/web`.
    pub object: String,
    /// What is wrong with it.
    pub reason: String,
    /// When it was first seen, seconds since 1970.
    pub since_unix: i64,
}

/// An interface with programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
    /// How the programs are attached: `tcx` or `clsact`.
    pub mode: String,
    /// Why packets are not redirected to it past the host's stack; `None` if they are.
    pub slow: Option<String>,
    /// Why no program is attached; `None` if all are.
    pub failed: Option<String>,
}

/// An uplink: a device that leads to the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
    /// Why its driver does not run XDP; `None` if it does.
    pub without_xdp: Option<String>,
}

/// Names for the numbers and addresses in the maps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// Service number → `namespace/name:port`; without `:port` if the port has no name.
    pub services: BTreeMap<u32, String>,
    /// Frontends, sorted.
    pub frontends: Vec<Frontend>,
    /// Backends, sorted.
    pub backends: Vec<Backend>,
    /// Pods by address, `namespace/name`.
    pub pods: BTreeMap<IpAddr, String>,
}

/// What Kubernetes says of a frontend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Frontend {
    /// Namespace of the service.
    pub namespace: String,
    /// Name of the service.
    pub name: String,
    /// Address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// `ClusterIP`, `NodePort`, `ExternalIP` or `LoadBalancer`.
    pub kind: String,
    /// Endpoints of the service port, ready or not.
    pub endpoints: u64,
    /// Traffic policy that applies: `Cluster` or `Local`.
    pub traffic: String,
    /// Age of the service in seconds; `None` if its creation time is unknown.
    pub age_seconds: Option<u64>,
}

impl Frontend {
    /// `namespace/name` of the service.
    pub fn service(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// What Kubernetes says of a backend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Backend {
    /// Pod address.
    pub ip: IpAddr,
    /// Pod port.
    pub port: u16,
    /// `ready`, `serving` (terminating, but still answers), `terminating` or `unready`.
    pub state: String,
    /// Node it runs on.
    pub node: Option<String>,
}
