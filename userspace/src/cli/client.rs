// SPDX-License-Identifier: Apache-2.0
//! Asks the agent over its socket.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

use serde::de::DeserializeOwned;

use crate::server::state::{Names, Status};

/// Longer than any answer takes, even of a busy agent.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the agent can be asked.
pub trait Agent {
    /// The agent and its progress.
    fn status(&self) -> io::Result<Status>;
    /// Names for numbers and addresses.
    fn names(&self) -> io::Result<Names>;
}

/// The agent behind a socket.
#[derive(Clone, Debug)]
pub struct SocketAgent {
    /// The socket.
    pub path: PathBuf,
}

impl SocketAgent {
    fn get<T: DeserializeOwned>(&self, path: &str) -> io::Result<T> {
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // HTTP/1.0: the answer comes in one piece and ends with the connection.
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.ok_or_else(|| io::Error::other("the agent's answer has no body"))?;
        if !answer.starts_with(b"HTTP/1.0 200") && !answer.starts_with(b"HTTP/1.1 200") {
            return Err(io::Error::other("the agent does not know this question"));
        }
        Ok(serde_json::from_slice(&answer[end + 4..])?)
    }
}

impl Agent for SocketAgent {
    fn status(&self) -> io::Result<Status> {
        self.get("/status")
    }

    fn names(&self) -> io::Result<Names> {
        self.get("/names")
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;
    use crate::server::{
        socket,
        state::{Readiness, StateSource},
    };

    struct Fake;

    impl StateSource for Fake {
        fn readiness(&self) -> Readiness {
            Readiness::default()
        }
        fn status(&self) -> Status {
            Status { node: "n1".into(), revision_read: 7, ..Status::default() }
        }
        fn names(&self) -> Names {
            Names { services: [(3, "shop/web:http".into())].into(), ..Names::default() }
        }
    }

    #[tokio::test]
    async fn the_answers_of_the_server_are_understood() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        tokio::spawn(socket::serve(&path, Arc::new(Fake)).unwrap());
        let agent = SocketAgent { path };
        let (done, answers) = tokio::sync::oneshot::channel();
        thread::spawn(move || {
            done.send((agent.status().unwrap(), agent.names().unwrap())).unwrap();
        });
        let (status, names) = answers.await.unwrap();
        assert_eq!((status, names), (Fake.status(), Fake.names()));
    }
}
