//! A TCP proxy that cuts its first connection after a number of bytes.

use std::net::SocketAddr;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Most bytes from the client and from the server on the first connection; later ones are not cut.
pub(crate) async fn proxy(server: SocketAddr, up: usize, down: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut limits = (up, down);
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let backend = TcpStream::connect(server).await.unwrap();
            tokio::spawn(carry(client, backend, limits));
            limits = (usize::MAX, usize::MAX);
        }
    });
    address
}

async fn carry(client: TcpStream, server: TcpStream, (up, down): (usize, usize)) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Whichever ends first takes the other with it.
    tokio::select! {
        () = copy(from_client, to_server, up) => {}
        () = copy(from_server, to_client, down) => {}
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut left: usize) {
    let mut buffer = [0; 4096];
    while left > 0 {
        let most = left.min(buffer.len());
        let Ok(length @ 1..) = from.read(&mut buffer[..most]).await else { return };
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
        left -= length;
    }
}
