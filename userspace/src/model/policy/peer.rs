// SPDX-License-Identifier: Apache-2.0
//! Peers: whom a rule speaks of.

use std::{net::IpAddr, sync::Arc};

use super::{Labels, Selector};
use crate::model::cidr::Cidr;

/// The peers of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peers {
    /// Everybody: pods, nodes, hosts outside the cluster.
    Any,
    /// Whom one of these items matches; of none, nobody.
    Only(Box<[Peer]>),
}

/// One item of a rule's peers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Pods, never nodes, pods in a node's network, or hosts outside the cluster.
    Pods {
        /// In these namespaces,
        namespaces: Namespaces,
        /// with these labels.
        pods: Selector,
    },
    /// Nodes.
    Nodes(Selector),
    /// Addresses, whoever has them.
    Block(IpBlock),
    /// An item that could not be understood.
    Unknown,
}

/// Namespaces of a peer's pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespaces {
    /// The one of this name.
    Named(Arc<str>),
    /// Those with such labels.
    Matching(Selector),
}

impl Namespaces {
    /// The namespace is among them.
    pub fn contains(&self, name: &str, labels: &Labels) -> bool {
        match self {
            Self::Named(own) => **own == *name,
            Self::Matching(selector) => selector.matches(labels),
        }
    }
}

/// A range of addresses with holes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpBlock {
    cidr: Cidr,
    except: Box<[Cidr]>,
}

impl IpBlock {
    /// The addresses of `cidr` without those of `except`; what of `except` lies outside is ignored.
    pub fn new(cidr: Cidr, except: impl IntoIterator<Item = Cidr>) -> Self {
        let touches = |hole: &Cidr| hole.contains(cidr.address()) || cidr.contains(hole.address());
        let mut except: Vec<Cidr> = except.into_iter().filter(touches).collect();
        except.sort_unstable();
        except.dedup();
        Self { cidr, except: except.into() }
    }

    /// The whole range.
    pub fn cidr(&self) -> Cidr {
        self.cidr
    }

    /// Its holes.
    pub fn except(&self) -> &[Cidr] {
        &self.except
    }

    /// The address is in the range and in no hole.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.cidr.contains(ip) && !self.except.iter().any(|hole| hole.contains(ip))
    }
}
