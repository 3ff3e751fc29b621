// SPDX-License-Identifier: Apache-2.0
//! Does a kube-proxy run on this node? Two service proxies would translate every connection twice.
//!
//! It is looked for where it can be found: as a process, which a pod without the host's process
//! namespace does not see, and at the addresses where it answers, which k3s' built-in one does too.
//! Only this network namespace counts.

use std::{
    fmt, fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use thiserror::Error;

/// What kube-proxy's process is called.
const PROCESS: &str = "kube-proxy";
const METRICS_PORT: u16 = 10249;
const HEALTH_PORT: u16 = 10256;
/// Longest time for one question.
const PATIENCE: Duration = Duration::from_millis(120);
/// What kube-proxy says about its mode; other proxies say something else.
const MODES: [&str; 4] = ["iptables", "ipvs", "nftables", "userspace"];
/// A member of kube-proxy's answer to health checks.
const HEALTH_MARK: &str = "\"lastUpdated\"";
/// How our own servers introduce themselves.
pub const SERVER: &str = "pintle";

/// What was found of a kube-proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// Its process.
    pub process: Option<u32>,
    /// The mode that it says it works in.
    pub mode: Option<&'static str>,
    /// It answers health checks.
    pub healthy: bool,
}

/// A kube-proxy runs in this network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("kube-proxy is running on this node ({signs}): both would translate every connection")]
pub struct KubeProxyRuns {
    signs: Signs,
}

impl fmt::Display for Signs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.process.map(|pid| format!("process {pid}")));
        parts.extend(self.mode.map(|mode| format!("mode {mode} at 127.0.0.1:{METRICS_PORT}")));
        parts.extend(self.healthy.then(|| format!("health checks at 127.0.0.1:{HEALTH_PORT}")));
        f.write_str(&parts.join(", "))
    }
}

impl Signs {
    /// The error, if anything was found.
    pub fn refuse(self) -> Result<(), KubeProxyRuns> {
        match self == Self::default() {
            true => Ok(()),
            false => Err(KubeProxyRuns { signs: self }),
        }
    }
}

/// Looks for a kube-proxy in this network namespace; takes less than 300 ms.
pub fn look() -> Signs {
    let ask = |port, path| ask(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), path).ok();
    Signs {
        process: process(Path::new("/proc")).unwrap_or_else(|error| {
            tracing::warn!(%error, "look for a kube-proxy process");
            None
        }),
        mode: ask(METRICS_PORT, "/proxyMode").and_then(|answer| mode(&answer)),
        healthy: ask(HEALTH_PORT, "/healthz").is_some_and(|answer| is_kube_proxys(&answer)),
    }
}

/// The process of that name in our network namespace.
fn process(proc: &Path) -> io::Result<Option<u32>> {
    let own = fs::read_link(proc.join("thread-self/ns/net"))?;
    for entry in fs::read_dir(proc)? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Processes end while we look.
        let Ok(name) = fs::read_to_string(entry.path().join("comm")) else { continue };
        if name.trim_end() == PROCESS
            && fs::read_link(entry.path().join("ns/net")).is_ok_and(|netns| netns == own)
        {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

/// The whole answer to a request, as far as it comes in time.
fn ask(address: SocketAddr, path: &str) -> io::Result<String> {
    let end = Instant::now() + PATIENCE;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    let mut answer = Vec::new();
    let left = |end: Instant| end.saturating_duration_since(Instant::now());
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
    while !left(end).is_zero() {
        stream.set_read_timeout(Some(left(end).max(Duration::from_millis(1))))?;
        let mut part = [0; 1024];
        match stream.read(&mut part) {
            Ok(0) | Err(_) => break,
            Ok(len) => answer.extend(&part[..len]),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The mode that a kube-proxy names.
fn mode(answer: &str) -> Option<&'static str> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let named = MODES.iter().find(|mode| body.trim() == **mode).copied();
    named.filter(|_| !is_ours(head))
}

fn is_kube_proxys(answer: &str) -> bool {
    let parts = answer.split_once("\r\n\r\n");
    parts.is_some_and(|(head, body)| body.contains(HEALTH_MARK) && !is_ours(head))
}

/// Answered by Pintle, which speaks as kube-proxy does.
fn is_ours(head: &str) -> bool {
    head.lines().filter_map(|line| line.split_once(':')).any(|(name, value)| {
        name.eq_ignore_ascii_case("server") && value.trim().starts_with(SERVER)
    })
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::unix::fs::symlink, thread};

    use super::*;

    const PLAIN: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n";

    #[test]
    fn kube_proxy_is_known_by_its_answers_and_pintle_is_not_taken_for_it() {
        assert_eq!(mode(&format!("{PLAIN}iptables\n")), Some("iptables"));
        assert_eq!(mode(&format!("{PLAIN}pintle")), None);
        assert_eq!(mode("HTTP/1.1 200 OK\r\nserver: pintle/0.1\r\n\r\nnftables"), None);
        assert_eq!(mode("nonsense"), None);
        let health = "{\"lastUpdated\": \"2026-01-01\", \"nodeEligible\": true}";
        assert!(is_kube_proxys(&format!("{PLAIN}{health}")));
        assert!(!is_kube_proxys(&format!("{PLAIN}ok")));
        assert!(!is_kube_proxys(&format!("HTTP/1.1 503 X\r\nServer: pintle\r\n\r\n{health}")));
    }

    #[test]
    fn a_process_in_another_network_namespace_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let process_of = |pid: &str, name: &str, netns: &str| {
            let path = dir.path().join(pid);
            fs::create_dir_all(path.join("ns")).unwrap();
            fs::write(path.join("comm"), format!("{name}\n")).unwrap();
            symlink(netns, path.join("ns/net")).unwrap();
        };
        process_of("thread-self", "pintle", "net:[1]");
        process_of("7", "kube-proxy", "net:[2]");
        process_of("8", "kube-proxy-x", "net:[1]");
        assert_eq!(process(dir.path()).unwrap(), None);
        process_of("9", "kube-proxy", "net:[1]");
        assert_eq!(process(dir.path()).unwrap(), Some(9));
    }

    #[test]
    fn a_server_that_does_not_answer_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || listener.accept().unwrap());
        let start = Instant::now();
        assert_eq!(ask(address, "/healthz").unwrap(), "");
        assert!(start.elapsed() < 2 * PATIENCE);
        drop(server.join());
    }

    #[test]
    fn the_error_names_every_sign() {
        let signs = Signs { process: Some(7), mode: Some("ipvs"), healthy: true };
        let error = signs.refuse().unwrap_err().to_string();
        assert!(
            error.contains("process 7, mode ipvs at 127.0.0.1:10249, health checks"),
            "{error}"
        );
        assert_eq!(Signs::default().refuse(), Ok(()));
    }
}
