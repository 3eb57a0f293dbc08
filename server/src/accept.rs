//! Our own accept loop: connection caps, a handshake timeout, HTTP/2 limits and a graceful end.
//!
//! The transport's own server has no default handshake timeout and lets handshakes and connections pile up, so it
//! only ever gets finished streams.

mod body;
mod direct;
mod prefixed;

use crate::{access::Peer, config::Limits, telemetry::Metrics, tls::TlsSource};
pub(crate) use body::Arrived;
use body::Whole;
pub(crate) use direct::{UpdateBody, answer_with, taken};
use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use prefixed::Prefixed;
use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use tower::ServiceExt;

/// How long calls under way may take after a stop.
const GRACE: Duration = Duration::from_secs(10);

/// How long calls under way may take on a connection that is too old.
const AGE_GRACE: Duration = Duration::from_secs(1800);

/// Accepts connections and serves them until cancelled.
#[derive(Debug)]
pub(crate) struct Acceptor {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<TlsSource>,
    pub(crate) limits: Limits,
    pub(crate) routes: Routes,
    pub(crate) metrics: Metrics,
}

#[derive(Debug)]
struct Shared {
    tls: Option<TlsSource>,
    limits: Limits,
    routes: Routes,
    metrics: Metrics,
    handshakes: Semaphore,
    per_address: Mutex<HashMap<IpAddr, usize>>,
}

impl Acceptor {
    /// Serves until `stop`; then lets calls under way end, for a while.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let Self { listener, tls, limits, routes, metrics } = self;
        let connections = Arc::new(Semaphore::new(limits.connections));
        let handshakes = Semaphore::new(limits.handshakes);
        let shared = Arc::new(Shared { tls, limits, routes, metrics, handshakes, per_address: Mutex::default() });
        let (tracker, abort) = (TaskTracker::new(), CancellationToken::new());
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, mostly: pausing lets connections end instead of spinning.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            let Ok(permit) = connections.clone().try_acquire_owned() else {
                shared.metrics.connection_refused("limit");
                continue;
            };
            let Some(place) = Place::take(&shared, address.ip()) else {
                shared.metrics.connection_refused("address_limit");
                continue;
            };
            let (stop, abort) = (stop.clone(), abort.clone());
            tracker.spawn(async move {
                let shared = place.shared.clone();
                shared.metrics.connections.inc();
                let connection = shared.connection(stream, address, stop);
                if let Some(Err(reason)) = abort.run_until_cancelled(connection).await {
                    shared.metrics.connection_refused(reason);
                }
                shared.metrics.connections.dec();
                drop((place, permit));
            });
        }
        drop(listener);
        tracker.close();
        if timeout(GRACE, tracker.wait()).await.is_err() {
            tracing::warn!("connections are still open after the grace period; closing them");
            abort.cancel();
            tracker.wait().await;
        }
    }
}

impl Shared {
    async fn connection(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        stop: CancellationToken,
    ) -> Result<(), &'static str> {
        stream.set_nodelay(true).map_err(|_| "socket")?;
        let Some(tls) = &self.tls else {
            return self.serve(stream, Peer::plain(address), stop).await;
        };
        let Ok(permit) = self.handshakes.try_acquire() else { return Err("handshake_limit") };
        let handshake = timeout(self.limits.handshake(), TlsAcceptor::from(tls.current()).accept(stream)).await;
        drop(permit);
        let stream = match handshake {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, "TLS handshake failed");
                return Err("handshake_failed");
            }
            Err(_) => return Err("handshake_timeout"),
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let peer = match certificate {
            Some(certificate) => Peer::with_certificate(address, certificate),
            None => Peer::plain(address),
        };
        self.serve(stream, peer, stop).await
    }

    async fn serve<S>(&self, stream: S, peer: Peer, stop: CancellationToken) -> Result<(), &'static str>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // A peer that connects and stays silent holds a place no longer than one that does not finish a handshake.
        let stream = match timeout(self.limits.handshake(), Prefixed::read_preface(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(_)) => return Err("not_http2"),
            Err(_) => return Err("handshake_timeout"),
        };
        let service = ServiceExt::<http::Request<Whole>>::map_response(self.routes.clone(), direct::put_in);
        let service = service.map_request(move |request: http::Request<hyper::body::Incoming>| {
            let arrived = Arrived::default();
            let mut request = request.map(|body| Whole::new(body, arrived.clone()));
            request.extensions_mut().insert(peer.clone());
            request.extensions_mut().insert(arrived);
            direct::set_aside(&mut request);
            request
        });
        let connection = self.http().serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let mut connection = std::pin::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            // Old connections age out, so that a replaced certificate or authority takes effect for everybody.
            () = tokio::time::sleep(self.limits.connection_age()) => {
                connection.as_mut().graceful_shutdown();
                timeout(AGE_GRACE, connection).await.unwrap_or(Ok(()))
            }
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "connection ended");
        }
        Ok(())
    }

    fn http(&self) -> http2::Builder<TokioExecutor> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.limits.streams_per_connection)
            .initial_stream_window_size(self.limits.stream_window_bytes)
            .initial_connection_window_size(self.limits.connection_window_bytes)
            // Fewer, larger frames cost less per byte; each connection holds one while it arrives.
            .max_frame_size(256 << 10)
            .max_header_list_size(16 << 10)
            .max_pending_accept_reset_streams(Some(20))
            .max_send_buf_size(1 << 20)
            .keep_alive_interval(Some(Duration::from_secs(30)))
            .keep_alive_timeout(Duration::from_secs(10));
        builder
    }
}

/// One of an address's connections.
struct Place {
    shared: Arc<Shared>,
    neighbourhood: IpAddr,
}

impl Place {
    fn take(shared: &Arc<Shared>, address: IpAddr) -> Option<Self> {
        let neighbourhood = neighbourhood(address);
        let mut counts = shared.per_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(neighbourhood).or_default();
        if *count >= shared.limits.connections_per_address && !address.is_loopback() {
            return None;
        }
        *count += 1;
        Some(Self { shared: shared.clone(), neighbourhood })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.shared.per_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.neighbourhood) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.neighbourhood);
            }
        }
    }
}

/// What one party is taken to hold: an IPv4 address, or an IPv6 /56.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(long) => IpAddr::V6((u128::from(long) & (u128::MAX << 72)).into()),
    }
}

/// Binds a listening socket, with an error that says what to do.
pub(crate) async fn bind(what: &str, address: SocketAddr) -> Result<TcpListener, io::Error> {
    TcpListener::bind(address).await.map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("{what} cannot listen on {address}: {error}; choose another address or stop what uses it"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ipv6_party_cannot_multiply_itself() {
        let place = |text: &str| neighbourhood(text.parse().unwrap());
        assert_eq!(place("2001:db8:0:1200::1"), place("2001:db8:0:12ff:ffff::9"));
        assert_ne!(place("2001:db8:0:1200::1"), place("2001:db8:0:1300::1"));
        assert_ne!(place("10.0.0.1"), place("10.0.0.2"));
    }
}
