// SPDX-License-Identifier: Apache-2.0
//! Real clients: one HTTP request, one datagram, one transfer; nothing waits longer than a second unless it is told to.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// How long any single operation may take.
pub const DEADLINE: Duration = Duration::from_secs(1);

/// What an HTTP server of the tests said about itself and its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Name of the pod that answered.
    pub pod: String,
    /// The client's address as that pod saw it.
    pub peer: SocketAddr,
}

/// A kept-alive HTTP connection.
pub struct HttpConnection {
    reader: BufReader<TcpStream>,
}

impl HttpConnection {
    /// Connects, with the deadline on every later operation too.
    pub fn open(target: SocketAddr) -> io::Result<HttpConnection> {
        HttpConnection::open_within(target, DEADLINE)
    }

    /// The same with another deadline.
    pub fn open_within(target: SocketAddr, patience: Duration) -> io::Result<HttpConnection> {
        let stream = TcpStream::connect_timeout(&target, patience)?;
        prepare(&stream, patience)?;
        Ok(HttpConnection { reader: BufReader::with_capacity(1024, stream) })
    }

    /// Speaks HTTP on a connection that is already there.
    pub fn over(stream: TcpStream) -> io::Result<HttpConnection> {
        prepare(&stream, DEADLINE)?;
        Ok(HttpConnection { reader: BufReader::with_capacity(1024, stream) })
    }

    /// Sends one request and reads its whole answer.
    pub fn get(&mut self) -> io::Result<Answer> {
        self.reader.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")?;
        let mut length = None;
        let mut line = String::new();
        loop {
            line.clear();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().ok();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length.ok_or(io::ErrorKind::InvalidData)?];
        self.reader.read_exact(&mut body)?;
        parse_answer(&String::from_utf8_lossy(&body)).ok_or(io::ErrorKind::InvalidData.into())
    }

    /// The connection's own address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.reader.get_ref().local_addr()
    }
}

/// One connection, one request.
pub fn http_get(target: SocketAddr) -> io::Result<Answer> {
    HttpConnection::open(target)?.get()
}

/// One connection from a chosen local port, any if that is 0, and one request, with a patience of its
/// own for the answer to the first packet.
pub fn http_get_from(port: u16, target: SocketAddr, patience: Duration) -> io::Result<Answer> {
    let (domain, any) = match target {
        SocketAddr::V4(_) => (Domain::IPV4, Ipv4Addr::UNSPECIFIED.into()),
        SocketAddr::V6(_) => (Domain::IPV6, Ipv6Addr::UNSPECIFIED.into()),
    };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    if port != 0 {
        socket.bind(&SocketAddr::new(any, port).into())?;
    }
    socket.connect_timeout(&target.into(), patience)?;
    HttpConnection::over(socket.into())?.get()
}

/// One datagram from a new connected socket to a server that says who asks.
pub fn udp_get_within(target: SocketAddr, patience: Duration) -> io::Result<Answer> {
    udp_get_from(0, target, patience)
}

/// The same from a chosen local port; any if that is 0.
pub fn udp_get_from(port: u16, target: SocketAddr, patience: Duration) -> io::Result<Answer> {
    let socket = match target {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?,
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))?,
    };
    socket.set_read_timeout(Some(patience))?;
    socket.connect(target)?;
    socket.send(b"who")?;
    let mut buffer = [0; 512];
    let n = socket.recv(&mut buffer)?;
    parse_answer(&String::from_utf8_lossy(&buffer[..n])).ok_or(io::ErrorKind::InvalidData.into())
}

/// One datagram from a new port; fails when the reply comes from another address than dialled.
pub fn udp_ask(target: SocketAddr, payload: &[u8]) -> io::Result<Vec<u8>> {
    udp_ask_on(&udp_socket(target)?, target, payload)
}

/// One datagram from a given unconnected socket, with the same check.
pub fn udp_ask_on(socket: &UdpSocket, target: SocketAddr, payload: &[u8]) -> io::Result<Vec<u8>> {
    socket.send_to(payload, target)?;
    let mut buffer = vec![0; 65536];
    let (n, from) = socket.recv_from(&mut buffer)?;
    if from != target {
        let text = format!("asked {target}, {from} answered");
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text));
    }
    buffer.truncate(n);
    Ok(buffer)
}

/// The pod named in a short answer of a UDP echo server.
pub fn udp_pod(answer: &[u8]) -> String {
    let name = answer.split(|byte| *byte == b' ').next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

/// An unconnected socket of the target's family on a new port, with the deadline set.
pub fn udp_socket(target: SocketAddr) -> io::Result<UdpSocket> {
    udp_socket_within(target, DEADLINE)
}

/// The same with another deadline.
pub fn udp_socket_within(target: SocketAddr, patience: Duration) -> io::Result<UdpSocket> {
    let socket = match target {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?,
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?,
    };
    socket.set_read_timeout(Some(patience))?;
    Ok(socket)
}

/// Connects from a chosen local port, which other sockets may use at the same time.
pub fn connect_from(port: u16, target: SocketAddr) -> io::Result<TcpStream> {
    let (domain, any) = match target {
        SocketAddr::V4(_) => (Domain::IPV4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
        SocketAddr::V6(_) => (Domain::IPV6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
    };
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&any.into())?;
    socket.connect_timeout(&target.into(), DEADLINE)?;
    Ok(socket.into())
}

/// Sends `size` bytes through a TCP echo server and says whether all of them came back unchanged.
pub fn echo_transfer(target: SocketAddr, size: usize) -> io::Result<bool> {
    let stream = TcpStream::connect_timeout(&target, DEADLINE)?;
    prepare(&stream, DEADLINE)?;
    let sent: Vec<u8> = (0..size).map(|i| (i as u64).wrapping_mul(0x9e37_79b9) as u8).collect();
    let mut received = vec![0; size];
    std::thread::scope(|scope| {
        let mut writer = &stream;
        let writing = scope.spawn({
            let sent = &sent;
            move || writer.write_all(sent)
        });
        let mut reader = &stream;
        reader.read_exact(&mut received)?;
        writing.join().expect("the writer")
    })?;
    Ok(sent == received)
}

fn prepare(stream: &TcpStream, patience: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))
}

fn parse_answer(body: &str) -> Option<Answer> {
    let mut fields = body.split_whitespace().filter_map(|field| field.split_once('='));
    let (_, pod) = fields.find(|(key, _)| *key == "pod")?;
    let (_, peer) = fields.find(|(key, _)| *key == "peer")?;
    Some(Answer { pod: pod.into(), peer: peer.parse().ok()? })
}
