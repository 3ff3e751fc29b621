// SPDX-License-Identifier: Apache-2.0
//! Keeps the kernel translating the connections that kube-proxy has opened.
//!
//! The kernel tracks and translates connections only while somebody has a rule that asks for it: with
//! the last such rule go the hooks, and with them every connection that was translated. kube-proxy's
//! rules may be the last ones. So a table of ours takes their place, with one rule that does nothing.
//! It goes when no translated connection is left, and with `pintle cleanup`.

use std::io;

use super::{
    netlink::{Message, Netfilter},
    nftables,
};

const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = 0;
const DEL_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
/// The table's name in each family.
const TABLE: &str = "pintle-take-over";
const CHAIN: &str = "keep-translating";
/// Priority of source translation (`srcnat`).
const PRIORITY: u32 = 100;

/// Makes the table of a family, unless it is there.
pub fn hold(netfilter: &mut Netfilter, family: u8) -> io::Result<()> {
    if held(netfilter)?.contains(&family) {
        return Ok(());
    }
    let make = |kind, flags| Message::new(SUBSYSTEM, kind, libc::NLM_F_CREATE | flags, family);
    let table = make(NEW_TABLE, 0).text(1, TABLE);
    let chain = make(NEW_CHAIN, 0)
        .text(1, TABLE)
        .text(3, CHAIN)
        .nested(4, |hook| hook.number(1, nftables::POSTROUTING).number(2, PRIORITY))
        .text(7, "nat");
    // `ct direction original`: asks for connection tracking, and has no verdict.
    let rule = make(NEW_RULE, libc::NLM_F_APPEND).text(1, TABLE).text(2, CHAIN).nested(4, |list| {
        list.nested(1, |ct| ct.text(1, "ct").nested(2, |data| data.number(1, 1).number(2, 1)))
            .nested(1, |compare| {
                compare.text(1, "cmp").nested(2, |data| {
                    data.number(1, 1).number(2, 0).nested(3, |value| value.bytes(1, &[0]))
                })
            })
    });
    netfilter.transact(vec![table, chain, rule], None)
}

/// Families whose table is there; none without nf_tables.
pub fn held(netfilter: &mut Netfilter) -> io::Result<Vec<u8>> {
    nftables::tables(netfilter, TABLE)
}

/// Removes the tables that are there.
pub fn release(netfilter: &mut Netfilter) -> io::Result<()> {
    let held = held(netfilter)?;
    let remove = |family| Message::new(SUBSYSTEM, DEL_TABLE, 0, family).text(1, TABLE);
    netfilter.transact(held.into_iter().map(remove).collect(), None)
}
