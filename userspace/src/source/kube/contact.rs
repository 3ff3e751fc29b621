// SPDX-License-Identifier: Apache-2.0
//! Notices when the API server answers: a watch that works again may stay silent for hours, and
//! nobody should be told until then that it fails. And when it does not answer: who accepts
//! connections may be a balancer whose server is gone.

use std::{
    future::Future,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use tokio::{sync::Notify, time::timeout};
use tower::{BoxError, Layer, Service};

/// The server gives up a request after a minute, and says so. A watch begins its answer at once.
const PATIENCE: Duration = Duration::from_secs(90);

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
    S: Service<Request<In>, Response = Response<Out>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        let contact = self.contact.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let silence = |_| format!("no answer within {} s", PATIENCE.as_secs());
            let answer = timeout(PATIENCE, answer).await.map_err(silence)??;
            if answer.status().is_success() {
                contact.granted.notify_one();
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tower::{ServiceExt as _, service_fn};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_answers_is_an_error() {
        let silent = service_fn(|_: Request<()>| pending::<Result<Response<()>, BoxError>>());
        let contact = Arc::<Contact>::default();
        let error =
            ContactLayer(contact).layer(silent).oneshot(Request::new(())).await.unwrap_err();
        assert_eq!(error.to_string(), "no answer within 90 s");
    }

    #[tokio::test]
    async fn only_what_is_granted_is_contact() {
        for (status, is_granted) in [(200, true), (401, false), (410, false), (503, false)] {
            let answer = move |_: Request<()>| async move {
                Response::builder().status(status).body(()).map_err(BoxError::from)
            };
            let contact = Arc::<Contact>::default();
            let layer = ContactLayer(contact.clone());
            layer.layer(service_fn(answer)).oneshot(Request::new(())).await.unwrap();
            let granted = timeout(Duration::from_millis(10), contact.granted()).await;
            assert_eq!(granted.is_ok(), is_granted, "{status}");
        }
    }
}
