// SPDX-License-Identifier: Apache-2.0
//! A small HTTP client: one connection per request, bodies read as they come.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use pintle_tests::api_server::ApiServer;
use serde_json::{Value, json};

/// How long a test waits for bytes that should come.
const PATIENCE: Duration = Duration::from_secs(10);

/// The head of an answer, and its body still to be read.
pub struct Answer {
    /// Its status.
    pub status: u16,
    head: String,
    body: Body,
}

/// A body, which ends when it says so; a connection that ends before is an error.
struct Body {
    stream: BufReader<TcpStream>,
    /// Bytes of the chunk, or of the whole body, that are still to come.
    left: usize,
    framing: Framing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
    Done,
}

/// Sends a GET without token.
pub fn get(server: &ApiServer, path: &str) -> Answer {
    request(server, "GET", path, &[], "").expect("an answer")
}

/// The JSON that a successful GET brings.
pub fn get_json(server: &ApiServer, path: &str) -> Value {
    let answer = get(server, path);
    assert_eq!(answer.status, 200, "{path}");
    answer.json()
}

/// The Status of a GET that fails.
pub fn failure(server: &ApiServer, path: &str) -> Value {
    let answer = get(server, path);
    let code = answer.status;
    let status = answer.json();
    assert_eq!(status["kind"], "Status", "{path}");
    assert_eq!(status["code"], code, "{path}");
    status
}

/// Sends a request and reads the head of the answer.
pub fn request(
    server: &ApiServer,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server.address())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: api\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += &format!("content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes())?;
    Answer::read(BufReader::new(stream))
}

impl Answer {
    fn read(mut stream: BufReader<TcpStream>) -> io::Result<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a status");
        let mut answer =
            Answer { status, head, body: Body { stream, left: 0, framing: Framing::Chunked } };
        if let Some(length) = answer.header("content-length") {
            answer.body.left = length.parse().expect("a length");
            answer.body.framing = Framing::Length;
        }
        Ok(answer)
    }

    /// A header of the answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, text)| text)
    }

    /// The whole body.
    pub fn text(mut self) -> io::Result<String> {
        let mut text = String::new();
        self.body.read_to_string(&mut text)?;
        Ok(text)
    }

    /// The whole body, parsed.
    pub fn json(self) -> Value {
        serde_json::from_str(&self.text().expect("a body")).expect("JSON")
    }

    /// The body as lines.
    pub fn lines(self) -> Watch {
        assert_eq!(self.status, 200);
        Watch(BufReader::with_capacity(1 << 16, self.body))
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.framing == Framing::Chunked && self.left == 0 {
            self.left = self.next_chunk()?;
        }
        let wanted = buffer.len().min(self.left);
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.stream.read(&mut buffer[..wanted])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read;
        if self.framing == Framing::Chunked && self.left == 0 {
            self.stream.read_exact(&mut [0; 2])?;
        }
        Ok(read)
    }
}

impl Body {
    fn next_chunk(&mut self) -> io::Result<usize> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let size = usize::from_str_radix(line.trim_end(), 16).expect("a chunk's size");
        if size == 0 {
            self.framing = Framing::Done;
        }
        Ok(size)
    }
}

/// An open watch.
pub struct Watch(BufReader<Body>);

impl Watch {
    /// Opens one.
    pub fn open(server: &ApiServer, path: &str) -> Watch {
        get(server, path).lines()
    }

    /// The next line; empty when the watch has ended in order.
    pub fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        Ok(line)
    }

    /// The next event.
    pub fn next(&mut self) -> Value {
        let line = self.line().expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// Type, name and resourceVersion of the next event.
    pub fn brief(&mut self) -> (String, String, u64) {
        brief(&self.next())
    }

    /// Asserts that nothing comes for a while.
    pub fn stays_quiet(&mut self) {
        let socket = self.0.get_ref().stream.get_ref();
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let mut line = String::new();
        let read = self.0.read_line(&mut line);
        let kind = read.map_err(|error| error.kind());
        assert_eq!(kind, Err(io::ErrorKind::WouldBlock), "{line}");
        let socket = self.0.get_ref().stream.get_ref();
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    }

    /// Asserts that the watch ends in order.
    pub fn ends(mut self) {
        assert_eq!(self.line().expect("an end in order"), "");
    }

    /// Asserts that the connection is cut.
    pub fn breaks_off(mut self) {
        let kind = self.line().map_err(|error| error.kind());
        assert_eq!(kind, Err(io::ErrorKind::UnexpectedEof));
    }
}

/// Type, name and resourceVersion of an event.
pub fn brief(event: &Value) -> (String, String, u64) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &event["object"]["metadata"];
    (text(&event["type"]), text(&metadata["name"]), number(&metadata["resourceVersion"]))
}

/// A resourceVersion.
pub fn number(version: &Value) -> u64 {
    version.as_str().expect("a text").parse().expect("a number")
}

/// The names in a list.
pub fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("items");
    items.iter().map(|item| item["metadata"]["name"].as_str().expect("a name")).collect()
}

/// A Service with one label, `app`.
pub fn service(name: &str, app: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": "shop", "labels": { "app": app } },
        "spec": { "clusterIP": "10.96.0.1", "ports": [{ "port": 80 }] },
    })
}
