// SPDX-License-Identifier: Apache-2.0
//! Policies in a [`World`], as user space would have compiled them.

use std::net::IpAddr;

use pintle_abi::{
    addr::proto,
    counter::Hook,
    policy::{
        Endpoint, PORT_BITS, PROTOCOL_BITS, PolicyPort, RULESET_BITS, Row, RowKey, policy_mode,
    },
    settings::Settings,
};

use crate::{
    frame::Frame,
    world::{IFINDEX, Origin, Verdict, World, settings},
};

/// The ruleset of what the first pod sends.
pub const EGRESS: u32 = 10;
/// The ruleset of what a pod receives.
pub const INGRESS: u32 = 11;
/// Rulesets of a pod that reaches itself.
pub const HAIRPIN: (u32, u32) = (12, 13);

/// The class of friends; 0 is everybody else's.
pub const FRIEND: u32 = 5;

/// Port classes: portless and other protocols, port 80 or 8080, other ports of TCP, UDP and SCTP.
pub const OTHER: u32 = 0;
/// See [`OTHER`].
pub const WEB: u32 = 70;
/// See [`OTHER`].
pub const PORTS: u32 = 255;

/// Ports of [`WEB`].
const WEB_PORTS: [u16; 2] = [80, 8080];

/// A pod with an address, which no policy selects.
pub fn pod(ip: IpAddr) -> Endpoint {
    match ip {
        IpAddr::V4(ip) => Endpoint { v4: ip.into(), ..Endpoint::default() },
        IpAddr::V6(ip) => Endpoint { v6: ip.into(), ..Endpoint::default() },
    }
}

/// Bits of a row.
fn bits(port_classes: &[u32]) -> [u64; 4] {
    let mut bits = [0; 4];
    for class in port_classes {
        bits[*class as usize / 64] |= 1 << (class % 64);
    }
    bits
}

impl dyn World + '_ {
    /// Lets policies hold, at an epoch.
    pub fn police(&mut self, epoch: u32) {
        self.police_as(policy_mode::CLOSED, epoch);
    }

    /// The same in a mode.
    pub fn police_as(&mut self, mode: u32, epoch: u32) {
        self.put_settings(&Settings { policy: mode, policy_epoch: epoch, ..settings() });
    }

    /// The pod at the vectors' interface.
    pub fn at_pod(&mut self, endpoint: Endpoint) {
        self.put_endpoint(IFINDEX, Some(&endpoint));
    }

    /// Writes the ports of a ruleset, and rows that allow friends and everybody else these port classes.
    pub fn ruleset(&mut self, ruleset: u32, friends: &[u32], others: &[u32]) {
        let port = |proto, port: u16| {
            let port = port.to_be();
            PolicyPort { ruleset: ruleset.to_be(), proto, pad: 0, port }
        };
        self.put_policy_port(RULESET_BITS, port(0, 0), OTHER);
        for protocol in [proto::TCP, proto::UDP, proto::SCTP] {
            self.put_policy_port(PROTOCOL_BITS, port(protocol, 0), PORTS);
            for web in WEB_PORTS {
                self.put_policy_port(PORT_BITS, port(protocol, web), WEB);
            }
        }
        self.row(ruleset, FRIEND, friends, friends);
        self.row(ruleset, 0, others, others);
    }

    /// Writes one row: what is allowed, and what would be if the audited policies held.
    pub fn row(&mut self, ruleset: u32, class: u32, allow: &[u32], staged: &[u32]) {
        let row = Row { allow: bits(allow), staged: bits(staged) };
        self.put_row(RowKey { ruleset, class }, row);
    }

    /// A frame passes a hook as it is.
    #[track_caller]
    pub fn lets(&mut self, hook: Hook, frame: &Frame) {
        self.lets_from(Origin::Elsewhere, hook, frame);
    }

    /// A frame that was made somewhere passes a hook as it is.
    #[track_caller]
    pub fn lets_from(&mut self, origin: Origin, hook: Hook, frame: &Frame) {
        let bytes = frame.bytes();
        let went = self.send_from(origin, hook, &bytes);
        assert_eq!(went.0, Verdict::Pass, "{frame:?}");
        assert_eq!(went.1, bytes);
    }

    /// A frame is dropped at a hook.
    #[track_caller]
    pub fn denies(&mut self, hook: Hook, frame: &Frame) {
        let went = self.send_from(Origin::Elsewhere, hook, &frame.bytes());
        assert_eq!(went.0, Verdict::Drop, "{frame:?}");
    }
}
