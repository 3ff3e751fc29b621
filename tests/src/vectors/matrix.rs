// SPDX-License-Identifier: Apache-2.0
//! S12, S13, S15, S25: the traffic matrix. Objects go in at the planner, packets at the programs:
//! every class of clients, at every kind of address, under every policy, wherever the endpoints are.
//!
//! Three things differ from kube-proxy on purpose: a pod of this node always sees the client, unless
//! everything is to be masqueraded; whoever comes from the network is masqueraded on its way to
//! another node, or the answer would not come back; and the node's own address stands for the host.

use std::net::SocketAddr;

use pintle::{
    model::{
        event::Event,
        name::{Kind as ObjectKind, ObjectName, ObjectRef},
        object::Object,
        service::TrafficPolicy,
    },
    plan::options::Options,
};
use pintle_abi::{
    counter::Hook,
    device::{Device, device_flags},
};

use super::{Ip, PROTOCOLS, first, scene::Kind};
use crate::world::{World, device};

mod clients;
mod objects;

use TrafficPolicy::{Cluster, Local};
use clients::{Source, meets};
use objects::{Detector, apply, cluster_ip_only, plan};

/// Policy and endpoints; then what a pod, the host, a client outside and a pod of another node meet:
/// the endpoints they reach, each with `*` if it sees the node instead of the client.
type Row = (TrafficPolicy, &'static str, [&'static str; 4]);

/// At the cluster address, by internal traffic policy.
const CLUSTER_IP: [Row; 8] = [
    (Cluster, "here", ["here", "here", "here", "here"]),
    (Cluster, "away", ["away", "away*", "away*", "away*"]),
    (Cluster, "here away", ["away here", "away* here", "away* here", "away* here"]),
    (Cluster, "", ["reject", "reject", "reject", "reject"]),
    (Local, "here", ["here", "here", "here", "here"]),
    (Local, "away", ["drop", "drop", "drop", "drop"]),
    (Local, "here away", ["here", "here", "here", "here"]),
    (Local, "", ["reject", "reject", "reject", "reject"]),
];

/// At the other addresses, with external traffic policy Cluster.
const EXTERNAL_CLUSTER: [Row; 4] = [
    (Cluster, "here", ["here", "here", "here", "here"]),
    (Cluster, "away", ["away*", "away*", "away*", "away*"]),
    (Cluster, "here away", ["away* here", "away* here", "away* here", "away* here"]),
    (Cluster, "", ["reject", "reject", "reject", "reject"]),
];

/// The same with Local, where pods are known by their addresses: those of other nodes, too.
const EXTERNAL_LOCAL_BY_ADDRESS: [Row; 4] = [
    (Local, "here", ["here", "here", "here", "here"]),
    (Local, "away", ["away", "away*", "drop", "away*"]),
    (Local, "here away", ["away here", "away* here", "here", "away* here"]),
    (Local, "", ["reject", "reject", "reject", "reject"]),
];

/// Where they are known by their interfaces.
const EXTERNAL_LOCAL_BY_INTERFACE: [Row; 4] = [
    (Local, "here", ["here", "here", "here", "here"]),
    (Local, "away", ["away", "away*", "drop", "drop"]),
    (Local, "here away", ["away here", "away* here", "here", "here"]),
    (Local, "", ["reject", "reject", "reject", "reject"]),
];

/// Where nobody can tell pods from others.
const EXTERNAL_LOCAL_UNKNOWN: [Row; 4] = [
    (Local, "here", ["here", "here", "here", "here"]),
    (Local, "away", ["drop", "away*", "drop", "drop"]),
    (Local, "here away", ["here", "away* here", "here", "here"]),
    (Local, "", ["reject", "reject", "reject", "reject"]),
];

/// With `masqueradeAll`, at cluster addresses and at others with policy Cluster. The host has its own
/// address, which needs no other.
const EVERYBODY: [Row; 3] = [
    (Cluster, "here", ["here*", "here", "here*", "here*"]),
    (Cluster, "away", ["away*", "away*", "away*", "away*"]),
    (Cluster, "here away", ["away* here*", "away* here", "away* here*", "away* here*"]),
];

/// Every row of a table, at these kinds of addresses.
#[track_caller]
fn holds(
    world: &mut dyn World,
    ip: Ip,
    (options, detector): (&Options, Detector),
    kinds: &[Kind],
    rows: &[Row],
) {
    let mut planned = plan(world, ip, options.clone(), detector);
    for (policy, endpoints, expected) in rows {
        // The policy for the other addresses makes no difference.
        for other in [Cluster, Local] {
            let policies = match kinds {
                [Kind::ClusterIp] => [*policy, other],
                _ => [other, *policy],
            };
            apply(&mut planned, ip, policies, endpoints);
            planned.wait();
            let cells = Source::ALL.into_iter().zip(expected);
            for ((source, expected), kind) in
                cells.flat_map(|cell| kinds.iter().map(move |kind| (cell, *kind)))
            {
                let world = planned.world();
                let mut device = device();
                if source == Source::Pod && detector == Detector::Interface {
                    device = Device { flags: device.flags | device_flags::POD, ..device };
                }
                world.put_device(&device);
                for proto in PROTOCOLS {
                    let met = meets(world, ip, source, kind, proto);
                    assert_eq!(
                        met, *expected,
                        "{source:?} at {kind:?} (protocol {proto}), pods by {detector:?}, \
                         policies {policies:?}, endpoints: {endpoints:?}",
                    );
                }
            }
        }
    }
}

const EXTERNAL: [Kind; 3] = [Kind::NodePort, Kind::LoadBalancer, Kind::External];
const DETECTORS: [Detector; 3] = [Detector::Address, Detector::Interface, Detector::Nothing];

/// S13.
pub fn cluster_address_follows_the_internal_policy(world: &mut dyn World, ip: Ip) {
    for detector in DETECTORS {
        let by = (&Options::default(), detector);
        holds(world, ip, by, &[Kind::ClusterIp], &CLUSTER_IP);
    }
}

/// S15, S25.
pub fn other_addresses_with_policy_cluster_reach_everything(world: &mut dyn World, ip: Ip) {
    for detector in DETECTORS {
        holds(world, ip, (&Options::default(), detector), &EXTERNAL, &EXTERNAL_CLUSTER);
    }
}

/// S12.
pub fn other_addresses_with_policy_local_keep_the_client(world: &mut dyn World, ip: Ip) {
    for (detector, rows) in [
        (Detector::Address, EXTERNAL_LOCAL_BY_ADDRESS),
        (Detector::Interface, EXTERNAL_LOCAL_BY_INTERFACE),
        (Detector::Nothing, EXTERNAL_LOCAL_UNKNOWN),
    ] {
        holds(world, ip, (&Options::default(), detector), &EXTERNAL, &rows);
    }
}

/// `masqueradeAll`.
pub fn everything_is_masqueraded_if_asked_for(world: &mut dyn World, ip: Ip) {
    let options = Options { masquerade_all: true, ..Options::default() };
    for detector in DETECTORS {
        holds(world, ip, (&options, detector), &[Kind::ClusterIp], &EVERYBODY);
        holds(world, ip, (&options, detector), &EXTERNAL, &EVERYBODY);
    }
}

/// Type changes move the addresses; in the end there is nothing left.
pub fn service_leaves_nothing_behind(world: &mut dyn World, ip: Ip) {
    let mut planned = plan(world, ip, Options::default(), Detector::Address);
    for policies in [[Cluster, Local], [Local, Cluster], [Cluster, Cluster]] {
        apply(&mut planned, ip, policies, "here away");
        assert_ne!(planned.world().service_entries(), 0);
    }
    planned.apply([Event::Apply(Object::Service(cluster_ip_only(ip)))]);
    let outside = |address: SocketAddr, proto| first(proto, ip.outside(7, 40_000), address);
    for (kind, proto) in EXTERNAL.into_iter().flat_map(|kind| PROTOCOLS.map(|proto| (kind, proto)))
    {
        planned.world().untouched(Hook::FromNet, &outside(kind.address(ip), proto).bytes());
    }
    for proto in PROTOCOLS {
        let met = meets(planned.world(), ip, Source::Outside, Kind::ClusterIp, proto);
        assert_eq!(met, "away* here");
    }
    let [service, slice] = [(ObjectKind::Service, "web"), (ObjectKind::EndpointSlice, "web-1")]
        .map(|(kind, name)| {
            Event::Delete(ObjectRef::new(kind, ObjectName::namespaced("shop", name)))
        });
    planned.apply([service, slice]);
    assert_eq!(planned.world().service_entries(), 0);
    planned.world().untouched(Hook::FromNet, &outside(ip.service(80), PROTOCOLS[0]).bytes());
}
