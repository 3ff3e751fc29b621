// SPDX-License-Identifier: Apache-2.0
//! A copy of the binary whose kernel programs differ: other instructions, hence other tags, with the
//! same effect. It stands for the next release.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Opcodes of a constant put into a register, of which the first clears the upper half.
const MOVE_32: u8 = 0xb4;
const MOVE_64: u8 = 0xb7;

const ELF: [u8; 7] = *b"\x7fELF\x02\x01\x01";
const EM_BPF: u64 = 247;
const SHF_EXECINSTR: u64 = 4;

/// Writes the copy; fails if the object in the binary has nothing that can be changed so.
pub fn write(binary: &Path, copy: &Path) -> Result<()> {
    let mut bytes = fs::read(binary).with_context(|| binary.display().to_string())?;
    let object = object_in(&bytes).context("no BPF object in the binary")?;
    let mut changed = 0;
    for (offset, size) in code_sections(&bytes[object..])? {
        for instruction in bytes[object + offset..][..size].chunks_exact_mut(8) {
            // Where the constant is not negative, both opcodes do the same.
            if instruction[0] == MOVE_32 && instruction[7] < 0x80 {
                instruction[0] = MOVE_64;
                changed += 1;
            }
        }
    }
    ensure!(changed > 0, "the programs put no constant into a register");
    fs::write(copy, bytes)?;
    Ok(fs::set_permissions(copy, fs::Permissions::from_mode(0o755))?)
}

fn object_in(bytes: &[u8]) -> Option<usize> {
    let starts = bytes.windows(ELF.len()).enumerate().filter(|(_, window)| *window == ELF);
    let mut starts = starts.map(|(at, _)| at);
    starts.find(|at| number(&bytes[*at..], 0x12, 2) == Some(EM_BPF))
}

/// Offset and size of each section of the ELF file that holds instructions.
fn code_sections(object: &[u8]) -> Result<Vec<(usize, usize)>> {
    let read = |at, width| number(object, at, width).context("the object is cut off");
    let (table, size, count) = (read(0x28, 8)?, read(0x3a, 2)?, read(0x3c, 2)?);
    let mut found = Vec::new();
    for header in (0..count).map(|index| (table + index * size) as usize) {
        if read(header + 8, 8)? & SHF_EXECINSTR != 0 {
            found.push((read(header + 0x18, 8)? as usize, read(header + 0x20, 8)? as usize));
        }
    }
    Ok(found)
}

fn number(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + width)?;
    Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}
