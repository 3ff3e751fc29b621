// SPDX-License-Identifier: Apache-2.0
//! The programs and maps in this binary: loading them, with the maps that are pinned already.

use std::{collections::BTreeMap, path::Path, sync::Mutex};

use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, MapError, MapInfo, ProgramArray},
    programs::{Program, ProgramError, ProgramFd, SchedClassifier, Xdp},
};
use pintle_abi::{
    counter::Hook,
    map::{self, MapSpec},
    step::{RareStep, XdpStep},
};
use thiserror::Error;
use tracing::warn;

/// The object file, as `build.rs` made it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("PINTLE_EBPF_OBJECT"));

/// Sizes of maps that differ from their defaults, by map name.
pub type Sizes = BTreeMap<String, u32>;

/// Why the programs could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A pin is there, but what it pins is not our map: nothing is touched.
    #[error("the map pinned at {path} has {found}, this binary needs {wanted}")]
    ForeignMap {
        /// The pin.
        path: String,
        /// Its key and value size.
        found: String,
        /// Ours.
        wanted: String,
    },
    /// A size was given for a map that does not exist.
    #[error("there is no map called {0}")]
    UnknownMap(String),
    /// A pinned map could not be read.
    #[error("open the pinned map {path}")]
    Pin {
        /// The pin.
        path: String,
        /// What the kernel said.
        source: MapError,
    },
    /// A map cannot be memory of this process.
    #[error("map {map} into memory")]
    Memory {
        /// The map.
        map: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The object is not one of ours, or the kernel refused a map.
    #[error("load the maps")]
    Object(#[from] aya::EbpfError),
    /// The object lacks something that the source has: the build is broken.
    #[error("the object in this binary has no {0}")]
    Incomplete(&'static str),
    /// An array of steps could not be written.
    #[error("put a step in its place")]
    Step(#[source] MapError),
    /// The kernel's verifier refused a program.
    #[error("load the program {name}")]
    Program {
        /// The program.
        name: &'static str,
        /// What the verifier said.
        source: ProgramError,
    },
}

/// Loads the programs of tc, nothing is attached yet; [`load_xdp`] those of XDP, if an uplink wants them.
///
/// With a pin directory, maps that are pinned there are used as they are, the others are created
/// and pinned. Without one, every map is new and goes with the returned value.
pub fn load(pins: Option<&Path>, sizes: &Sizes) -> Result<Ebpf, LoadError> {
    if let Some(name) = sizes.keys().find(|name| map::ALL.iter().all(|spec| spec.name != **name)) {
        return Err(LoadError::UnknownMap(name.clone()));
    }
    let shapes = pins.map_or(Ok(BTreeMap::new()), |_| shapes_in_object())?;
    let mut loader = EbpfLoader::new();
    let mut chosen = Vec::new();
    for spec in map::ALL {
        let wanted = sizes.get(spec.name).copied().unwrap_or(spec.entries);
        let pinned = pins.map(|dir| dir.join(spec.name));
        let entries = match &pinned {
            Some(path) => pinned_entries(path, wanted, &shapes)?.unwrap_or(wanted),
            None => wanted,
        };
        chosen.push((spec.name, entries, pinned));
    }
    for (name, entries, pinned) in &chosen {
        loader.map_max_entries(name, *entries);
        if let Some(path) = pinned {
            loader.map_pin_path(name, path.clone());
        }
    }
    let mut ebpf = loader.load(OBJECT)?;
    let hooks = Hook::ALL.iter().filter(|hook| **hook != Hook::Xdp).map(|hook| hook.as_str());
    let steps = || RareStep::ALL.iter().map(|step| (*step as u32, step.program()));
    load_programs(&mut ebpf, hooks.chain(steps().map(|(_, name)| name)).collect())?;
    put_steps(&mut ebpf, &map::RARE_STEPS, steps())?;
    Ok(ebpf)
}

/// Loads the programs of XDP that are not loaded yet: whoever does without need not wait for the verifier.
pub fn load_xdp(ebpf: &mut Ebpf) -> Result<(), LoadError> {
    let steps = || XdpStep::ALL.iter().map(|step| (*step as u32, step.program()));
    let names = std::iter::once(Hook::Xdp.as_str()).chain(steps().map(|(_, name)| name));
    load_programs(ebpf, names.collect())?;
    put_steps(ebpf, &map::XDP_STEPS, steps())
}

/// Loads programs by name that are not loaded yet, several at a time: the kernel's verifier takes tens of
/// milliseconds for one.
fn load_programs(ebpf: &mut Ebpf, mut names: Vec<&'static str>) -> Result<(), LoadError> {
    // A program may be several steps.
    names.sort_unstable();
    names.dedup();
    let waiting = ebpf.programs_mut().filter_map(|(name, program)| {
        let index = names.iter().position(|known| *known == name)?;
        Some((names.swap_remove(index), program))
    });
    let waiting = waiting.filter(|(_, program)| program.fd().is_err());
    let waiting = Mutex::new(waiting.collect::<Vec<_>>());
    if let Some(missing) = names.first() {
        return Err(LoadError::Incomplete(missing));
    }
    let load_next = || -> Option<Result<(), LoadError>> {
        let (name, program) = waiting.lock().ok()?.pop()?;
        let loaded = match program {
            Program::SchedClassifier(program) => program.load(),
            Program::Xdp(program) => program.load(),
            _ => return Some(Err(LoadError::Incomplete(name))),
        };
        Some(loaded.map_err(|source| LoadError::Program { name, source }))
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let load_all = || std::iter::from_fn(load_next).collect::<Result<(), LoadError>>();
        let loading: Vec<_> = (0..threads).map(|_| scope.spawn(load_all)).collect();
        loading.into_iter().try_for_each(|thread| match thread.join() {
            Ok(loaded) => loaded,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

/// Puts the programs of steps in their places; each changes over in one step.
fn put_steps(
    ebpf: &mut Ebpf,
    places: &'static MapSpec,
    steps: impl Iterator<Item = (u32, &'static str)>,
) -> Result<(), LoadError> {
    for (place, name) in steps {
        let fd = fd(ebpf, name)?;
        let map = ebpf.map_mut(places.name).ok_or(LoadError::Incomplete(places.name))?;
        ProgramArray::try_from(map)
            .and_then(|mut places| places.set(place, &fd, 0))
            .map_err(LoadError::Step)?;
    }
    Ok(())
}

fn fd(ebpf: &mut Ebpf, name: &'static str) -> Result<ProgramFd, LoadError> {
    let fd = match ebpf.program(name) {
        Some(Program::SchedClassifier(program)) => program.fd(),
        Some(Program::Xdp(program)) => program.fd(),
        _ => return Err(LoadError::Incomplete(name)),
    };
    fd.and_then(|fd| Ok(fd.try_clone()?)).map_err(|source| LoadError::Program { name, source })
}

/// A program of tc by name.
pub fn classifier<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, LoadError> {
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(LoadError::Incomplete(name))
}

/// The program of XDP.
pub fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, LoadError> {
    let name = Hook::Xdp.as_str();
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(LoadError::Incomplete(name))
}

/// Number of entries of a pinned map; `None` if there is no pin.
///
/// aya pairs a pin with the map in the object without looking: a map of other sizes would corrupt
/// memory in one direction and lose data in the other.
fn pinned_entries(
    path: &Path,
    wanted: u32,
    shapes: &BTreeMap<String, Shape>,
) -> Result<Option<u32>, LoadError> {
    if !path.exists() {
        return Ok(None);
    }
    let name = path.display().to_string();
    let info = MapData::from_pin(path)
        .and_then(|map| map.info())
        .map_err(|source| LoadError::Pin { path: name.clone(), source })?;
    let map_name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let ours = shapes.get(map_name).copied();
    let theirs = shape_of(&info);
    if ours != Some(theirs) {
        return Err(LoadError::ForeignMap {
            path: name,
            found: describe(Some(theirs)),
            wanted: describe(ours),
        });
    }
    if info.max_entries() != wanted {
        warn!(
            map = map_name,
            entries = info.max_entries(),
            wanted,
            "keeping the pinned map's size"
        );
    }
    Ok(Some(info.max_entries()))
}

/// Type, key size and value size of a map.
type Shape = (u32, u32, u32);

fn shape_of(info: &MapInfo) -> Shape {
    let kind = info.map_type().map_or(0, |kind| kind as u32);
    (kind, info.key_size(), info.value_size())
}

/// The shapes of the maps in this binary.
fn shapes_in_object() -> Result<BTreeMap<String, Shape>, LoadError> {
    let object = aya_obj::Object::parse(OBJECT).map_err(aya::EbpfError::from)?;
    let shape = |map: &aya_obj::Map| (map.map_type(), map.key_size(), map.value_size());
    Ok(object.maps.iter().map(|(name, map)| (name.clone(), shape(map))).collect())
}

fn describe(shape: Option<Shape>) -> String {
    match shape {
        Some((kind, key, value)) => {
            format!("type {kind}, keys of {key} and values of {value} bytes")
        }
        None => "no such map".to_owned(),
    }
}
