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
pub(super) struct Whole {
    body: Incoming,
    arrived: Arrived,
    ended: bool,
}

impl Whole {
    pub(super) fn new(body: Incoming, arrived: Arrived) -> Self {
        Self { body, arrived, ended: false }
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(None) => {
                self.ended = true;
                // Only END_STREAM is the sender's own end.
                match self.body.is_end_stream() {
                    true => Poll::Ready(None),
                    false => Poll::Ready(Some(Err(broken("reset")))),
                }
            }
            Poll::Ready(Some(Err(error))) => {
                self.ended = true;
                Poll::Ready(Some(Err(broken(&error))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.arrived.0.fetch_add(bytes as u64, Ordering::Relaxed);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// As a status of its own: the codec takes a cancelled stream for one that its sender finished.
fn broken(why: impl std::fmt::Display) -> Box<dyn Error + Send + Sync> {
    Box::new(tonic::Status::unavailable(format!("the stream broke: {why}")))
}
