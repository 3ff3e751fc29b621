// SPDX-License-Identifier: Apache-2.0
//! Many TCP connections that are open at once, on one thread: a thread each would be too many.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::timeout;

use pintle_lab::client::DEADLINE;

/// How many connections are being made at a time.
const AT_A_TIME: usize = 100;

/// What is sent over a connection and has to come back.
const WORD: [u8; 8] = *b"hello!\r\n";

/// Connections from several addresses to one server that echoes.
pub struct Crowd {
    runtime: Runtime,
    streams: Vec<TcpStream>,
    failures: String,
}

impl Crowd {
    /// Opens them, with a word over each; those that fail are counted by their error.
    pub fn open(from: &[IpAddr], target: SocketAddr, count: usize) -> Crowd {
        let runtime = runtime();
        let (streams, failed) = runtime.block_on(connect_all(from, target, count));
        let failures: Vec<_> =
            failed.iter().map(|(error, count)| format!("{count} x {error}")).collect();
        Crowd { runtime, streams, failures: failures.join(", ") }
    }

    /// How many there are.
    pub fn open_connections(&self) -> usize {
        self.streams.len()
    }

    /// Those that could not be opened, by error; empty if there are none.
    pub fn failures(&self) -> &str {
        &self.failures
    }

    /// Sends a word over every connection, then waits for all of them to come back; returns how many
    /// did.
    pub fn talk(&mut self) -> usize {
        let streams = &mut self.streams;
        self.runtime.block_on(async {
            let mut came_back = 0;
            for stream in streams.iter_mut() {
                let _ = stream.write_all(&WORD).await;
            }
            for stream in streams {
                came_back += usize::from(hear(stream).await.is_ok());
            }
            came_back
        })
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

async fn connect_all(
    from: &[IpAddr],
    target: SocketAddr,
    count: usize,
) -> (Vec<TcpStream>, BTreeMap<String, usize>) {
    let (mut streams, mut failed) = (Vec::new(), BTreeMap::<String, usize>::new());
    let mut running = JoinSet::new();
    let mut sources = from.iter().copied().cycle().take(count);
    loop {
        while running.len() < AT_A_TIME
            && let Some(source) = sources.next()
        {
            running.spawn(connect(source, target));
        }
        match running.join_next().await {
            Some(Ok(Ok(stream))) => streams.push(stream),
            Some(Ok(Err(error))) => *failed.entry(error.to_string()).or_default() += 1,
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => return (streams, failed),
        }
    }
}

async fn connect(from: IpAddr, target: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    let mut stream = within(socket.connect(target)).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&WORD).await?;
    hear(&mut stream).await?;
    Ok(stream)
}

async fn hear(stream: &mut TcpStream) -> io::Result<()> {
    let mut word = [0; WORD.len()];
    within(stream.read_exact(&mut word)).await?;
    if word == WORD { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(DEADLINE - Duration::from_millis(100), work).await?
}

/// Echoes what comes over any number of connections; other processes may listen at the same port.
pub fn serve(port: u16) -> Result<()> {
    runtime().block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        socket.bind((Ipv4Addr::UNSPECIFIED, port).into())?;
        let listener: TcpListener = socket.listen(4096)?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(echo(stream));
        }
    })
}

/// Ends with the connection; clients count failures.
async fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 64];
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
