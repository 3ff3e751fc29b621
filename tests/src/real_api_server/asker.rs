// SPDX-License-Identifier: Apache-2.0
//! Asks an API server, be it real or ours, with what a kubeconfig says; one connection per request.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;
use tokio::runtime::Builder;
use tokio::time::timeout;

/// Longer than any answer takes, also that of a busy server to a watch of a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// Somebody who asks.
pub struct Asker {
    kubeconfig: PathBuf,
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// The object; of a watch each of its lines; text that is no JSON as a string.
    pub lines: Vec<Value>,
}

impl Answer {
    /// The object, if the answer is not a refusal.
    pub fn granted(self) -> Result<Value> {
        match self.code {
            200..300 => Ok(self.object()),
            code => bail!("{code}: {}", self.object()),
        }
    }

    /// The object, or the Status.
    pub fn object(self) -> Value {
        self.lines.into_iter().next().unwrap_or_default()
    }
}

impl Asker {
    /// One that goes by a kubeconfig.
    pub fn new(kubeconfig: PathBuf) -> Asker {
        Asker { kubeconfig }
    }

    /// The kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Sends a request and reads its answer to the end.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        let content = if method == "PATCH" { "merge-patch+json" } else { "json" };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", format!("application/{content}"))
            .body(body.map(|body| body.to_string().into_bytes()).unwrap_or_default())?;
        let answer = async { timeout(PATIENCE, self.send(request)).await };
        let answer = Builder::new_current_thread().enable_all().build()?.block_on(answer);
        answer.with_context(|| format!("no answer to {method} {path}"))?
    }

    async fn send(&self, request: Request<Vec<u8>>) -> Result<Answer> {
        let read = Kubeconfig::read_from(&self.kubeconfig)?;
        let options = KubeConfigOptions::default();
        let mut config = Config::from_custom_kubeconfig(read, &options).await?;
        // A refusal is an answer.
        config.default_retry = false;
        let client = Client::try_from(config)?;
        match client.request_text(request).await {
            Ok(text) => Ok(Answer { code: 200, lines: text.lines().map(parse).collect() }),
            Err(kube::Error::Api(status)) => {
                Ok(Answer { code: status.code, lines: vec![serde_json::to_value(status)?] })
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|_| line.into())
}
