// SPDX-License-Identifier: Apache-2.0
//! What is measured, one operation at a time, and how long that may take beside direct.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::world::DataPath;

/// What a client does again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// A TCP connect through a ClusterIP; the connection is then reset
    TcpConnect,
    /// Connect, one byte each way, close
    TcpConnectRequestClose,
    /// One byte each way over UDP, from a new port, as a resolver asks
    UdpNewPort,
    /// One byte each way on an established TCP connection
    TcpRequestResponse,
    /// One byte each way on one UDP flow
    UdpRequestResponse,
    /// 1 MiB over an established TCP connection, then one byte back
    TcpBulk,
    /// Connect, request, close from outside to a node port, with the pod on that node
    NodePortLocal,
    /// The same with the pod on another node
    NodePortRemote,
    /// One byte each way from outside on an established connection to a pod on another node
    NodePortRequestResponse,
    /// CPU time for each datagram of one flow
    #[value(name = "packets-1-flow")]
    #[serde(rename = "packets-1-flow")]
    PacketsOneFlow,
    /// CPU time for each datagram of 1,000 flows
    #[value(name = "packets-1k-flows")]
    #[serde(rename = "packets-1k-flows")]
    PacketsManyFlows,
    /// CPU time for each datagram of 30,000 flows
    #[value(name = "packets-30k-flows")]
    #[serde(rename = "packets-30k-flows")]
    PacketsMostFlows,
}

/// Where an operation begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// From a pod to pods of its node, by the ClusterIP.
    ClusterIp,
    /// From outside the cluster to pods of the node that is dialled.
    NodePortLocal,
    /// From outside the cluster to a pod of another node.
    NodePortRemote,
}

/// What one operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A connect that is reset.
    Connect,
    /// Connect, a byte each way, close.
    ConnectRequestClose,
    /// A byte each way on a connection that stays.
    Request,
    /// A byte each way over UDP, from a new port.
    Datagram,
    /// A byte each way over UDP, from the same port.
    DatagramRequest,
    /// 1 MiB, then a byte back.
    Bulk,
    /// A datagram of one of so many flows.
    Packets(u32),
}

impl Workload {
    /// Its name in tables and JSON.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// In a few words, for the head of a column.
    pub fn title(self) -> &'static str {
        match self {
            Self::TcpConnect => "connect",
            Self::TcpConnectRequestClose => "connect, request, close",
            Self::UdpNewPort => "UDP, new port each time",
            Self::TcpRequestResponse => "TCP, established",
            Self::UdpRequestResponse => "UDP, established",
            Self::TcpBulk => "bulk, 1 MiB",
            Self::NodePortLocal => "node port, pod there",
            Self::NodePortRemote => "node port, pod elsewhere",
            Self::NodePortRequestResponse => "the same, established",
            Self::PacketsOneFlow => "CPU per packet, 1 flow",
            Self::PacketsManyFlows => "1,000 flows",
            Self::PacketsMostFlows => "30,000 flows",
        }
    }

    /// Whether it means anything in a world: who makes frames himself has no socket that dials.
    pub fn applies_to(self, path: DataPath) -> bool {
        !(matches!(self.operation(), Operation::Packets(_)) && path == DataPath::PintleSockets)
    }

    /// Where it goes.
    pub fn route(self) -> Route {
        match self {
            Self::NodePortLocal => Route::NodePortLocal,
            Self::NodePortRemote | Self::NodePortRequestResponse => Route::NodePortRemote,
            _ => Route::ClusterIp,
        }
    }

    /// What one operation is.
    pub fn operation(self) -> Operation {
        match self {
            Self::TcpConnect => Operation::Connect,
            Self::TcpConnectRequestClose | Self::NodePortLocal | Self::NodePortRemote => {
                Operation::ConnectRequestClose
            }
            Self::UdpNewPort => Operation::Datagram,
            Self::TcpRequestResponse | Self::NodePortRequestResponse => Operation::Request,
            Self::UdpRequestResponse => Operation::DatagramRequest,
            Self::TcpBulk => Operation::Bulk,
            Self::PacketsOneFlow => Operation::Packets(1),
            Self::PacketsManyFlows => Operation::Packets(1_000),
            Self::PacketsMostFlows => Operation::Packets(30_000),
        }
    }

    /// The largest acceptable ratio to direct, from the design's targets; they hold beside rules that
    /// track connections, too.
    pub fn target(self, path: DataPath) -> Option<f64> {
        let (packets, sockets) = match self {
            Self::TcpConnect => (1.08, Some(1.05)),
            Self::TcpConnectRequestClose => (1.10, Some(1.06)),
            Self::UdpNewPort => (1.20, Some(1.20)),
            // What sockets send goes through the stack like everybody's: the target is of redirects.
            Self::TcpRequestResponse | Self::UdpRequestResponse => (0.97, None),
            // At least 0.97 of the throughput.
            Self::TcpBulk => (1.0 / 0.97, Some(1.0 / 0.97)),
            Self::PacketsManyFlows => (1.0, None),
            _ => return None,
        };
        match path {
            DataPath::Pintle => Some(packets),
            DataPath::PintleSockets => sockets,
            _ => None,
        }
    }
}
