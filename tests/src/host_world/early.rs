// SPDX-License-Identifier: Apache-2.0
//! XDP on the host: its steps, as the kernel's programs take them by tail calls.

use pintle_abi::addr::{V4, V6};
use pintle_ebpf::{
    family::{Family, Version},
    hooks::{Next, Step, Xdp, early, entrance},
    reject,
};

use super::{CHAIN, buffer::Buffer};
use crate::world::Exit;

/// Where a frame goes, and what has become of it; `None` if it is left to tc, as it was.
pub(super) fn send(mut buffer: Buffer) -> Option<(Exit, Vec<u8>)> {
    let before = buffer.bytes.clone();
    let exit = match buffer.bytes[12..14] {
        [0x08, 0x00] => run::<V4>(&mut buffer),
        [0x86, 0xdd] => run::<V6>(&mut buffer),
        _ => None,
    };
    if exit.is_none() {
        assert_eq!(buffer.bytes, before, "what XDP leaves to tc is untouched");
    }
    exit.map(|exit| (exit, buffer.bytes))
}

fn run<F: Family>(buffer: &mut Buffer) -> Option<Exit> {
    let handle = |buffer: &mut Buffer| early::handle::<F, _>(buffer, Version::<F>::THIS);
    let mut step = handle(buffer);
    for _ in 0..=CHAIN {
        let Step { next, argument } = early::narrowed(step);
        step = match next {
            Next::Pass => return None,
            Next::Send => return Some(Exit::Routes),
            Next::Unusual => handle(buffer),
            Next::Connect => entrance::connect::<Xdp, F, _>(buffer, argument),
            Next::Refuse => match reject::refuse::<Xdp, F, _>(buffer, argument).next {
                Next::Send => return Some(Exit::Routes),
                _ => return Some(Exit::Drop),
            },
            _ => return Some(Exit::Drop),
        };
    }
    panic!("XDP goes round in circles")
}
