// SPDX-License-Identifier: Apache-2.0
//! Where a connection may lead: from what was dialled to the servers behind it.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use super::{Candidate, Lead, TraceArgs, find, is_inside};
use crate::{
    cli::{
        env::Env,
        names::Directory,
        output::hint::{CommandError, nearest},
    },
    datapath::{entry::FrontendEntry, view::Maps},
    model::{
        addr::{Protocol, Scope},
        ip::Family,
    },
    server::policy::{Party, PartyKind},
};

/// What was dialled.
struct Target<'a> {
    /// A name, or an address.
    host: &'a str,
    /// A port's number or name.
    port: Option<&'a str>,
}

impl<'a> Target<'a> {
    fn parse(text: &'a str) -> Self {
        if text.parse::<IpAddr>().is_ok() {
            return Self { host: text, port: None };
        }
        match text.rsplit_once(':') {
            Some((host, port)) => Self { host: host.trim_matches(['[', ']']), port: Some(port) },
            None => Self { host: text.trim_matches(['[', ']']), port: None },
        }
    }

    fn number(&self) -> Option<u16> {
        self.port?.parse().ok()
    }
}

/// Every server that a connection may reach.
pub(super) fn of(
    args: &TraceArgs,
    client: &Party,
    maps: &dyn Maps,
    names: &Directory,
    env: &Env<'_>,
) -> anyhow::Result<Vec<Candidate>> {
    let target = Target::parse(&args.to);
    let frontends = Frontends::read(maps, client, args.protocol.transport())?;
    if let Some(found) = frontends.of_service(&target, names)? {
        return Ok(found);
    }
    let server = find(target.host, env)?;
    if server.ips.is_empty() {
        return Err(no_such(target.host, names));
    }
    let port = match (args.protocol.transport(), target.number()) {
        (None, _) => 0,
        (Some(_), Some(port)) => port,
        (Some(_), None) => return Err(CommandError::NoPort { to: args.to.clone() }.into()),
    };
    let is_node = server.kind == PartyKind::OwnNode;
    let found = server.ips.iter().map(|ip| {
        let translated = frontends.of_address(*ip, port, is_node);
        translated.unwrap_or_else(|| vec![direct(*ip, port)])
    });
    Ok(found.flatten().collect())
}

fn direct(ip: IpAddr, port: u16) -> Candidate {
    Candidate { frontend: None, lead: Lead::To(ip), port, family: Family::of(ip) }
}

fn no_such(name: &str, names: &Directory) -> anyhow::Error {
    let services: Vec<String> = names.services().collect();
    let nearest = nearest(name, services.iter().map(String::as_str).chain(names.pods()));
    CommandError::NoSuch { kind: "service or pod", name: name.to_owned(), nearest }.into()
}

/// Frontends that hold for a client and a protocol, and their backends.
struct Frontends {
    entries: Vec<FrontendEntry>,
    /// Ids are unique within a family.
    backends: HashMap<(Family, u32), SocketAddr>,
}

impl Frontends {
    fn read(maps: &dyn Maps, client: &Party, protocol: Option<Protocol>) -> anyhow::Result<Self> {
        let all = maps.frontends()?;
        let is_split = |entry: &FrontendEntry| {
            all.iter()
                .any(|other| other.key.addr == entry.key.addr && other.key.scope == Scope::External)
        };
        let is_for_client = |entry: &&FrontendEntry| match entry.key.scope {
            Scope::Internal => is_inside(client) || !is_split(entry),
            Scope::External => !is_inside(client),
        };
        let of_protocol = |entry: &&FrontendEntry| Some(entry.key.addr.protocol) == protocol;
        let entries = all.iter().filter(of_protocol).filter(is_for_client).cloned().collect();
        let backends = maps.backends()?.into_iter().map(|backend| {
            let addr = SocketAddr::new(backend.addr.ip, backend.addr.port);
            ((Family::of(addr.ip()), backend.id), addr)
        });
        Ok(Self { entries, backends: backends.collect() })
    }

    /// The servers behind the cluster address of a service; `None` if there is no such service.
    fn of_service(
        &self,
        target: &Target<'_>,
        names: &Directory,
    ) -> anyhow::Result<Option<Vec<Candidate>>> {
        if !names.services().any(|name| name == target.host) {
            return Ok(None);
        }
        let is_meant = |entry: &&FrontendEntry| {
            let told = names.frontend(&entry.key.addr);
            let is_named = |port: &str| {
                let service = names.service(entry.service);
                service.and_then(|name| name.rsplit_once(':')).is_some_and(|(_, own)| own == port)
            };
            let has_port = match (target.port, target.number()) {
                (None, _) => true,
                (Some(_), Some(number)) => number == entry.key.addr.port,
                (Some(name), None) => is_named(name),
            };
            has_port
                && told
                    .is_some_and(|told| told.kind == "ClusterIP" && told.service() == target.host)
        };
        let found: Vec<Candidate> =
            self.entries.iter().filter(is_meant).flat_map(|entry| self.behind(entry)).collect();
        match found.is_empty() {
            true => Err(no_such(&format!("{}:{}", target.host, target.port.unwrap_or("*")), names)),
            false => Ok(Some(found)),
        }
    }

    /// The servers behind an address; `None` if it is no service's.
    fn of_address(&self, ip: IpAddr, port: u16, is_node: bool) -> Option<Vec<Candidate>> {
        let is_its = |entry: &&FrontendEntry| {
            let own = entry.key.addr.ip;
            own == ip || (is_node && own.is_unspecified() && Family::of(own) == Family::of(ip))
        };
        let own: Vec<&FrontendEntry> = self.entries.iter().filter(is_its).collect();
        let found: Vec<Candidate> = own
            .iter()
            .filter(|entry| entry.key.addr.port == port)
            .flat_map(|entry| self.behind(entry))
            .map(|candidate| Candidate { frontend: Some(SocketAddr::new(ip, port)), ..candidate })
            .collect();
        if !found.is_empty() {
            return Some(found);
        }
        // The node listens on other ports itself.
        let is_service = own.iter().any(|entry| entry.key.addr.ip == ip);
        is_service.then(|| vec![nowhere(SocketAddr::new(ip, port), "unknown-port")])
    }

    fn behind(&self, entry: &FrontendEntry) -> Vec<Candidate> {
        let addr = entry.key.addr;
        let frontend = SocketAddr::new(addr.ip, addr.port);
        let family = Family::of(addr.ip);
        let mut servers: Vec<SocketAddr> = entry
            .backends
            .iter()
            .filter_map(|id| self.backends.get(&(family, *id)))
            .copied()
            .collect();
        servers.sort_unstable();
        servers.dedup();
        if servers.is_empty() {
            return vec![nowhere(frontend, "no-backend")];
        }
        let candidate = |server: SocketAddr| Candidate {
            frontend: Some(frontend),
            ..direct(server.ip(), server.port())
        };
        servers.into_iter().map(candidate).collect()
    }
}

fn nowhere(frontend: SocketAddr, why: &'static str) -> Candidate {
    Candidate {
        frontend: Some(frontend),
        lead: Lead::Nowhere(why),
        port: 0,
        family: Family::of(frontend.ip()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_name_or_an_address_and_perhaps_a_port() {
        let check = |text: &str, host: &str, port: Option<&str>| {
            let target = Target::parse(text);
            assert_eq!((target.host, target.port), (host, port), "{text}");
        };
        check("shop/web", "shop/web", None);
        check("shop/web:http", "shop/web", Some("http"));
        check("10.0.0.1", "10.0.0.1", None);
        check("10.0.0.1:80", "10.0.0.1", Some("80"));
        check("fd00::1", "fd00::1", None);
        check("[fd00::1]:80", "fd00::1", Some("80"));
    }
}
