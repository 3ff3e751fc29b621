// SPDX-License-Identifier: Apache-2.0
//! The cgroup programs, which translate sockets when they dial: load, attach, replace, remove.
//!
//! Their links are pinned beside those of interfaces, under the programs' names, and outlive the agent.
//! A new agent puts its programs into the pinned links; each changes over in one step.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::MetadataExt as _,
    },
    path::Path,
};

use aya::{
    Ebpf,
    maps::MapData,
    programs::{
        CgroupAttachMode, Program, ProgramError,
        links::{FdLink, LinkError},
    },
};
use pintle_abi::{
    map,
    socket::{UdpSocket, socket_scope},
};
use thiserror::Error;
use tracing::{debug, warn};

use super::{batch, element::Elements, link::Link, object::LoadError, pins::Pins};

/// The programs in the order of attaching: a socket is translated only where it will be told what it
/// expects. They are removed in the opposite order.
const PROGRAMS: [&str; 9] = [
    "sock_release",
    "getpeername4",
    "getpeername6",
    "recvmsg4",
    "recvmsg6",
    "sendmsg4",
    "sendmsg6",
    "connect4",
    "connect6",
];

/// What was loaded from the object file.
pub type Object = Ebpf;

/// Whose sockets are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Nobody's.
    Off,
    /// Those of the node's own network namespace.
    Host,
    /// Those of pods, too.
    All,
}

impl Scope {
    /// The word shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Host => "host",
            Self::All => "all",
        }
    }

    /// The programs' word for it.
    pub fn number(self) -> u32 {
        match self {
            Self::Off => socket_scope::OFF,
            Self::Host => socket_scope::HOST,
            Self::All => socket_scope::ALL,
        }
    }
}

/// Why sockets cannot be translated.
#[derive(Debug, Error)]
pub enum SocketError {
    /// The object is not one of ours.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The cgroup cannot be opened.
    #[error("open the cgroup {path}")]
    Cgroup {
        /// Its directory.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused a program.
    #[error("attach {program}")]
    Program {
        /// The program.
        program: &'static str,
        /// What the kernel said.
        source: ProgramError,
    },
    /// A link could not be pinned, and so would not outlive the agent.
    #[error("pin the link of {program}")]
    Pin {
        /// The program.
        program: &'static str,
        /// What the kernel said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Attaches every program to a cgroup, or replaces what an earlier agent attached there. All of them
/// or none: after a failure no link is left.
pub fn attach(object: &mut Object, pins: &Pins, cgroup: &Path) -> Result<(), SocketError> {
    let opened = File::open(cgroup).and_then(|dir| Ok((dir.metadata()?.ino(), dir)));
    let (id, dir) = opened
        .map_err(|source| SocketError::Cgroup { path: cgroup.display().to_string(), source })?;
    // All are loaded before the first is attached.
    let attached = PROGRAMS.iter().try_for_each(|name| load(object, name)).and_then(|()| {
        PROGRAMS.iter().try_for_each(|name| attach_one(object, pins, name, (id, &dir)))
    });
    if attached.is_err() {
        detach(pins);
    }
    attached
}

/// Removes every link; what fails is logged.
pub fn detach(pins: &Pins) {
    for name in PROGRAMS.iter().rev() {
        let pin = pins.links().join(name);
        if !pin.exists() {
            continue;
        }
        // Without its pin it goes anyway, only later.
        let _ = Link::open(&pin).and_then(|link| link.detach());
        if let Err(error) = fs::remove_file(&pin) {
            warn!(path = %pin.display(), %error, "remove a pin");
        }
    }
}

/// Forgets the sockets of programs that are removed: nobody would when they are closed.
pub fn forget(pins: &Pins) -> io::Result<()> {
    let data = MapData::from_pin(pins.map(&map::UDP_SOCKETS)).map_err(io::Error::other)?;
    let mut cookies: Vec<u64> = Vec::new();
    batch::for_each(data.fd().as_fd(), |cookie: &u64, _: &UdpSocket| cookies.push(*cookie))?;
    let mut elements = Elements::<u64, UdpSocket>::of(data.fd().as_fd());
    cookies.iter().try_for_each(|cookie| elements.delete(cookie))
}

/// The number of the network namespace of the calling thread.
pub fn netns_cookie() -> io::Result<u64> {
    /// Linux 5.14 and later.
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    let mut cookie = 0_u64;
    let mut size = size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: the cookie is writable for as many bytes as `size` says.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut size,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

fn load(object: &mut Object, name: &'static str) -> Result<(), SocketError> {
    let loaded = match object.program_mut(name) {
        Some(Program::CgroupSockAddr(program)) => program.load(),
        Some(Program::CgroupSock(program)) => program.load(),
        _ => return Err(LoadError::Incomplete(name).into()),
    };
    loaded.map_err(|source| SocketError::Program { program: name, source })
}

fn attach_one(
    object: &mut Object,
    pins: &Pins,
    name: &'static str,
    (id, dir): (u64, &File),
) -> Result<(), SocketError> {
    let refused = |source| SocketError::Program { program: name, source };
    let pin = pins.links().join(name);
    let old = Link::open(&pin).ok();
    let program = object.program_mut(name).ok_or(LoadError::Incomplete(name))?;
    if let Some(old) = old.as_ref().filter(|old| old.cgroup_id().is_ok_and(|found| found == id)) {
        let fd = program.fd().map_err(refused)?;
        match old.update(fd.as_fd()) {
            Ok(()) => return Ok(()),
            Err(error) => debug!(%name, %error, "attaching anew"),
        }
    }
    // The new one first: a socket that meets both is translated by the one and left by the other.
    let link = new_link(program, dir).map_err(refused)?;
    if let Some(old) = old {
        let _ = old.detach();
        let _ = fs::remove_file(&pin);
    }
    let pinned = link
        .map_err(|error| Box::new(error) as Box<_>)
        .and_then(|link| link.pin(&pin).map_err(|error| Box::new(error) as Box<_>));
    pinned.map(drop).map_err(|source| SocketError::Pin { program: name, source })
}

/// A link of a program to a cgroup. The kernel lets every link stand beside others, whatever the mode;
/// it refuses the modes that say so.
fn new_link(program: &mut Program, dir: &File) -> Result<Result<FdLink, LinkError>, ProgramError> {
    match program {
        Program::CgroupSockAddr(program) => {
            let id = program.attach(dir, CgroupAttachMode::Single)?;
            Ok(program.take_link(id)?.try_into())
        }
        Program::CgroupSock(program) => {
            let id = program.attach(dir, CgroupAttachMode::Single)?;
            Ok(program.take_link(id)?.try_into())
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_this_namespace_is_the_same_for_every_socket() {
        let cookie = netns_cookie().unwrap();
        assert_ne!(cookie, 0);
        assert_eq!(netns_cookie().unwrap(), cookie);
    }
}
