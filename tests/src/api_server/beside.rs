// SPDX-License-Identifier: Apache-2.0
//! A server in the node of an agent that reads from it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;
use pintle_lab::agent::Agent;

use super::{ApiServer, Mirror};

/// Where it listens.
const PLACE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6443);

impl ApiServer {
    /// Starts a server that has the objects of an agent's directory; from its next start on the agent
    /// reads from there.
    pub fn beside(agent: &mut Agent) -> Result<Arc<ApiServer>> {
        let server = Arc::new(ApiServer::start_in(agent.netns(), PLACE)?);
        agent.manifests.mirror(Mirror::new(server.clone()))?;
        agent.read_from(&server.write_kubeconfig(agent.files())?);
        Ok(server)
    }
}
