//! The HTTP/2 preface, read under a time limit before anything else is spent on a connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// What every HTTP/2 client sends first (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose first bytes were read already.
#[derive(Debug)]
pub(super) struct Prefixed<S> {
    stream: S,
    unread: &'static [u8],
}

impl<S: AsyncRead + AsyncWrite + Unpin> Prefixed<S> {
    /// Reads the preface and hands it out again to whoever reads next.
    ///
    /// # Errors
    /// If the stream ends or begins with anything else.
    pub(super) async fn read_preface(mut stream: S) -> io::Result<Self> {
        let mut bytes = [0; PREFACE.len()];
        stream.read_exact(&mut bytes).await?;
        if bytes != *PREFACE {
            return Err(io::Error::other("not HTTP/2"));
        }
        Ok(Self { stream, unread: PREFACE })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let (now, later) = self.unread.split_at(self.unread.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.unread = later;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    #[tokio::test]
    async fn the_preface_is_read_again_by_whoever_comes_next() {
        let (mut near, far) = tokio::io::duplex(64);
        near.write_all(PREFACE).await.unwrap();
        near.write_all(b"rest").await.unwrap();
        drop(near);
        let mut stream = Prefixed::read_preface(far).await.unwrap();
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, [&PREFACE[..], b"rest"].concat());
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let (mut near, far) = tokio::io::duplex(64);
        near.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(Prefixed::read_preface(far).await.is_err());
    }
}
