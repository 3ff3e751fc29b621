// SPDX-License-Identifier: Apache-2.0
//! The kernel's netfilter over netlink: messages, dumps, and transactions that happen whole or not
//! at all. Numbers are those of the kernel's `linux/netfilter/nfnetlink.h`.

use std::{
    io,
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

/// `struct nlmsghdr`.
const MESSAGE: usize = 16;
/// That and `struct nfgenmsg`.
const HEADER: usize = MESSAGE + 4;
/// Larger than any netlink datagram of the kernel (32 KiB).
const DATAGRAM: usize = 64 * 1024;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const BATCH_GENERATION: u16 = 1;
const SUBSYSTEM_NFTABLES: u16 = 10;
const NESTED: u16 = 0x8000;
/// The attributes' kind without the flags in its upper bits.
const KIND: u16 = 0x3fff;
const DUMP_INTERRUPTED: u16 = 0x10;
/// The kernel answers at once; this is for one that does not.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a dump is begun anew that a change has spoilt.
const ATTEMPTS: u32 = 16;

/// A message of a netfilter subsystem, with the attributes given so far.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A request without attributes; `family` is one of `NFPROTO_*`.
    pub fn new(subsystem: u16, kind: u16, flags: libc::c_int, family: u8) -> Self {
        Self::raw(subsystem << 8 | kind, flags, family, 0)
    }

    fn raw(kind: u16, flags: libc::c_int, family: u8, resource: u16) -> Self {
        let mut bytes = vec![0; MESSAGE];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        let flags = (flags | libc::NLM_F_REQUEST) as u16;
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        // `struct nfgenmsg`: family, version 0, resource.
        bytes.extend([family, 0]);
        bytes.extend(resource.to_be_bytes());
        Self { bytes }
    }

    /// Adds an attribute.
    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        self.bytes.extend(((4 + value.len()) as u16).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(aligned(self.bytes.len()), 0);
        self
    }

    /// Adds a text that ends with a zero byte.
    pub fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Adds a number.
    pub fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds a number of 64 bits.
    pub fn wide(self, kind: u16, value: u64) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds an attribute made of attributes.
    pub fn nested(mut self, kind: u16, inner: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.bytes.extend([0, 0]);
        self.bytes.extend((kind | NESTED).to_ne_bytes());
        self = inner(self);
        let len = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self
    }

    /// The message as it is sent.
    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let len = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&len.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }

    /// Subsystem and kind.
    #[cfg(test)]
    pub fn kind(&self) -> u16 {
        u16::from_ne_bytes([self.bytes[4], self.bytes[5]])
    }

    /// The attributes.
    #[cfg(test)]
    pub fn body(&self) -> &[u8] {
        &self.bytes[HEADER..]
    }

    fn acknowledged(mut self) -> Self {
        self.bytes[6] |= libc::NLM_F_ACK as u8;
        self
    }
}

/// The attributes in a piece of a message; ends at the first that is cut off.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes([*rest.first()?, *rest.get(1)?]));
        let kind = u16::from_ne_bytes([*rest.get(2)?, *rest.get(3)?]) & KIND;
        let value = rest.get(4..len)?;
        rest = rest.get(aligned(len)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of a kind.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A text that ends with a zero byte.
pub fn text(value: &[u8]) -> String {
    let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

/// A number of up to 64 bits.
pub fn number(value: &[u8]) -> u64 {
    value.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn aligned(len: usize) -> usize {
    len.div_ceil(4) * 4
}

/// A socket to the netfilter of this network namespace.
pub struct Netfilter {
    socket: Socket,
    sequence: u32,
}

impl Netfilter {
    /// Opens a socket; `None` if the kernel has no netfilter over netlink.
    pub fn open() -> io::Result<Option<Self>> {
        let mut socket = match Socket::new(NETLINK_NETFILTER) {
            Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(None),
            socket => socket?,
        };
        socket.bind_auto()?;
        let patience = libc::timeval { tv_sec: PATIENCE.as_secs() as _, tv_usec: 0 };
        set_option(&socket, libc::SO_RCVTIMEO, &patience)?;
        Ok(Some(Self { socket, sequence: 0 }))
    }

    /// Calls `visit` with the family and the attributes of each message of a dump. When the kernel
    /// says that a change has spoilt it, `restart` is called and it begins anew.
    pub fn dump<T: Default>(
        &mut self,
        request: &Message,
        mut visit: impl FnMut(&mut T, u8, &[u8]),
    ) -> io::Result<T> {
        for _ in 0..ATTEMPTS {
            let mut found = T::default();
            if self
                .dump_once(request, |family, attributes| visit(&mut found, family, attributes))?
            {
                return Ok(found);
            }
        }
        Err(io::Error::other("the rules change faster than they can be read"))
    }

    fn dump_once(
        &mut self,
        request: &Message,
        mut visit: impl FnMut(u8, &[u8]),
    ) -> io::Result<bool> {
        self.sequence += 1;
        let sequence = self.sequence;
        let mut request = request.clone();
        request.bytes[6..8]
            .copy_from_slice(&((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes());
        self.socket.send_to(&request.finish(sequence), &SocketAddr::new(0, 0), 0)?;
        let mut whole = true;
        self.receive(|answer| {
            if answer.sequence != sequence {
                return Ok(true);
            }
            whole &= answer.flags & DUMP_INTERRUPTED == 0;
            match answer.kind {
                DONE => return answer.result().map(|()| false),
                ERROR => return answer.result().map(|()| false),
                _ => {}
            }
            if let Some(attributes) = answer.bytes.get(HEADER - MESSAGE..) {
                visit(answer.bytes[0], attributes);
            }
            Ok(true)
        })?;
        Ok(whole)
    }

    /// Asks for one thing.
    pub fn ask(&mut self, request: Message) -> io::Result<Vec<u8>> {
        self.sequence += 1;
        let sequence = self.sequence;
        self.socket.send_to(&request.finish(sequence), &SocketAddr::new(0, 0), 0)?;
        let mut found = Vec::new();
        self.receive(|answer| {
            if answer.sequence != sequence {
                return Ok(true);
            }
            if answer.kind == ERROR {
                return answer.result().map(|()| false);
            }
            found = answer.bytes.get(HEADER - MESSAGE..).unwrap_or_default().to_vec();
            Ok(false)
        })?;
        Ok(found)
    }

    /// Sends a message that changes something and waits for its acknowledgement.
    pub fn command(&mut self, message: Message) -> io::Result<()> {
        self.ask(message.acknowledged()).map(drop)
    }

    /// Carries out changes of nf_tables: all of them or none. Given a generation of the rules, only
    /// if they are still of it; otherwise the error is `ERESTART`.
    pub fn transact(&mut self, changes: Vec<Message>, generation: Option<u32>) -> io::Result<()> {
        let Some((last, first)) = changes.split_last() else { return Ok(()) };
        let mut begin = Message::raw(BATCH_BEGIN, 0, 0, SUBSYSTEM_NFTABLES);
        if let Some(generation) = generation {
            begin = begin.number(BATCH_GENERATION, generation);
        }
        let begin_sequence = self.next();
        let mut bytes = begin.finish(begin_sequence);
        for change in first {
            bytes.extend(change.clone().finish(self.next()));
        }
        let last_sequence = self.next();
        bytes.extend(last.clone().acknowledged().finish(last_sequence));
        bytes.extend(Message::raw(BATCH_END, 0, 0, SUBSYSTEM_NFTABLES).finish(self.next()));
        // The kernel refuses a datagram that the socket's buffer could not hold.
        set_option(&self.socket, libc::SO_SNDBUFFORCE, &(bytes.len() as libc::c_int + 4096))?;
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
        self.receive(|answer| {
            let ours = (begin_sequence..=last_sequence + 1).contains(&answer.sequence);
            if !ours || answer.kind != ERROR {
                return Ok(true);
            }
            // Refused changes are told of one by one; the first says what is wrong.
            answer.result().map(|()| answer.sequence != last_sequence)
        })
    }

    fn next(&mut self) -> u32 {
        self.sequence += 1;
        self.sequence
    }

    /// Hands over messages until `take` says `false`.
    fn receive(&mut self, mut take: impl FnMut(Answer<'_>) -> io::Result<bool>) -> io::Result<()> {
        let start = Instant::now();
        let mut datagram = Vec::with_capacity(DATAGRAM);
        loop {
            datagram.clear();
            self.socket.recv(&mut datagram, 0)?;
            let mut rest = &datagram[..];
            while let Some((answer, next)) = Answer::read(rest) {
                if !take(answer)? {
                    return Ok(());
                }
                rest = next;
            }
            if start.elapsed() > PATIENCE * 6 {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

const DONE: u16 = libc::NLMSG_DONE as u16;
const ERROR: u16 = libc::NLMSG_ERROR as u16;

/// A message from the kernel.
#[derive(Clone, Copy, Debug)]
struct Answer<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    /// What follows `struct nlmsghdr`.
    bytes: &'a [u8],
}

impl<'a> Answer<'a> {
    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let half = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let len = word(0)? as usize;
        let body = bytes.get(MESSAGE..len)?;
        let answer = Self { kind: half(4)?, flags: half(6)?, sequence: word(8)?, bytes: body };
        Some((answer, bytes.get(aligned(len)..).unwrap_or_default()))
    }

    /// What an acknowledgement, an error or the end of a dump says.
    fn result(self) -> io::Result<()> {
        let code = self.bytes.get(..4).map(|code| [code[0], code[1], code[2], code[3]]);
        match code.map_or(0, i32::from_ne_bytes) {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(-code)),
        }
    }
}

fn set_option<T>(socket: &Socket, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the value is readable for its size, and the options used take plain C structs.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested_ones_counted() {
        let message = Message::new(10, 2, 0, libc::AF_INET as u8)
            .text(1, "abc")
            .nested(4, |inner| inner.number(1, 7).text(2, "x"))
            .finish(9);
        let word = |at: usize| u32::from_ne_bytes(message[at..at + 4].try_into().unwrap());
        assert_eq!((word(0), word(8)), (message.len() as u32, 9));
        let body = &message[HEADER..];
        assert_eq!(attribute(body, 1).map(text).as_deref(), Some("abc"));
        let inner = attribute(body, 4).unwrap();
        assert_eq!(attribute(inner, 1).map(number), Some(7));
        assert_eq!(attribute(inner, 2).map(text).as_deref(), Some("x"));
        assert_eq!(message.len() % 4, 0);
    }

    #[test]
    fn what_is_cut_off_is_not_read() {
        let message = Message::new(10, 2, 0, 2).text(1, "abcdef").finish(1);
        let body = &message[HEADER..];
        assert_eq!(attributes(&body[..body.len() - 2]).count(), 0);
        assert!(Answer::read(&message[..message.len() - 2]).is_none());
    }

    #[test]
    fn an_error_is_an_error_and_zero_is_an_acknowledgement() {
        let answer = |code: i32| {
            let bytes = code.to_ne_bytes();
            Answer { kind: ERROR, flags: 0, sequence: 1, bytes: &bytes }.result()
        };
        assert!(answer(0).is_ok());
        assert_eq!(answer(-libc::EBUSY).unwrap_err().raw_os_error(), Some(libc::EBUSY));
    }
}
