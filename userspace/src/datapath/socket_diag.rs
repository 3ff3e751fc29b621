// SPDX-License-Identifier: Apache-2.0
//! The kernel's list of UDP sockets (`NETLINK_SOCK_DIAG`), and the request to close one.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// States of sockets as bits; a connected UDP socket counts as established (`TCP_ESTABLISHED`).
const ESTABLISHED: u32 = 1 << 1;

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct inet_diag_sockid`; the cookie is at its end.
const ID: usize = 48;
const COOKIE: usize = 40;
/// Where it starts in `struct inet_diag_req_v2`, which ends with it, and in `struct inet_diag_msg`.
const REQUEST: usize = 8;
const MESSAGE: usize = 4;
/// Larger than any netlink datagram of the kernel (32 KiB).
const DATAGRAM: usize = 64 * 1024;

/// A connected UDP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    family: u8,
    id: [u8; ID],
}

impl Connected {
    /// The number that no other socket will ever have.
    pub fn cookie(&self) -> u64 {
        let mut cookie = [0; 8];
        cookie.copy_from_slice(&self.id[COOKIE..]);
        // Two words, the lower one first, each in the host's order.
        let [low, high] = [0, 4].map(|at| number(&cookie, at).unwrap_or_default());
        u64::from(high) << 32 | u64::from(low)
    }
}

/// The UDP sockets of the network namespace that it was opened in.
pub struct UdpSockets {
    socket: Socket,
}

impl UdpSockets {
    /// Opens the list of the calling thread's namespace.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        Ok(Self { socket })
    }

    /// Every connected one.
    pub fn connected(&self) -> io::Result<Vec<Connected>> {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let flags = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
            self.send(&request(SOCK_DIAG_BY_FAMILY, flags, family as u8, &[0; ID]))?;
            let mut datagram = Vec::with_capacity(DATAGRAM);
            loop {
                datagram.clear();
                self.socket.recv(&mut datagram, 0)?;
                if read(&datagram, &mut found)? == Answer::End {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// Closes a socket as if its connection had been aborted; `false` if it is gone already.
    pub fn destroy(&self, socket: &Connected) -> io::Result<bool> {
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
        self.send(&request(SOCK_DESTROY, flags, socket.family, &socket.id))?;
        let mut datagram = Vec::with_capacity(DATAGRAM);
        self.socket.recv(&mut datagram, 0)?;
        match read(&datagram, &mut Vec::new()) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn send(&self, request: &[u8]) -> io::Result<()> {
        self.socket.send_to(request, &SocketAddr::new(0, 0), 0).map(drop)
    }
}

fn request(kind: u16, flags: i32, family: u8, id: &[u8; ID]) -> Vec<u8> {
    let length = HEADER + REQUEST + ID;
    let mut request = Vec::with_capacity(length);
    request.extend((length as u32).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend((flags as u16).to_ne_bytes());
    // Sequence number and port: there is one request at a time.
    request.extend([0; 8]);
    request.extend([family, libc::IPPROTO_UDP as u8, 0, 0]);
    request.extend(ESTABLISHED.to_ne_bytes());
    request.extend(id);
    request
}

/// Whether more of an answer is to come.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    More,
    End,
}

fn read(datagram: &[u8], found: &mut Vec<Connected>) -> io::Result<Answer> {
    let mut rest = datagram;
    while let Some((length, kind)) = header(rest) {
        let body = rest.get(HEADER..length).unwrap_or_default();
        match i32::from(kind) {
            libc::NLMSG_DONE => return Ok(Answer::End),
            libc::NLMSG_ERROR => return failure(body).map_or(Ok(Answer::End), Err),
            _ => found.extend(connected(body)),
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Answer::More)
}

/// Length and kind of a message.
fn header(rest: &[u8]) -> Option<(usize, u16)> {
    let length = number(rest, 0)? as usize;
    let kind = rest.get(4..6)?;
    (length >= HEADER).then_some((length, u16::from_ne_bytes([kind[0], kind[1]])))
}

/// `None` if the message acknowledges a request.
fn failure(body: &[u8]) -> Option<io::Error> {
    let code = number(body, 0)? as i32;
    (code != 0).then(|| io::Error::from_raw_os_error(-code))
}

fn connected(body: &[u8]) -> Option<Connected> {
    let id = body.get(MESSAGE..MESSAGE + ID)?.try_into().ok()?;
    Some(Connected { family: *body.first()?, id })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, os::fd::AsRawFd as _};

    use super::*;

    fn framed(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut framed = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        framed.extend(kind.to_ne_bytes());
        framed.resize(HEADER, 0);
        framed.extend(body);
        framed
    }

    /// A socket as the kernel describes it.
    fn message(cookie: u64) -> Vec<u8> {
        let mut body = [0; 72];
        body[0] = libc::AF_INET as u8;
        let at = MESSAGE + COOKIE;
        body[at..at + 4].copy_from_slice(&(cookie as u32).to_ne_bytes());
        body[at + 4..at + 8].copy_from_slice(&((cookie >> 32) as u32).to_ne_bytes());
        framed(SOCK_DIAG_BY_FAMILY, &body)
    }

    #[test]
    fn sockets_are_read_up_to_where_the_datagram_is_cut_off() {
        let whole = [message(7), message(9 << 32 | 8)].concat();
        for length in 0..=whole.len() {
            let mut found = Vec::new();
            assert_eq!(read(&whole[..length], &mut found).unwrap(), Answer::More);
            let cookies: Vec<u64> = found.iter().map(Connected::cookie).collect();
            let expected = [7, 9 << 32 | 8];
            assert_eq!(cookies, expected[..length / message(0).len()], "{length} bytes");
        }
    }

    #[test]
    fn an_answer_ends_in_success_or_an_error() {
        let end =
            |kind: i32, code: i32| read(&framed(kind as u16, &code.to_ne_bytes()), &mut Vec::new());
        assert_eq!(end(libc::NLMSG_DONE, 0).unwrap(), Answer::End);
        assert_eq!(end(libc::NLMSG_ERROR, 0).unwrap(), Answer::End);
        let refused = end(libc::NLMSG_ERROR, -libc::EPERM).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn a_connected_socket_of_this_process_is_listed_with_its_cookie() {
        let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(listener.local_addr().unwrap()).unwrap();
        let mut cookie = 0_u64;
        let mut size = size_of_val(&cookie) as libc::socklen_t;
        // SAFETY: the cookie is writable for as many bytes as `size` says.
        let result = unsafe {
            let place = (&raw mut cookie).cast();
            let fd = socket.as_raw_fd();
            libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_COOKIE, place, &raw mut size)
        };
        assert_eq!(result, 0);
        // Kernels without the list have no sockets to close.
        let Ok(found) = UdpSockets::open().and_then(|sockets| sockets.connected()) else { return };
        assert!(found.iter().any(|found| found.cookie() == cookie));
    }
}
