//! Request bodies that tell a reset stream from a finished one.

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
};

/// A body whose stream was reset ends with an error. hyper ends it like a finished one, and an update cut off by a
/// lost connection behind a proxy would count as truncated by its sender.
#[derive(Debug)]
pub(crate) struct Whole {
    body: Option<Incoming>,
    ended: bool,
}

impl From<Incoming> for Whole {
    fn from(body: Incoming) -> Self {
        Self { body: Some(body), ended: false }
    }
}

impl Whole {
    /// A body without anything in it.
    pub(super) fn nothing() -> Self {
        Self { body: None, ended: true }
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let Some(body) = this.body.as_mut().filter(|_| !this.ended) else { return Poll::Ready(None) };
        match Pin::new(&mut *body).poll_frame(context) {
            Poll::Ready(None) => {
                this.ended = true;
                // Only END_STREAM is the sender's own end.
                match body.is_end_stream() {
                    true => Poll::Ready(None),
                    false => Poll::Ready(Some(Err(broken("reset")))),
                }
            }
            Poll::Ready(Some(Err(error))) => {
                this.ended = true;
                Poll::Ready(Some(Err(broken(&error))))
            }
            other => other.map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

/// As a status of its own: the codec takes a cancelled stream for one that its sender finished.
fn broken(why: impl std::fmt::Display) -> Box<dyn Error + Send + Sync> {
    Box::new(tonic::Status::unavailable(format!("the stream broke: {why}")))
}
