// SPDX-License-Identifier: Apache-2.0
//! Programs on interfaces: tcx links where the kernel has them, clsact filters otherwise.
//!
//! A link is pinned, so it outlives the agent; a new agent replaces the program behind it in one
//! step, and no packet meets an interface without a program.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    programs::{
        ProgramError, SchedClassifier, TcAttachType,
        links::{FdLink, Link as _, LinkError, LinkOrder, PinnedLink},
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle},
    },
};
use pintle_abi::counter::Hook;
use thiserror::Error;
use tracing::{debug, warn};

use super::{
    clsact::{self, HANDLE, PRIORITY},
    detach::detach,
    object::{self, LoadError},
    pins::Pins,
    tcx, xdp,
};
use crate::node::IfIndex;

/// How programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// tcx links, Linux 6.6 and later.
    Tcx,
    /// Filters on a clsact qdisc.
    Clsact,
}

impl Mode {
    /// The word shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// The hooks of tc; the other is [`super::xdp`]'s.
const OF_TC: [Hook; 4] = [Hook::FromPod, Hook::ToPod, Hook::FromNet, Hook::ToNet];

/// Whether an interface has the program of XDP, run by its driver; or why it has not.
pub type Native = Result<(), String>;

/// What an interface is to us, and so which hooks it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The host side of a pod's veth.
    Pod,
    /// It leads to the network: an uplink or an overlay device.
    Net,
    /// The loopback device of the host.
    Loopback,
}

impl Role {
    /// The word shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Net => "net",
            Self::Loopback => "loopback",
        }
    }

    /// Its hooks of tc, those of replies first: a packet is translated only where its reply will be.
    fn hooks(self) -> &'static [Hook] {
        match self {
            Self::Pod => &[Hook::ToPod, Hook::FromPod],
            Self::Net => &[Hook::ToNet, Hook::FromNet],
            Self::Loopback => &[Hook::ToNet],
        }
    }
}

/// Why programs could not be attached to an interface.
#[derive(Debug, Error)]
pub enum AttachError {
    /// A program is missing.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The kernel refused to attach or replace a program.
    #[error("attach {hook}")]
    Program {
        /// The hook.
        hook: &'static str,
        /// What the kernel said.
        source: ProgramError,
    },
    /// A link could not be pinned, and so would not outlive the agent.
    #[error("pin the link of {hook}")]
    Pin {
        /// The hook.
        hook: &'static str,
        /// What the kernel said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The clsact qdisc could not be added.
    #[error("add a clsact qdisc")]
    Qdisc(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Attaches the programs of a loaded object.
pub struct Attacher {
    ebpf: Ebpf,
    pins: Pins,
    mode: Mode,
    attached: BTreeMap<IfIndex, (String, Role)>,
    native: BTreeMap<IfIndex, Native>,
}

impl Attacher {
    /// An attacher with nothing attached; finds out which way the kernel knows.
    pub fn new(ebpf: Ebpf, pins: Pins, wanted: Option<Mode>) -> Self {
        let mode = wanted.unwrap_or_else(probe);
        Self { ebpf, pins, mode, attached: BTreeMap::new(), native: BTreeMap::new() }
    }

    /// The way that programs are attached.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Interfaces with programs of this agent, by name and role.
    pub fn attached(&self) -> &BTreeMap<IfIndex, (String, Role)> {
        &self.attached
    }

    /// Uplinks, and whether they have the program of XDP.
    pub fn native(&self) -> &BTreeMap<IfIndex, Native> {
        &self.native
    }

    /// Attaches the program of XDP to an uplink that has the others, if that is wanted and the driver
    /// takes it; otherwise tc goes on alone.
    pub fn attach_native(&mut self, index: IfIndex, name: &str, wanted: Native) {
        let native = wanted.and_then(|()| {
            xdp::attach(&mut self.ebpf, &self.pins, index, name).map_err(|error| error.to_string())
        });
        if native.is_err() {
            self.remove_links(index, &[Hook::Xdp]);
        }
        self.native.insert(index, native);
    }

    /// Attaches the tc hooks of an interface, or replaces what an earlier agent attached.
    ///
    /// What an agent attached the other way goes last: of two programs the second finds the packet
    /// translated already and lets it pass, while a moment without a program would cost connections.
    pub fn attach(&mut self, index: IfIndex, name: &str, role: Role) -> Result<(), AttachError> {
        for hook in role.hooks() {
            match self.mode {
                Mode::Tcx => self.attach_tcx(*hook, index, name)?,
                Mode::Clsact => self.attach_clsact(*hook, index, name)?,
            }
        }
        match self.mode {
            Mode::Tcx => detach_clsact(&self.pins, index, name),
            Mode::Clsact => self.remove_links(index, &OF_TC),
        }
        // It may have had another role.
        let mut others = OF_TC.to_vec();
        others.retain(|hook| !role.hooks().contains(hook));
        if role != Role::Net {
            self.native.remove(&index);
            others.insert(0, Hook::Xdp);
        }
        self.remove_links(index, &others);
        self.attached.insert(index, (name.to_owned(), role));
        Ok(())
    }

    /// Forgets an interface that is gone or none of ours any more, with its programs.
    pub fn forget(&mut self, index: IfIndex) {
        self.attached.remove(&index);
        self.native.remove(&index);
        self.remove_links(index, &[Hook::Xdp]);
        self.remove_links(index, &OF_TC);
        let all = clsact::interfaces().unwrap_or_default();
        match all.iter().find(|(known, _)| *known == index) {
            Some((_, name)) => detach_clsact(&self.pins, index, name),
            None => remove_mark(&self.pins.qdisc(index)),
        }
    }

    fn remove_links(&self, index: IfIndex, hooks: &[Hook]) {
        for hook in hooks {
            let pin = self.pins.link(*hook, index);
            // Without its pin it goes anyway, only later; with its interface it is gone already.
            let _ = detach(&pin);
            remove_pin(&pin);
        }
    }

    /// Removes pins of interfaces that no longer exist, or are none of ours any more.
    pub fn forget_others(&mut self) -> io::Result<()> {
        for (index, _) in self.pins.list_links()? {
            if !self.attached.contains_key(&index) {
                self.forget(index);
            }
        }
        Ok(())
    }

    fn attach_tcx(&mut self, hook: Hook, index: IfIndex, name: &str) -> Result<(), AttachError> {
        let path = self.pins.link(hook, index);
        let program = object::classifier(&mut self.ebpf, hook.as_str())?;
        let refused = |source| AttachError::Program { hook: hook.as_str(), source };
        tcx::note(program.info().map_err(refused)?.id(), hook);
        if path.exists() {
            match replace(program, &path) {
                Ok(()) => return Ok(()),
                // The link has outlived its interface, and another has the number now.
                Err(error) => {
                    debug!(%name, hook = hook.as_str(), %error, "attaching anew");
                    remove_pin(&path);
                }
            }
        }
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        let id = program.attach_with_options(name, side(hook), options).map_err(refused)?;
        let link = program.take_link(id).map_err(refused)?;
        pin(link, path).map_err(|source| AttachError::Pin { hook: hook.as_str(), source })
    }

    fn attach_clsact(&mut self, hook: Hook, index: IfIndex, name: &str) -> Result<(), AttachError> {
        // It may be there already; if it is not, the filter cannot be added, and that is reported.
        let added = tc::qdisc_add_clsact(name);
        if added.is_ok()
            && let Err(error) = fs::create_dir_all(self.pins.qdisc(index))
        {
            warn!(%name, %error, "cannot remember the clsact qdisc: cleanup will leave it");
        }
        let program = object::classifier(&mut self.ebpf, hook.as_str())?;
        let refused = |source| AttachError::Program { hook: hook.as_str(), source };
        let existing = filter(name, hook).map_err(|error| AttachError::Qdisc(Box::new(error)))?;
        let id = match program.attach_to_link(existing) {
            Ok(id) => id,
            // There is no such filter yet.
            Err(_) => {
                program.attach_with_options(name, side(hook), options()).map_err(|source| {
                    match added {
                        Err(error) => AttachError::Qdisc(Box::new(error)),
                        Ok(()) => refused(source),
                    }
                })?
            }
        };
        let link = program.take_link(id).map_err(refused)?;
        // The filter stays when the agent goes; dropping the link would remove it.
        std::mem::forget(link);
        Ok(())
    }
}

/// Whether the kernel knows tcx.
fn probe() -> Mode {
    match tcx::numbers("lo", tcx::INGRESS) {
        Ok(_) => Mode::Tcx,
        Err(_) => Mode::Clsact,
    }
}

fn side(hook: Hook) -> TcAttachType {
    match hook {
        Hook::FromPod | Hook::FromNet | Hook::Xdp => TcAttachType::Ingress,
        Hook::ToPod | Hook::ToNet => TcAttachType::Egress,
    }
}

fn options() -> TcAttachOptions {
    TcAttachOptions::Netlink(NlOptions {
        priority: PRIORITY,
        handle: TcHandle::from(HANDLE),
        classid: None,
    })
}

/// Our filter of a hook, whether it is there or not.
fn filter(name: &str, hook: Hook) -> io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(name, side(hook), PRIORITY, TcHandle::from(HANDLE), None)
}

/// Removes our filters from an interface, and the qdisc if it is ours; what fails is logged.
fn detach_clsact(pins: &Pins, index: IfIndex, name: &str) {
    if let Err(error) = remove_filters(index, name) {
        warn!(%name, %error, "remove clsact filters");
    }
    if let Err(error) = release_qdisc(&pins.qdisc(index), index) {
        warn!(%name, %error, "remove the clsact qdisc");
    }
}

/// Removes our filters from an interface; tells how many there were.
pub fn remove_filters(index: IfIndex, name: &str) -> io::Result<usize> {
    let mut removed = 0;
    for hook in OF_TC {
        if clsact::filters(index, hook)?.iter().any(|filter| filter.is_ours(hook)) {
            filter(name, hook)?.detach().map_err(io::Error::other)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Removes a clsact qdisc that we have added, unless somebody else uses it by now.
pub fn release_qdisc(mark: &Path, index: IfIndex) -> io::Result<()> {
    if !mark.exists() {
        return Ok(());
    }
    let mut left = clsact::filters(index, Hook::FromPod)?;
    left.extend(clsact::filters(index, Hook::ToPod)?);
    if left.is_empty() {
        match clsact::remove_qdisc(index).map_err(|error| (error.raw_os_error(), error)) {
            // The interface or its qdisc is gone.
            Ok(()) | Err((Some(libc::ENODEV | libc::ENOENT | libc::EINVAL), _)) => {}
            Err((_, error)) => return Err(error),
        }
    }
    remove_mark(mark);
    Ok(())
}

/// Removes a mark; one that is gone already is as good.
fn remove_mark(path: &Path) {
    if let Err(error) = fs::remove_dir(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        warn!(path = %path.display(), %error, "remove a mark");
    }
}

/// Replaces the program behind a pinned link.
fn replace(program: &mut SchedClassifier, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let link: SchedClassifierLink = FdLink::from(PinnedLink::from_pin(path)?).try_into()?;
    let id = program.attach_to_link(link)?;
    // It is pinned already; only our descriptor is closed.
    drop(FdLink::try_from(program.take_link(id)?)?);
    Ok(())
}

fn pin(
    link: SchedClassifierLink,
    path: PathBuf,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let link: FdLink = link.try_into().map_err(|error: LinkError| error)?;
    link.pin(path)?;
    Ok(())
}

/// Removes a pin; one that is gone already is as good.
pub(super) fn remove_pin(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        warn!(path = %path.display(), %error, "remove a pin");
    }
}
