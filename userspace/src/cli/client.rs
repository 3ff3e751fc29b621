// SPDX-License-Identifier: Apache-2.0
//! Asks the agent over its socket.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    policy::AllowedKey,
    server::{
        policy::{Answer, Cause, Denial, NamedDenial, Party, Policies, Question},
        state::{Names, Status},
    },
};

/// Longer than any answer takes, even of a busy agent.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many questions are asked at once: while it answers, the agent does nothing else.
const AT_ONCE: usize = 1000;

/// What the agent can be asked.
pub trait Agent {
    /// The agent and its progress.
    fn status(&self) -> io::Result<Status>;
    /// Names for numbers and addresses.
    fn names(&self) -> io::Result<Names>;
    /// Policies, and what became of them.
    fn policies(&self) -> io::Result<Policies>;
    /// Names of denials, in their order.
    fn name_denials(&self, denials: &[Denial]) -> io::Result<Vec<NamedDenial>>;
    /// What allowed counted connections, in their order.
    fn name_allowed(&self, keys: &[AllowedKey]) -> io::Result<Vec<Cause>>;
    /// Who answers to names or addresses, in their order.
    fn find(&self, words: &[String]) -> io::Result<Vec<Party>>;
    /// What policies say of connections, in their order.
    fn judge(&self, questions: &[Question]) -> io::Result<Vec<Answer>>;
}

/// The agent behind a socket.
#[derive(Clone, Debug)]
pub struct SocketAgent {
    /// The socket.
    pub path: PathBuf,
}

impl SocketAgent {
    fn get<T: DeserializeOwned>(&self, path: &str) -> io::Result<T> {
        self.exchange(&format!("GET {path} HTTP/1.0\r\n\r\n"))
    }

    /// Answers to questions, in their order.
    fn post<Q: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        questions: &[Q],
    ) -> io::Result<Vec<T>> {
        let mut answers = Vec::with_capacity(questions.len());
        for part in questions.chunks(AT_ONCE) {
            let body = serde_json::to_string(part)?;
            let length = body.len();
            answers.append(&mut self.exchange(&format!(
                "POST {path} HTTP/1.0\r\nContent-Type: application/json\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            ))?);
        }
        match answers.len() == questions.len() {
            true => Ok(answers),
            false => Err(io::Error::other("the agent has not answered every question")),
        }
    }

    fn exchange<T: DeserializeOwned>(&self, question: &str) -> io::Result<T> {
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // HTTP/1.0: the answer comes in one piece and ends with the connection.
        stream.write_all(question.as_bytes())?;
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

    fn policies(&self) -> io::Result<Policies> {
        self.get("/policies")
    }

    fn name_denials(&self, denials: &[Denial]) -> io::Result<Vec<NamedDenial>> {
        self.post("/policies/denials", denials)
    }

    fn name_allowed(&self, keys: &[AllowedKey]) -> io::Result<Vec<Cause>> {
        self.post("/policies/allowed", keys)
    }

    fn find(&self, words: &[String]) -> io::Result<Vec<Party>> {
        self.post("/policies/parties", words)
    }

    fn judge(&self, questions: &[Question]) -> io::Result<Vec<Answer>> {
        self.post("/policies/verdicts", questions)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;
    use crate::server::{
        PolicySource, socket,
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

    impl PolicySource for Fake {
        fn policies(&self) -> Policies {
            Policies::default()
        }
        fn name_denials(&self, _: &[Denial]) -> Vec<NamedDenial> {
            Vec::new()
        }
        fn name_allowed(&self, _: &[AllowedKey]) -> Vec<Cause> {
            Vec::new()
        }
        fn find(&self, words: &[String]) -> Vec<Party> {
            let party = |word: &String| Party { name: Some(word.clone()), ..Party::default() };
            words.iter().map(party).collect()
        }
        fn judge(&self, _: &[Question]) -> Vec<Answer> {
            Vec::new()
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
            // More than are asked at once.
            let words: Vec<String> = (0..AT_ONCE + 2).map(|number| number.to_string()).collect();
            let found = agent.find(&words).unwrap();
            done.send((agent.status().unwrap(), agent.names().unwrap(), found)).unwrap();
        });
        let (status, names, found) = answers.await.unwrap();
        assert_eq!((status, names), (Fake.status(), Fake.names()));
        let found: Vec<_> = found.into_iter().filter_map(|party| party.name).collect();
        assert_eq!((found.len(), &*found[AT_ONCE + 1]), (AT_ONCE + 2, "1001"));
    }
}
