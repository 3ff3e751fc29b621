// SPDX-License-Identifier: Apache-2.0
//! Nodes and pods as network namespaces: an underlay switch, nodes on it, pods behind each node.
//!
//! Node `N` has 192.168.77.N and fd00:77::N on the underlay; its pod `H` has 10.244.N.H and
//! fd00:10:244:N::H. Every node routes to the pods of the others; ClusterIPs have no route of
//! their own and leave a pod, or a node, by its default route. The switch is the nodes' router; clients
//! outside the cluster are behind it, and it routes service addresses to node 1.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;

use anyhow::Result;

use crate::netns::NetNs;
use crate::objects::{NAMESPACE, Objects, PodObject, node_yaml};
use crate::{wiring, xdp};

mod routes;

/// The port range of pods' clients: wide, so that many short connections do not run out.
const POD_SYSCTLS: [(&str, &str); 1] = [("net/ipv4/ip_local_port_range", "10240 65535")];

const NODE_SYSCTLS: [(&str, &str); 2] =
    [("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")];

const ETHERNET_MTU: u16 = 1500;
/// The longest packet that fits into another with the headers of vxlan.
const OVERLAY_MTU: u16 = 1450;
/// The overlay device of every node, under flannel's name.
const OVERLAY: &str = "flannel.1";

/// How pods are wired to their node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cni {
    /// A host route for each pod; the gateway is link-local and its neighbour entry permanent.
    Ptp,
    /// A bridge `cni0` with the gateway addresses; the pods' subnet is on-link.
    Bridge,
}

/// Which IP family a test speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order tests take them.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];
}

/// Prefixes of service addresses that the router sends to node 1.
const SERVICE_PREFIXES: [&str; 4] =
    ["10.96.0.0/16", "203.0.113.0/24", "fd00:10:96::/64", "fd00:203::/64"];

/// The switch between the nodes, and their router.
pub struct Underlay {
    ns: NetNs,
    objects: Arc<Objects>,
    /// Whether the nodes' uplinks run XDP.
    xdp: bool,
}

impl Underlay {
    /// Makes the switch, with no node on it.
    pub fn new() -> Result<Underlay> {
        Self::made(xdp::is_usual())
    }

    fn made(xdp: bool) -> Result<Underlay> {
        let ns = NetNs::new()?;
        ns.set_sysctls(&NODE_SYSCTLS)?;
        let mut lines = vec![
            "link add switch type bridge".into(),
            "link set switch up".into(),
            "addr add 192.168.77.254/24 dev switch".into(),
            "addr add fd00:77::fe/64 dev switch nodad".into(),
        ];
        lines.extend(SERVICE_PREFIXES.iter().map(|prefix| {
            let node = if prefix.contains(':') { "fd00:77::1" } else { "192.168.77.1" };
            format!("route add {prefix} via {node} dev switch")
        }));
        ns.ip(&lines)?;
        Ok(Underlay { ns, objects: Arc::default(), xdp })
    }

    /// Makes a client outside the cluster, behind the router; at most one.
    fn add_client(&self) -> Result<Outsider> {
        let ns = NetNs::new()?;
        ns.set_sysctls(&POD_SYSCTLS)?;
        self.ns.ip(&[
            format!("link add outside type veth peer name eth0 netns {}", ns.path()),
            "link set outside up".into(),
            "addr add 198.51.100.1/24 dev outside".into(),
            "addr add fd00:51::1/64 dev outside nodad".into(),
        ])?;
        ns.ip(&[
            "link set eth0 up".into(),
            "addr add 198.51.100.7/24 dev eth0".into(),
            "addr add fd00:51::7/64 dev eth0 nodad".into(),
            "route add default via 198.51.100.1".into(),
            "route add default via fd00:51::1".into(),
        ])?;
        self.ns.wait_running("outside")?;
        ns.wait_running("eth0")?;
        if self.xdp {
            xdp::prepare_sender(&ns, "eth0")?;
        }
        Ok(Outsider { ns })
    }
}

/// A node: a forwarding namespace with one uplink, `eth0`.
pub struct Node {
    ns: NetNs,
    /// Its number, from 1; part of every address on it.
    pub number: u8,
    /// Its name as Kubernetes would know it.
    pub name: String,
    cni: Cni,
    next_host: u8,
    /// MTU of its pods.
    mtu: u16,
    objects: Arc<Objects>,
    /// What its uplink takes to run XDP, if it does.
    xdp: Option<xdp::Passing>,
}

/// What has a network of its own and a name: a pod, or a node.
pub trait Machine {
    /// Its name; servers in it answer with it.
    fn name(&self) -> &str;
    /// Its namespace.
    fn netns(&self) -> &NetNs;
}

impl Machine for Node {
    fn name(&self) -> &str {
        &self.name
    }
    fn netns(&self) -> &NetNs {
        &self.ns
    }
}

impl Machine for Pod {
    fn name(&self) -> &str {
        &self.name
    }
    fn netns(&self) -> &NetNs {
        &self.ns
    }
}

impl Node {
    /// Makes node `number` on the underlay, with no pods.
    pub fn new(underlay: &Underlay, number: u8, cni: Cni) -> Result<Node> {
        let ns = NetNs::new()?;
        ns.set_sysctls(&NODE_SYSCTLS)?;
        let n = number;
        underlay.ns.ip(&[
            format!("link add node{n} type veth peer name eth0 netns {}", ns.path()),
            format!("link set node{n} master switch up"),
        ])?;
        let prepare = || xdp::Passing::at_peer(&underlay.ns, &format!("node{n}"));
        let xdp = underlay.xdp.then(prepare).transpose()?;
        let mut lines = vec![
            "link set eth0 up".into(),
            format!("addr add 192.168.77.{n}/24 dev eth0"),
            format!("addr add fd00:77::{n:x}/64 dev eth0 nodad"),
            "route add default via 192.168.77.254".into(),
            "route add default via fd00:77::fe".into(),
        ];
        if cni == Cni::Bridge {
            lines.extend([
                format!("link add cni0 address {} type bridge", wiring::mac(0xcc, n, 1)),
                "link set cni0 up".into(),
                format!("addr add 10.244.{n}.1/24 dev cni0"),
                format!("addr add fd00:10:244:{n:x}::1/64 dev cni0 nodad"),
            ]);
        }
        ns.ip(&lines)?;
        underlay.ns.wait_running(&format!("node{n}"))?;
        underlay.ns.wait_running("switch")?;
        ns.wait_running("eth0")?;
        let name = format!("node-{n}");
        let objects = underlay.objects.clone();
        let (next_host, mtu) = (10, ETHERNET_MTU);
        let node = Node { ns, number, name, cni, next_host, mtu, objects, xdp };
        node.label(&[])?;
        Ok(node)
    }

    /// What the API of its cluster says.
    pub fn objects(&self) -> &Arc<Objects> {
        &self.objects
    }

    /// Gives its Node object these labels, in place of those it had.
    pub fn label(&self, labels: &[(&str, &str)]) -> Result<()> {
        let (name, n) = (&self.name, self.number);
        let ips = Family::BOTH.map(|family| self.ip_of(family));
        let ranges = [format!("10.244.{n}.0/24"), format!("fd00:10:244:{n:x}::/64")];
        self.objects.put(&format!("{name}.yaml"), &node_yaml(name, labels, &ips, &ranges))
    }

    /// Whether its uplink runs XDP.
    pub fn runs_xdp(&self) -> bool {
        self.xdp.is_some()
    }

    /// Its address of one family on the underlay.
    pub fn ip_of(&self, family: Family) -> IpAddr {
        let n = self.number;
        match family {
            Family::V4 => Ipv4Addr::new(192, 168, 77, n).into(),
            Family::V6 => Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, n.into()).into(),
        }
    }

    /// Adds routes to the pods of `other`.
    pub fn route_to(&self, other: &Node) -> Result<()> {
        let n = other.number;
        self.ns.ip(&[
            format!("route add 10.244.{n}.0/24 via 192.168.77.{n} dev eth0"),
            format!("route add fd00:10:244:{n:x}::/64 via fd00:77::{n:x} dev eth0"),
        ])
    }

    /// Its address of one family on the overlay, once there is one.
    pub fn overlay_ip(&self, family: Family) -> IpAddr {
        let n = self.number;
        match family {
            Family::V4 => Ipv4Addr::new(10, 244, n, 0).into(),
            Family::V6 => Ipv6Addr::new(0xfd00, 0x10, 0x244, n.into(), 0, 0, 0, 0xffff).into(),
        }
    }

    /// Makes its end of the overlay, with a tunnel to each of `others`; its next pods fit into it.
    fn join_overlay<'a>(&mut self, others: impl Iterator<Item = &'a u8>) -> Result<()> {
        self.mtu = OVERLAY_MTU;
        let [v4, v6] = Family::BOTH.map(|family| self.overlay_ip(family));
        let n = self.number;
        let mut lines = vec![
            format!(
                "link add {OVERLAY} address {} mtu {OVERLAY_MTU} type vxlan id 1 dstport 8472 \
                 local 192.168.77.{n} dev eth0 nolearning",
                wiring::mac(0xdd, n, 0)
            ),
            format!("link set {OVERLAY} up"),
            format!("addr add {v4}/32 dev {OVERLAY}"),
            format!("addr add {v6}/128 dev {OVERLAY} nodad"),
        ];
        let mut tunnels = Vec::new();
        for other in others.filter(|other| **other != n) {
            let (there, mac) =
                (format!("fd00:10:244:{other:x}::ffff"), wiring::mac(0xdd, *other, 0));
            tunnels.push(format!("fdb append {mac} dev {OVERLAY} dst 192.168.77.{other}"));
            lines.extend([
                // The kernel takes no gateway that another device leads to.
                format!("route del fd00:10:244:{other:x}::/64"),
                format!("neigh add 10.244.{other}.0 lladdr {mac} dev {OVERLAY} nud permanent"),
                format!("neigh add {there} lladdr {mac} dev {OVERLAY} nud permanent"),
                format!(
                    "route replace 10.244.{other}.0/24 via 10.244.{other}.0 dev {OVERLAY} onlink"
                ),
                format!("route add fd00:10:244:{other:x}::/64 via {there} dev {OVERLAY} onlink"),
            ]);
        }
        self.ns.ip(&lines)?;
        self.ns.bridge(&tunnels)
    }

    /// Makes a pod and wires it to this node; it has both families, and an object of its name.
    pub fn add_pod(&mut self, name: &str) -> Result<Pod> {
        let pod = self.wire_pod(name)?;
        let name = self.objects.free_name(NAMESPACE, name, &self.name);
        self.announce(pod, PodObject::new(NAMESPACE, &name, &self.name, &[]))
    }

    /// Gives a pod its object, whose node and addresses are filled in; agents know the pod from now on.
    pub fn announce(&self, mut pod: Pod, mut object: PodObject) -> Result<Pod> {
        object.node.clone_from(&self.name);
        object.ips = Family::BOTH.map(|family| pod.ip(family)).to_vec();
        self.objects.put_pod(&object)?;
        pod.object = Some(object);
        Ok(pod)
    }

    /// Makes a pod and wires it to this node; no object tells of it yet.
    pub fn wire_pod(&mut self, name: &str) -> Result<Pod> {
        let ns = NetNs::new()?;
        ns.set_sysctls(&POD_SYSCTLS)?;
        let (node, host) = (self.number, self.next_host);
        self.next_host += 1;
        let pod = Pod {
            ns,
            name: name.into(),
            node: self.name.clone(),
            v4: Ipv4Addr::new(10, 244, node, host),
            v6: Ipv6Addr::new(0xfd00, 0x10, 0x244, node.into(), 0, 0, 0, host.into()),
            host_device: format!("veth{node}x{host}"),
            object: None,
        };
        let (pod_mac, host_mac) = (wiring::mac(0xaa, node, host), wiring::mac(0xbb, node, host));
        let device = &pod.host_device;
        let mut lines = vec![
            format!(
                "link add {device} address {host_mac} mtu {mtu} type veth peer name eth0 \
                 address {pod_mac} mtu {mtu} netns {}",
                pod.ns.path(),
                mtu = self.mtu,
            ),
            format!("link set {device} up"),
        ];
        match self.cni {
            Cni::Ptp => lines.extend(wiring::ptp_host_lines(&pod, &pod_mac)),
            // As flannel's bridge does: a pod may reach itself through its own port.
            Cni::Bridge => lines.extend([
                format!("link set {device} master cni0"),
                format!("link set {device} type bridge_slave hairpin on"),
            ]),
        }
        self.ns.ip(&lines)?;
        pod.ns.ip(&match self.cni {
            Cni::Ptp => wiring::ptp_pod_lines(&pod, &host_mac),
            Cni::Bridge => wiring::bridge_pod_lines(&pod, node),
        })?;
        self.wait_wired(&pod)?;
        if self.runs_xdp() {
            xdp::prepare_sender(&pod.ns, "eth0")?;
        }
        Ok(pod)
    }

    fn wait_wired(&self, pod: &Pod) -> Result<()> {
        pod.ns.wait_running("eth0")?;
        self.ns.wait_running(&pod.host_device)?;
        match self.cni {
            Cni::Ptp => Ok(()),
            Cni::Bridge => self.ns.wait_running("cni0"),
        }
    }

    /// Unplugs a pod, as its CNI does when the pod is deleted.
    pub fn remove_pod(&self, pod: Pod) -> Result<()> {
        self.ns.ip(&[format!("link del {}", pod.host_device)])?;
        match &pod.object {
            Some(object) => self.objects.remove(&object.file()),
            None => Ok(()),
        }
    }
}

impl Deref for Node {
    type Target = NetNs;
    fn deref(&self) -> &NetNs {
        &self.ns
    }
}

/// A pod: a namespace with `eth0` and one address of each family.
pub struct Pod {
    ns: NetNs,
    /// Its name; servers in it answer with it.
    pub name: String,
    /// Name of the node it is on.
    pub node: String,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
    /// Name of the host side of its veth, in the node.
    pub host_device: String,
    /// What the API says of it.
    pub object: Option<PodObject>,
}

impl Pod {
    /// Its address of one family.
    pub fn ip(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }

    /// Its address of one family, with a port.
    pub fn addr(&self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(family), port)
    }

    /// Its namespace.
    pub fn ns(&self) -> &NetNs {
        &self.ns
    }
}

impl Deref for Pod {
    type Target = NetNs;
    fn deref(&self) -> &NetNs {
        &self.ns
    }
}

/// A client outside the cluster, two hops from the nodes.
pub struct Outsider {
    ns: NetNs,
}

impl Outsider {
    /// Its address of one family.
    pub fn ip(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(198, 51, 100, 7).into(),
            Family::V6 => Ipv6Addr::new(0xfd00, 0x51, 0, 0, 0, 0, 0, 7).into(),
        }
    }
}

impl Deref for Outsider {
    type Target = NetNs;
    fn deref(&self) -> &NetNs {
        &self.ns
    }
}

/// Nodes `1..=count` on one underlay, each with routes to the others' pods.
pub struct World {
    /// The nodes, node 1 first.
    pub nodes: Vec<Node>,
    underlay: Underlay,
}

impl World {
    /// What the API of this cluster says.
    pub fn objects(&self) -> &Objects {
        &self.underlay.objects
    }

    /// Makes a client outside the cluster; at most one.
    pub fn add_outsider(&self) -> Result<Outsider> {
        self.underlay.add_client()
    }

    /// The nodes' router, and the switch between them.
    pub fn router(&self) -> &NetNs {
        &self.underlay.ns
    }

    /// Takes the pods' packets between nodes through vxlan from now on, as flannel does; there are no
    /// pods yet.
    pub fn tunnel(&mut self) -> Result<()> {
        let numbers: Vec<u8> = self.nodes.iter().map(|node| node.number).collect();
        self.nodes.iter_mut().try_for_each(|node| node.join_overlay(numbers.iter()))
    }

    /// Makes the nodes; they have no pods yet.
    pub fn new(count: u8, cni: Cni) -> Result<World> {
        World::on(Underlay::new()?, count, cni)
    }

    /// The same with uplinks that run XDP.
    pub fn with_xdp(count: u8, cni: Cni) -> Result<World> {
        World::on(Underlay::made(true)?, count, cni)
    }

    /// The same with uplinks that do not, whatever is usual.
    pub fn without_xdp(count: u8, cni: Cni) -> Result<World> {
        World::on(Underlay::made(false)?, count, cni)
    }

    fn on(underlay: Underlay, count: u8, cni: Cni) -> Result<World> {
        let nodes: Vec<Node> =
            (1..=count).map(|n| Node::new(&underlay, n, cni)).collect::<Result<_>>()?;
        for from in &nodes {
            for to in nodes.iter().filter(|to| to.number != from.number) {
                from.route_to(to)?;
            }
        }
        Ok(World { nodes, underlay })
    }
}
