// SPDX-License-Identifier: Apache-2.0
//! What goes back to a client: a status, few headers, and a body that is whole or comes in pieces.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::Response;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::Shared;
use super::failure::Failure;
use super::faults::Pace;

/// How many pieces of a body may wait, so that the connection can write several at once.
const PIECES_AHEAD: usize = 64;

/// An answer to a request.
pub(super) struct Answer {
    pub status: u16,
    content_type: &'static str,
    retry_after: Option<u32>,
    content: Content,
}

/// The body of an answer.
pub(super) enum Content {
    /// All of it; `None` once it is sent.
    Whole(Option<Bytes>),
    /// What comes out of the other end.
    Stream(mpsc::Receiver<Result<Bytes, CutOff>>),
}

/// The body ends in the middle, and with it the connection.
#[derive(Debug, thiserror::Error)]
#[error("the connection was cut")]
pub(super) struct CutOff;

/// The client is not there any more.
#[derive(Debug)]
pub(super) struct Left;

/// The end of a streamed body that is written to.
pub(super) struct Outlet {
    pieces: mpsc::Sender<Result<Bytes, CutOff>>,
    shared: Arc<Shared>,
}

impl Answer {
    /// JSON text.
    pub fn json(status: u16, body: impl Into<Bytes>) -> Answer {
        let content = Content::Whole(Some(body.into()));
        Answer { status, content_type: "application/json", retry_after: None, content }
    }

    /// A JSON value.
    pub fn value(status: u16, value: &Value) -> Answer {
        Answer::json(status, value.to_string())
    }

    /// Plain text, as Go's HTTP server writes it.
    pub fn text(status: u16, text: &'static str) -> Answer {
        let content = Content::Whole(Some(Bytes::from_static(text.as_bytes())));
        let content_type = "text/plain; charset=utf-8";
        Answer { status, content_type, retry_after: None, content }
    }

    /// What kube-apiserver says when it is too busy: no `Status` object.
    pub fn too_many_requests(retry_after: u32) -> Answer {
        let busy = Answer::text(429, "Too many requests, please try again later.\n");
        Answer { retry_after: Some(retry_after), ..busy }
    }

    /// JSON that is written to the outlet as time goes by.
    pub fn stream(shared: &Arc<Shared>) -> (Answer, Outlet) {
        let (outlet, content) = Outlet::new(shared);
        let content_type = "application/json";
        (Answer { status: 200, content_type, retry_after: None, content }, outlet)
    }

    /// The same answer, its body sent at the pace that tests want.
    pub fn paced(mut self, shared: &Arc<Shared>) -> Answer {
        if let Content::Whole(Some(body)) = &mut self.content
            && shared.faults().pace != Pace::AtOnce
        {
            let body = std::mem::take(body);
            let (outlet, content) = Outlet::new(shared);
            tokio::spawn(async move { outlet.send(body).await });
            self.content = content;
        }
        self
    }
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Answer {
        Answer::value(failure.code, &failure.status())
    }
}

impl From<Answer> for Response<Content> {
    fn from(answer: Answer) -> Response<Content> {
        let Answer { status, content_type, retry_after, content } = answer;
        let mut response = Response::new(content);
        // Every status here is written in this folder, and valid.
        *response.status_mut() = status.try_into().unwrap_or_default();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl Outlet {
    fn new(shared: &Arc<Shared>) -> (Outlet, Content) {
        let (pieces, stream) = mpsc::channel(PIECES_AHEAD);
        (Outlet { pieces, shared: shared.clone() }, Content::Stream(stream))
    }

    /// Sends an event of a watch, or a whole body, at the pace that tests want.
    pub async fn send(&self, bytes: Bytes) -> Result<(), Left> {
        let pace = self.shared.faults().pace;
        match pace {
            Pace::AtOnce => self.push(bytes).await,
            Pace::PauseBefore(pause) => {
                sleep(pause).await;
                self.push(bytes).await
            }
            Pace::Trickle { bytes: size, every } => self.trickle(bytes, size, every).await,
        }
    }

    /// Cuts the connection.
    pub async fn cut(&self) {
        // A client that has left needs no cutting.
        let _ = self.pieces.send(Err(CutOff)).await;
    }

    /// Waits until the client has left.
    pub async fn left(&self) {
        self.pieces.closed().await;
    }

    async fn trickle(&self, mut rest: Bytes, size: usize, every: Duration) -> Result<(), Left> {
        while !rest.is_empty() {
            let piece = rest.split_to(size.clamp(1, rest.len()));
            self.push(piece).await?;
            sleep(every).await;
        }
        Ok(())
    }

    async fn push(&self, bytes: Bytes) -> Result<(), Left> {
        self.pieces.send(Ok(bytes)).await.map_err(|_| Left)
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        let piece = match &mut *self {
            Content::Whole(body) => body.take().map(Ok),
            Content::Stream(pieces) => ready!(pieces.poll_recv(context)),
        };
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Content::Whole(body) => {
                let length = body.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or_default())
            }
            Content::Stream(_) => SizeHint::default(),
        }
    }
}
