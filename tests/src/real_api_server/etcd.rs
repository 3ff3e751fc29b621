// SPDX-License-Identifier: Apache-2.0
//! etcd: one member, for one test. It is asked through its gateway for JSON.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::process::{Process, free_port, url};

/// How long it may take to answer for the first time.
const READY: Duration = Duration::from_secs(60);

/// A running etcd.
pub(super) struct Etcd {
    port: u16,
    process: Process,
}

impl Etcd {
    /// Starts it with an empty directory, and waits until it answers.
    pub fn start(folder: &Path, directory: &Path) -> Result<Etcd> {
        let port = free_port()?;
        let peers = url(free_port()?);
        let mut command = Command::new(folder.join("etcd"));
        command.arg("--data-dir").arg(directory).args([
            format!("--listen-client-urls={}", url(port)),
            format!("--advertise-client-urls={}", url(port)),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=default={peers}"),
            // What is lost with the machine is lost with the test.
            "--unsafe-no-fsync".into(),
        ]);
        let process = Process::start(&mut command, &directory.with_extension("log"))?;
        let mut etcd = Etcd { port, process };
        let end = Instant::now() + READY;
        while let Err(error) = etcd.revision() {
            etcd.process.check()?;
            ensure!(Instant::now() < end, "etcd does not answer: {error:#}");
            thread::sleep(Duration::from_millis(50));
        }
        Ok(etcd)
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// Makes it forget everything but the present.
    pub fn compact(&self) -> Result<()> {
        let revision = self.revision()?;
        self.ask("/v3/kv/compaction", &json!({ "revision": revision, "physical": true }))?;
        Ok(())
    }

    fn revision(&self) -> Result<Value> {
        // The key is one zero byte, which nobody has.
        let answer = self.ask("/v3/kv/range", &json!({ "key": "AA==" }))?;
        Ok(answer["header"]["revision"].clone())
    }

    fn ask(&self, path: &str, body: &Value) -> Result<Value> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(READY))?;
        let body = body.to_string();
        // Of HTTP 1.0, so that the answer has no chunks and ends with the connection.
        let head = format!("POST {path} HTTP/1.0\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        ensure!(head.split(' ').nth(1) == Some("200"), "etcd says {answer}");
        Ok(serde_json::from_str(body)?)
    }
}
