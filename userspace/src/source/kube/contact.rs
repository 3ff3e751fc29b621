// SPDX-License-Identifier: Apache-2.0
//! Notices when the API server answers: a watch that works again may stay silent for hours, and
//! nobody should be told until then that it fails.

use std::{
    future::Future,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tokio::sync::Notify;
use tower::{Layer, Service};

/// Is told of every request that the server has granted.
#[derive(Debug, Default)]
pub(super) struct Contact {
    granted: Notify,
}

impl Contact {
    /// Waits until the server grants a request, or has done so since the last time.
    pub async fn granted(&self) {
        self.granted.notified().await;
    }
}

/// Adds the look at answers to a client.
#[derive(Clone, Debug)]
pub(super) struct ContactLayer(pub Arc<Contact>);

impl<S> Layer<S> for ContactLayer {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner, contact: self.0.clone() }
    }
}

/// A client whose answers are looked at.
#[derive(Clone, Debug)]
pub(super) struct Observed<S> {
    inner: S,
    contact: Arc<Contact>,
}

impl<S, In, Out> Service<Request<In>> for Observed<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        let contact = self.contact.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            if answer.status().is_success() {
                contact.granted.notify_one();
            }
            Ok(answer)
        })
    }
}
