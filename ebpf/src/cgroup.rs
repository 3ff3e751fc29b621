// SPDX-License-Identifier: Apache-2.0
//! The cgroup programs: `bpf_sock_addr` as a [`Socket`], verdicts as return codes.
//!
//! An IPv6 socket may dial an IPv4 address in mapped form (RFC 4291 2.5.5.2): the program of IPv6 then
//! does what that of IPv4 would.

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_addr},
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval},
};
use pintle_abi::addr::{V4, V6};
use pintle_ebpf::{
    kernel::SocketHandle,
    socket::{self, Peer, Socket, Verdict},
};

/// The system call goes on.
const ALLOW: i32 = 1;
/// The system call fails.
const DENY: i32 = 0;
const ECONNREFUSED: i32 = 111;

/// Third word of a mapped address, network byte order.
const MAPPED: u32 = 0xffff_u32.to_be();

/// Declares the programs at which a socket names somebody, one for each family.
macro_rules! dialling {
    ($($(#[$meta:meta])* $v4:ident in $section4:literal, $v6:ident in $section6:literal = $core:path;)*) => {$(
        $(#[$meta])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section4)]
        pub extern "C" fn $v4(context: *mut bpf_sock_addr) -> i32 {
            let context = Context(context);
            let verdict = $core(&context, context.v4());
            context.conclude(verdict, Context::set_v4)
        }

        $(#[$meta])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section6)]
        pub extern "C" fn $v6(context: *mut bpf_sock_addr) -> i32 {
            let context = Context(context);
            let peer = context.v6();
            match mapped(peer) {
                Some(peer) => {
                    let verdict = $core(&context, peer);
                    context.conclude(verdict, Context::set_mapped)
                }
                None => {
                    let verdict = $core(&context, peer);
                    context.conclude(verdict, Context::set_v6)
                }
            }
        }
    )*};
}

/// Declares the programs at which a socket is told of somebody, one for each family.
macro_rules! telling {
    ($($(#[$meta:meta])* $v4:ident in $section4:literal, $v6:ident in $section6:literal = $core:path;)*) => {$(
        $(#[$meta])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section4)]
        pub extern "C" fn $v4(context: *mut bpf_sock_addr) -> i32 {
            let context = Context(context);
            if let Some(peer) = $core(&context, context.v4()) {
                context.set_v4(peer);
            }
            ALLOW
        }

        $(#[$meta])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section6)]
        pub extern "C" fn $v6(context: *mut bpf_sock_addr) -> i32 {
            let context = Context(context);
            let peer = context.v6();
            match mapped(peer) {
                Some(peer) => {
                    if let Some(peer) = $core(&context, peer) {
                        context.set_mapped(peer);
                    }
                }
                None => {
                    if let Some(peer) = $core(&context, peer) {
                        context.set_v6(peer);
                    }
                }
            }
            ALLOW
        }
    )*};
}

dialling! {
    /// A socket connects.
    connect4 in "cgroup/connect4", connect6 in "cgroup/connect6" = socket::connect;
    /// A UDP socket sends to an address that it names.
    sendmsg4 in "cgroup/sendmsg4", sendmsg6 in "cgroup/sendmsg6" = socket::send;
}

telling! {
    /// A UDP socket is told whom a datagram is from.
    recvmsg4 in "cgroup/recvmsg4", recvmsg6 in "cgroup/recvmsg6" = socket::receive;
    /// A socket is told whom it is connected to.
    getpeername4 in "cgroup/getpeername4", getpeername6 in "cgroup/getpeername6" = socket::peer_name;
}

/// A socket is closed.
#[unsafe(no_mangle)]
#[unsafe(link_section = "cgroup/sock_release")]
pub extern "C" fn sock_release(socket: *mut bpf_sock) -> i32 {
    socket::release(&Closed(socket));
    ALLOW
}

/// The IPv4 address in a mapped one.
#[inline(always)]
fn mapped(peer: Peer<V6>) -> Option<Peer<V4>> {
    let [first, second, third, last] = peer.addr.0;
    let is_mapped = first == 0 && second == 0 && third == MAPPED;
    is_mapped.then_some(Peer { addr: V4(last), port: peer.port })
}

/// What the kernel hands to the programs. Accesses are volatile, or LLVM merges neighbours into one of
/// a width that the verifier refuses.
struct Context(*mut bpf_sock_addr);

macro_rules! load {
    ($context:expr, $($field:tt)+) => {
        // SAFETY: the context is the one the kernel handed to the program.
        unsafe { (&raw const (*$context.0).$($field)+).read_volatile() }
    };
}

macro_rules! store {
    ($context:expr, $value:expr, $($field:tt)+) => {
        // SAFETY: as above, and the field is one that the program may write.
        unsafe { (&raw mut (*$context.0).$($field)+).write_volatile($value) }
    };
}

impl Context {
    #[inline(always)]
    fn v4(&self) -> Peer<V4> {
        Peer { addr: V4(load!(self, user_ip4)), port: self.port() }
    }

    #[inline(always)]
    fn v6(&self) -> Peer<V6> {
        let words = [
            load!(self, user_ip6[0]),
            load!(self, user_ip6[1]),
            load!(self, user_ip6[2]),
            load!(self, user_ip6[3]),
        ];
        Peer { addr: V6(words), port: self.port() }
    }

    #[inline(always)]
    fn port(&self) -> u16 {
        load!(self, user_port) as u16
    }

    #[inline(always)]
    fn set_v4(&self, peer: Peer<V4>) {
        store!(self, peer.addr.0, user_ip4);
        self.set_port(peer.port);
    }

    #[inline(always)]
    fn set_mapped(&self, peer: Peer<V4>) {
        store!(self, peer.addr.0, user_ip6[3]);
        self.set_port(peer.port);
    }

    #[inline(always)]
    fn set_v6(&self, peer: Peer<V6>) {
        store!(self, peer.addr.0[0], user_ip6[0]);
        store!(self, peer.addr.0[1], user_ip6[1]);
        store!(self, peer.addr.0[2], user_ip6[2]);
        store!(self, peer.addr.0[3], user_ip6[3]);
        self.set_port(peer.port);
    }

    #[inline(always)]
    fn set_port(&self, port: u16) {
        store!(self, u32::from(port), user_port);
    }

    #[inline(always)]
    fn conclude<F>(&self, verdict: Verdict<F>, set: impl Fn(&Self, Peer<F>)) -> i32 {
        match verdict {
            Verdict::Pass => ALLOW,
            Verdict::Translate(peer) => {
                set(self, peer);
                ALLOW
            }
            Verdict::Refuse => {
                // Without it the caller would be told that it lacks a permission.
                // SAFETY: the helper takes any error number.
                unsafe { bpf_set_retval(-ECONNREFUSED) };
                DENY
            }
        }
    }
}

impl Socket for Context {
    #[inline(always)]
    fn handle(&self) -> SocketHandle {
        load!(self, __bindgen_anon_1.sk)
    }

    #[inline(always)]
    fn cookie(&self) -> u64 {
        // SAFETY: the context is the one the kernel handed to the program.
        unsafe { bpf_get_socket_cookie(self.0.cast()) }
    }

    #[inline(always)]
    fn netns(&self) -> u64 {
        // SAFETY: as above.
        unsafe { bpf_get_netns_cookie(self.0.cast()) }
    }

    #[inline(always)]
    fn proto(&self) -> u8 {
        load!(self, protocol) as u8
    }
}

/// A socket that is closed; the kernel hands out the socket itself.
struct Closed(*mut bpf_sock);

impl Socket for Closed {
    #[inline(always)]
    fn handle(&self) -> SocketHandle {
        self.0
    }

    #[inline(always)]
    fn cookie(&self) -> u64 {
        // SAFETY: the context is the one the kernel handed to the program.
        unsafe { bpf_get_socket_cookie(self.0.cast()) }
    }

    #[inline(always)]
    fn netns(&self) -> u64 {
        // SAFETY: as above.
        unsafe { bpf_get_netns_cookie(self.0.cast()) }
    }

    #[inline(always)]
    fn proto(&self) -> u8 {
        // SAFETY: as above.
        unsafe { (&raw const (*self.0).protocol).read_volatile() as u8 }
    }
}
