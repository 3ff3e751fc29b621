// SPDX-License-Identifier: Apache-2.0
//! Header formats: offsets named once, for each protocol in the same order.

pub mod ethernet;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod sctp;
pub mod tcp;
pub mod udp;
