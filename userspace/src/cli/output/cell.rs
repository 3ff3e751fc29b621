// SPDX-License-Identifier: Apache-2.0
//! A value of a row: as text for people and as JSON for programs. Pure.

use std::net::{IpAddr, SocketAddr};

use pintle_abi::policy::ruleset::{CLOSED, OPEN};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::human;

/// What a cell means for the reader; shown as colour, never alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// Allow, ready, ok: green.
    Good,
    /// Deny, drop, failed: red.
    Bad,
    /// Terminating, warning, degraded: yellow.
    Warning,
}

impl Tone {
    /// The text in this tone's colour.
    pub fn paint(self, text: &str) -> String {
        let code = match self {
            Self::Plain => return text.to_owned(),
            Self::Good => "32",
            Self::Bad => "31",
            Self::Warning => "33",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// There is none: `-`, `null`.
    None,
    /// It could not be read: `?`, `null`.
    Unknown,
    /// Words.
    Text(String),
    /// A word with a tone.
    Word(&'static str, Tone),
    /// Words below a heading of the same column.
    Part(String),
    /// A count.
    Number(u64),
    /// The number of a port; 0 if there is none.
    Port(u16),
    /// A share in percent of `.1`.
    Percent(u64, u64),
    /// An amount of bytes.
    Bytes(u64),
    /// A duration in ns.
    Nanoseconds(u64),
    /// A duration in seconds.
    Seconds(u64),
    /// How many are ready of how many, if that is known.
    Ready(u64, Option<u64>),
    /// An address, perhaps with its protocol.
    Address(SocketAddr, Option<&'static str>),
    /// An address of a pod whose name is shown if it is known.
    Pod(SocketAddr, Option<String>),
    /// The same without port, of anybody.
    Host(IpAddr, Option<String>),
    /// Several words.
    Words(Vec<String>),
    /// The number of a ruleset.
    Ruleset(u32),
    /// A number made of content.
    Id(u32),
}

impl Cell {
    /// Words; `-` if there are none.
    pub fn text(text: impl Into<String>) -> Self {
        match text.into() {
            text if text.is_empty() => Self::None,
            text => Self::Text(text),
        }
    }

    /// Words from someone who might not know.
    pub fn known(text: Option<&str>) -> Self {
        text.map_or(Self::Unknown, Self::text)
    }

    /// As people read it.
    pub fn for_people(&self) -> String {
        match self {
            Self::None => "-".into(),
            Self::Unknown => "?".into(),
            Self::Text(text) => text.clone(),
            Self::Word(word, _) => (*word).into(),
            Self::Part(text) => format!("  {text}"),
            Self::Number(value) => human::number(*value),
            Self::Port(0) => "-".into(),
            Self::Port(port) => port.to_string(),
            Self::Percent(part, whole) => human::percent(*part, *whole),
            Self::Bytes(value) => human::bytes(*value),
            Self::Nanoseconds(value) => human::seconds(value / 1_000_000_000),
            Self::Seconds(value) => human::seconds(*value),
            Self::Ready(ready, Some(total)) => format!("{ready}/{total}"),
            Self::Ready(ready, None) => format!("{ready}/?"),
            Self::Address(address, protocol) => address_text(*address, *protocol),
            Self::Pod(address, Some(name)) => format!("{name}:{}", address.port()),
            Self::Pod(address, None) => address.to_string(),
            Self::Host(_, Some(name)) => name.clone(),
            Self::Host(ip, None) => ip.to_string(),
            Self::Words(words) if words.is_empty() => "-".into(),
            Self::Words(words) => words.join(","),
            Self::Ruleset(number) => ruleset(*number),
            Self::Id(number) => format!("{number:08x}"),
        }
    }

    /// Its tone.
    pub fn tone(&self) -> Tone {
        match self {
            Self::Word(_, tone) => *tone,
            Self::Ready(0, _) => Tone::Bad,
            Self::Ready(ready, Some(total)) if ready < total => Tone::Warning,
            Self::Ruleset(CLOSED) => Tone::Bad,
            _ => Tone::Plain,
        }
    }
}

/// `open`, `closed`, or eight digits: it is a number made of content.
fn ruleset(number: u32) -> String {
    match number {
        OPEN => "open".into(),
        CLOSED => "closed".into(),
        number => format!("{number:08x}"),
    }
}

fn address_text(address: SocketAddr, protocol: Option<&str>) -> String {
    let text = match address {
        // A node port is one of every address of the node.
        SocketAddr::V4(address) if address.ip().is_unspecified() => format!("*:{}", address.port()),
        SocketAddr::V6(address) if address.ip().is_unspecified() => {
            format!("[*]:{}", address.port())
        }
        address => address.to_string(),
    };
    match protocol {
        Some(protocol) => format!("{text}/{protocol}"),
        None => text,
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None | Self::Unknown | Self::Port(0) => serializer.serialize_none(),
            Self::Port(port) => serializer.serialize_u16(*port),
            Self::Text(text) | Self::Part(text) => serializer.serialize_str(text),
            Self::Word(word, _) => serializer.serialize_str(word),
            Self::Number(value)
            | Self::Bytes(value)
            | Self::Nanoseconds(value)
            | Self::Seconds(value) => serializer.serialize_u64(*value),
            Self::Percent(part, whole) => {
                let percent = u128::from(*part) * 100 / u128::from(*whole).max(1);
                serializer.serialize_u64(percent as u64)
            }
            Self::Ready(ready, total) => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("ready", ready)?;
                map.serialize_entry("total", total)?;
                map.end()
            }
            Self::Address(address, protocol) => {
                let mut map = serializer.serialize_map(Some(4))?;
                entries(&mut map, address.ip(), address.port())?;
                map.serialize_entry("proto", protocol)?;
                map.serialize_entry("text", &address_text(*address, *protocol))?;
                map.end()
            }
            Self::Words(words) => words.serialize(serializer),
            Self::Ruleset(_) | Self::Id(_) => serializer.serialize_str(&self.for_people()),
            Self::Host(ip, name) => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("ip", ip)?;
                map.serialize_entry("name", name)?;
                map.end()
            }
            Self::Pod(address, name) => {
                let mut map = serializer.serialize_map(Some(4))?;
                entries(&mut map, address.ip(), address.port())?;
                map.serialize_entry("pod", name)?;
                map.serialize_entry("text", &self.for_people())?;
                map.end()
            }
        }
    }
}

fn entries<M: SerializeMap>(map: &mut M, ip: IpAddr, port: u16) -> Result<(), M::Error> {
    map.serialize_entry("ip", &ip)?;
    map.serialize_entry("port", &port)
}
