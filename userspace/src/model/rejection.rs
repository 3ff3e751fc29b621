// SPDX-License-Identifier: Apache-2.0
//! What was not accepted, and why: never a crash, never silent, never at the cost of others.

use std::{fmt, sync::Arc};

use thiserror::Error;

use super::{
    addr::{FrontendAddr, Protocol},
    cidr::Cidr,
    ip::Family,
    name::{ObjectRef, ServiceName},
};

/// An object, or a part of it, that is not in force.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{object}: {reason}")]
pub struct Rejection {
    /// The object that should be looked at.
    pub object: ObjectRef,
    /// What is wrong with it.
    pub reason: RejectReason,
}

/// How a part of a policy fails closed that could not be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedEffect {
    /// What allows matches nothing.
    MatchesNothing,
    /// What denies or passes denies all that it might match.
    Denies,
    /// A whole policy selects all pods that it might, and allows nothing.
    AllowsNothing,
}

impl fmt::Display for ClosedEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MatchesNothing => "it matches nothing",
            Self::Denies => "the rule denies all that it might match",
            Self::AllowsNothing => "the policy selects all that it might, and allows nothing",
        })
    }
}

/// Why an object, or the named part of it, is not in force.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RejectReason {
    /// Pintle has no use for objects of this kind or API version.
    #[error("{file}:{line}: kind {api_version} {kind} is unknown")]
    UnknownKind {
        /// File of the directory source.
        file: Arc<str>,
        /// Line where the document starts, from 1.
        line: usize,
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
    },
    /// Not YAML or JSON, or not the fields that the kind has.
    #[error("{file}:{line}: {message}; what was read before stays in force")]
    Malformed {
        /// File of the directory source.
        file: Arc<str>,
        /// Line of the error, from 1.
        line: usize,
        /// The parser's message.
        message: String,
    },
    /// The file is there but could not be read.
    #[error("{file}: {message}; what was read before stays in force")]
    Unreadable {
        /// File of the directory source.
        file: Arc<str>,
        /// The operating system's message.
        message: String,
    },
    /// The directory of the directory source was removed or renamed.
    #[error("the directory {path} is gone; what was read before stays in force")]
    DirectoryGone {
        /// Its path.
        path: Arc<str>,
    },
    /// An object of the API server that has not the fields that its kind has.
    #[error("{message}; what was read before stays in force")]
    Undecodable {
        /// The decoder's message.
        message: String,
    },
    /// The API server does not answer, or refuses a watch.
    #[error("{message}; what was read before stays in force")]
    WatchFails {
        /// The client's message.
        message: String,
    },
    /// `metadata.name` or `metadata.namespace` is absent or cannot be a name.
    #[error("{file}:{line}: {kind} has no valid name: '{name}'")]
    BadName {
        /// File of the directory source.
        file: Arc<str>,
        /// Line where the document starts, from 1.
        line: usize,
        /// `kind`.
        kind: String,
        /// The name as written.
        name: String,
    },
    /// Two documents define the same object.
    #[error("defined in {used} and again in {ignored}; the former is used")]
    DefinedTwice {
        /// File whose definition is in force.
        used: Arc<str>,
        /// File whose definition is not.
        ignored: Arc<str>,
    },
    /// Text that is not an IP address.
    #[error("{field}: '{text}' is not an IP address")]
    BadAddress {
        /// Where it stands.
        field: &'static str,
        /// The text.
        text: String,
    },
    /// Text that is not a range of addresses.
    #[error("{field}: '{text}' is not a range of addresses")]
    BadRange {
        /// Where it stands.
        field: &'static str,
        /// The text.
        text: String,
    },
    /// Source ranges that all cannot be read: nobody is let in, or a typing error would let in all.
    #[error("no source range for {family} can be read: nobody may use its {family} load balancer")]
    NoSourceRange {
        /// The family.
        family: Family,
    },
    /// A node port of a Service whose type has none.
    #[error("port '{name}': node port {number} is not used, the type is ClusterIP")]
    NodePortUnused {
        /// Name of the port.
        name: String,
        /// The node port.
        number: i32,
    },
    /// Two ports of a Service have the same node port and protocol.
    #[error("port '{name}': node port {number}/{protocol} repeats that of an earlier port")]
    DuplicateNodePort {
        /// Name of the later port.
        name: String,
        /// The node port.
        number: u16,
        /// The protocol.
        protocol: Protocol,
    },
    /// A health check port outside 1 to 65535.
    #[error("healthCheckNodePort: {number} is not between 1 and 65535")]
    HealthCheckOutOfRange {
        /// The number.
        number: i32,
    },
    /// Text that is not a time.
    #[error("{field}: '{text}' is not a time")]
    BadTime {
        /// Where it stands.
        field: &'static str,
        /// The text.
        text: String,
    },
    /// External addresses are switched off (`AllowServiceExternalIPs`).
    #[error("externalIPs are not used: they are switched off")]
    ExternalIpsOff,
    /// A range of service addresses beyond those the maps have room for.
    #[error("{cidr} is not used: there is room for {room} ranges of a family")]
    TooManyServiceCidrs {
        /// The range.
        cidr: Cidr,
        /// How many there may be.
        room: usize,
    },
    /// An address of the other family.
    #[error("{field}: {text} is not an {expected} address")]
    WrongFamily {
        /// Where it stands.
        field: &'static str,
        /// The address.
        text: String,
        /// The family that the object declares.
        expected: Family,
    },
    /// A loopback, link-local, multicast or unspecified address.
    #[error("{field}: {text} cannot be reached from other hosts")]
    UnusableAddress {
        /// Where it stands.
        field: &'static str,
        /// The address.
        text: String,
    },
    /// A port number outside 1 to 65535.
    #[error("port '{name}': {number} is not between 1 and 65535")]
    PortOutOfRange {
        /// Name of the port.
        name: String,
        /// The number.
        number: i32,
    },
    /// Two ports of a Service have the same name, or the same number and protocol.
    #[error("port '{name}' ({number}/{protocol}) repeats an earlier port")]
    DuplicatePort {
        /// Name of the later port.
        name: String,
        /// Its number.
        number: u16,
        /// Its protocol.
        protocol: Protocol,
    },
    /// A protocol that the data path does not translate.
    #[error("port '{name}': protocol {protocol} is not supported")]
    UnsupportedProtocol {
        /// Name of the port.
        name: String,
        /// The protocol.
        protocol: String,
    },
    /// A word that the API does not define.
    #[error("{field}: '{value}' is unknown, '{used}' is used")]
    UnknownValue {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// The value that is used in its place.
        used: &'static str,
    },
    /// A slice whose `addressType` the API does not define.
    #[error("addressType '{value}' is unknown")]
    UnknownAddressType {
        /// The word.
        value: String,
    },
    /// A session affinity timeout outside 1 to 86400 seconds.
    #[error("session affinity: {seconds} s is not between 1 and 86400, 10800 is used")]
    AffinityOutOfRange {
        /// The timeout.
        seconds: i32,
    },
    /// A Service without an address; in a cluster the API server gives it one.
    #[error("has no clusterIP")]
    NoClusterIp,
    /// A part of a policy that could not be understood.
    #[error("{field}: {message}; {effect}")]
    PolicyPart {
        /// Where it stands.
        field: String,
        /// What is wrong with it.
        message: String,
        /// What it does instead.
        effect: ClosedEffect,
    },
    /// An older Service has the same address, port and protocol.
    #[error("{frontend} belongs to the older Service {owner}")]
    AddressTaken {
        /// The address.
        frontend: FrontendAddr,
        /// The Service that has it.
        owner: ServiceName,
    },
}
