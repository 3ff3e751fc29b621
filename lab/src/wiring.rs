// SPDX-License-Identifier: Apache-2.0
//! What ip(8) is told to wire a pod to its node.

use crate::topology::Pod;

/// What ip(8) is told on the node's side of a point-to-point veth.
pub(crate) fn ptp_host_lines(pod: &Pod, pod_mac: &str) -> Vec<String> {
    let Pod { v4, v6, host_device: device, .. } = pod;
    vec![
        format!("route add {v4}/32 dev {device} scope link"),
        format!("neigh replace {v4} lladdr {pod_mac} dev {device} nud permanent"),
        format!("route add {v6}/128 dev {device}"),
        format!("neigh replace {v6} lladdr {pod_mac} dev {device} nud permanent"),
    ]
}

/// The same on the pod's side.
pub(crate) fn ptp_pod_lines(pod: &Pod, host_mac: &str) -> Vec<String> {
    vec![
        "link set eth0 up".into(),
        format!("addr add {}/32 dev eth0", pod.v4),
        format!("addr add {}/128 dev eth0 nodad", pod.v6),
        format!("neigh replace 169.254.1.1 lladdr {host_mac} dev eth0 nud permanent"),
        format!("neigh replace fe80::1 lladdr {host_mac} dev eth0 nud permanent"),
        "route add 169.254.1.1 dev eth0 scope link".into(),
        "route add default via 169.254.1.1 dev eth0".into(),
        "route add default via fe80::1 dev eth0".into(),
    ]
}

/// The same on the pod's side of a bridge's port.
pub(crate) fn bridge_pod_lines(pod: &Pod, node: u8) -> Vec<String> {
    vec![
        "link set eth0 up".into(),
        format!("addr add {}/24 dev eth0", pod.v4),
        format!("addr add {}/64 dev eth0 nodad", pod.v6),
        format!("route add default via 10.244.{node}.1 dev eth0"),
        format!("route add default via fd00:10:244:{node:x}::1 dev eth0"),
    ]
}

/// A locally administered address; `role` tells pod, host and bridge ends apart.
pub(crate) fn mac(role: u8, node: u8, host: u8) -> String {
    format!("02:00:00:{role:02x}:{node:02x}:{host:02x}")
}
