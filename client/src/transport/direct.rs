//! Bodies of updates and models, past the codec: see [`testudo_proto::stream`].

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use testudo_proto::stream::{Carrier, Incoming, Outgoing};
use tonic::{Status, body::Body, transport::Channel};
use tower::Service;

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, tonic::transport::Error>> + Send>>;

/// A channel whose one call sends pieces of its own in place of the call's messages.
pub(super) struct Sending {
    channel: Channel,
    body: Option<Body>,
}

impl Sending {
    pub(super) fn new(channel: Channel, pieces: impl Iterator<Item = Bytes> + Send + Unpin + 'static) -> Self {
        Self { channel, body: Some(Body::new(Outgoing::request(tokio_stream::iter(pieces)))) }
    }
}

impl Service<Request<Body>> for Sending {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = tonic::transport::channel::ResponseFuture;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let body = self.body.take().unwrap_or_default();
        self.channel.call(request.map(|_| body))
    }
}

/// A channel that keeps the answer's body for who knows how to read it.
#[derive(Clone)]
pub(super) struct Receiving {
    channel: Channel,
    body: Arc<Mutex<Option<Body>>>,
}

impl Receiving {
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel, body: Arc::default() }
    }

    /// The body, once there is an answer; none if the answer is a refusal or not gRPC, which the codec can tell.
    pub(super) fn body(&self, carrier: Carrier) -> Option<Incoming<Body>> {
        let body = self.body.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Incoming::new(carrier, body))
    }
}

impl Service<Request<Body>> for Receiving {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (answer, kept) = (self.channel.call(request), self.body.clone());
        Box::pin(async move {
            let mut response = answer.await?;
            let is_refused = response.headers().contains_key(Status::GRPC_STATUS);
            if response.status() == StatusCode::OK && !is_refused {
                let body = std::mem::take(response.body_mut());
                *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
            }
            Ok(response)
        })
    }
}
