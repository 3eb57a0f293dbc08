//! Request bodies that tell a reset stream from a finished one.

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::{
    error::Error,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

/// Bytes of a request's body that have arrived, whether or not they make up a message yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrived(Arc<AtomicU64>);

impl Arrived {
    /// How many.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A body whose stream was reset ends with an error. hyper ends it like a finished one, and an update cut off by a
/// lost connection behind a proxy would count as truncated by its sender.
#[derive(Debug)]
pub(crate) struct Whole {
    body: Option<Incoming>,
    arrived: Arrived,
    ended: bool,
}

impl Whole {
    pub(super) fn new(body: Incoming, arrived: Arrived) -> Self {
        Self { body: Some(body), arrived, ended: false }
    }

    /// A body without anything in it.
    pub(super) fn nothing() -> Self {
        Self { body: None, arrived: Arrived::default(), ended: true }
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
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                this.arrived.0.fetch_add(bytes as u64, Ordering::Relaxed);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => Poll::Pending,
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
