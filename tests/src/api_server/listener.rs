// SPDX-License-Identifier: Apache-2.0
//! The thread of the server: it accepts connections, and can close its port and open it again.
//!
//! The port stays ours while nobody listens: a bound socket that does not listen holds it, and
//! clients are refused as by a machine whose server is down.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

use super::protection::{Certificate, Connection};
use super::{Shared, routes};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;

/// What the thread is told; it says when it is done. It ends when nobody can tell it anything more.
pub(super) enum Command {
    /// Stop listening, and cut all connections.
    GoAway(SyncSender<io::Result<()>>),
    /// Listen again.
    ComeBack(SyncSender<io::Result<()>>),
}

/// A port, held as long as this lives.
pub(super) struct Port {
    address: SocketAddr,
    _holder: Socket,
}

impl Port {
    /// Takes the port; 0 is any.
    pub fn hold(address: SocketAddr) -> io::Result<Port> {
        let holder = bind(address)?;
        let address = holder.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Port { address, _holder: holder })
    }

    /// Where clients find it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens; must be called on the server's thread.
    pub fn listen(&self) -> io::Result<TcpListener> {
        let socket = bind(self.address)?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    }
}

/// Serves until the other end of `commands` is dropped.
pub(super) async fn run(
    shared: Arc<Shared>,
    port: Port,
    listener: TcpListener,
    mut commands: UnboundedReceiver<Command>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::GoAway(done)) => {
                    listener = None;
                    connections.shutdown().await;
                    // Whoever asked may have given up waiting.
                    let _ = done.send(Ok(()));
                }
                Some(Command::ComeBack(done)) => {
                    let opened = listener.take().map_or_else(|| port.listen(), Ok);
                    let _ = done.send(opened.map(|opened| listener = Some(opened)));
                }
                None => return,
            },
            stream = accept(listener.as_ref()) => {
                connections.spawn(serve(stream, shared.clone()));
            }
            // Connections that are over leave the set.
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Two sockets may have the port if both say so beforehand and at most one of them listens.
fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    loop {
        let Some(listener) = listener else { return pending().await };
        // What went wrong concerns one connection that never was.
        let Ok((stream, _)) = listener.accept().await else { continue };
        return stream;
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // An event must not wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let protection = shared.protection().clone();
    let (stream, certificate): (Box<dyn Connection>, Certificate) = match protection {
        None => (Box::new(stream), None),
        Some(protection) => {
            // Why a client does not go on is the client's to tell.
            let Ok(accepted) = protection.accept(stream).await else { return };
            accepted
        }
    };
    let service =
        service_fn(move |request| routes::handle(shared.clone(), certificate.clone(), request));
    // A client that leaves, and a connection that is cut, end in an error that says nothing new.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
