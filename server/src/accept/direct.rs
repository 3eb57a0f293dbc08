//! Bodies that go past the codec: those of the calls that move models and updates.

use super::body::Whole;
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};
use testudo_proto::stream::{Carrier, Incoming, Outgoing};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;

/// The call whose request body is taken out before the codec sees it.
const UPLOAD: &str = "/testudo.v1.Federation/Upload";

/// A body on its way past the codec, among the extensions of its request or response.
#[derive(Debug)]
struct Slot<B>(Arc<Mutex<Option<B>>>);

impl<B> Slot<B> {
    fn new(body: B) -> Self {
        Self(Arc::new(Mutex::new(Some(body))))
    }

    fn take(self) -> Option<B> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

// Extensions must be Clone, which deriving would ask of the body too.
impl<B> Clone for Slot<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// An update's messages.
pub(crate) type UpdateBody = Incoming<Whole>;

/// Sets the body of an upload aside.
pub(super) fn set_aside(request: &mut http::Request<Whole>) {
    if request.uri().path() == UPLOAD {
        let body = std::mem::replace(request.body_mut(), Whole::nothing());
        request.extensions_mut().insert(Slot::new(body));
    }
}

/// The body that was set aside, once.
pub(crate) fn taken(extensions: &mut http::Extensions) -> Option<UpdateBody> {
    let body = extensions.remove::<Slot<Whole>>()?.take()?;
    Some(Incoming::new(Carrier::Update, body))
}

/// Answers with these pieces in place of what the codec makes of the response's own messages.
pub(crate) fn answer_with(extensions: &mut http::Extensions, pieces: mpsc::Receiver<Bytes>) {
    extensions.insert(Slot::new(Body::new(Outgoing::response(ReceiverStream::new(pieces)))));
}

/// Puts the pieces into the response.
pub(super) fn put_in(mut response: http::Response<Body>) -> http::Response<Body> {
    if let Some(body) = response.extensions_mut().remove::<Slot<Body>>().and_then(Slot::take) {
        *response.body_mut() = body;
    }
    response
}
