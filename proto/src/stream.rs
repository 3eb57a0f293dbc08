//! Long byte strings in gRPC messages, without copying them.
//!
//! tonic's codec gathers a message before it is decoded, and copies one to encode it: twice 4 MB for every megabyte
//! that a client and a server exchange in a round of a million coordinates. A chunk is nearly all of its message, so
//! here its bytes stay where the connection put them, and leave from where the sender has them. What goes over the
//! wire is the same.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};
use testudo_protocol::limits;
use tokio_stream::Stream;
use tonic::Status;

use crate::framing::MESSAGE_BYTES;

/// Bytes before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// Longest variable-length number that a chunk's length may take.
const NUMBER_BYTES: usize = 5;

/// The message that chunks travel in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// [`Chunk`](crate::v1::Chunk): a model's bytes.
    Model,
    /// [`UploadRequest`](crate::v1::UploadRequest): an update's.
    Update,
}

impl Carrier {
    /// How the chunk's field begins: its number and "length-delimited".
    const fn key(self) -> u8 {
        match self {
            Self::Model => 1 << 3 | 2,
            Self::Update => 2 << 3 | 2,
        }
    }

    /// A chunk as a message, in two pieces: what precedes it, and itself.
    pub fn pieces(self, chunk: Bytes) -> [Bytes; 2] {
        let mut field = BytesMut::with_capacity(1 + NUMBER_BYTES);
        field.put_u8(self.key());
        prost::encoding::encode_varint(chunk.len() as u64, &mut field);
        let mut head = prefix(field.len() + chunk.len());
        head.unsplit(field);
        [head.freeze(), chunk]
    }
}

/// Any other message.
pub fn message(message: &impl prost::Message) -> Bytes {
    let mut bytes = prefix(message.encoded_len());
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes.freeze()
}

fn prefix(length: usize) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + 1 + NUMBER_BYTES);
    bytes.put_u8(0);
    bytes.put_u32(length as u32);
    bytes
}

/// A body made of pieces as they are.
#[derive(Debug)]
pub struct Outgoing<S> {
    pieces: S,
    trailers: Option<HeaderMap>,
}

impl<S> Outgoing<S> {
    /// A request's body.
    pub fn request(pieces: S) -> Self {
        Self { pieces, trailers: None }
    }

    /// A response's body, with the status OK at its end.
    pub fn response(pieces: S) -> Self {
        let mut trailers = HeaderMap::new();
        trailers.insert(Status::GRPC_STATUS, http::HeaderValue::from_static("0"));
        Self { pieces, trailers: Some(trailers) }
    }
}

impl<S: Stream<Item = Bytes> + Unpin> Body for Outgoing<S> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match Pin::new(&mut self.pieces).poll_next(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(piece)) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            Poll::Ready(None) => Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
        }
    }
}

/// What comes next in a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Some bytes of a chunk that is within its limit; never none.
    Chunk(Bytes),
    /// A whole message that does not have the form of such a chunk.
    Message(Bytes),
}

/// Reads a body piece by piece.
#[derive(Debug)]
pub struct Incoming<B> {
    body: B,
    reader: Reader,
}

impl<B> Incoming<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// A body whose chunks travel in these messages.
    pub fn new(carrier: Carrier, body: B) -> Self {
        Self { body, reader: Reader::new(carrier) }
    }

    /// Whether more of the chunk is to come whose piece was the last one.
    pub fn is_within_chunk(&self) -> bool {
        matches!(self.reader.state, State::Chunk(1..))
    }

    /// The next piece; `None` at the end. Can be cancelled without loss.
    ///
    /// # Errors
    /// The status of a connection that was lost, of a sender that says so at the end, and of messages that are too
    /// long, compressed or cut off: the same ones as the codec's.
    pub async fn next(&mut self) -> Result<Option<Piece>, Status> {
        loop {
            if let Some(piece) = self.reader.next()? {
                return Ok(Some(piece));
            }
            match poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await {
                None if self.reader.is_between() => return Ok(None),
                None => return Err(Status::internal("the stream ended within a message")),
                Some(Err(error)) => return Err(Status::from_error(error.into())),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.reader.frame = data,
                    Err(frame) => {
                        let status = frame.trailers_ref().and_then(Status::from_header_map);
                        if let Some(status) = status.filter(|status| status.code() != tonic::Code::Ok) {
                            return Err(status);
                        }
                    }
                },
            }
        }
    }
}

/// Finds messages in the frames of a body, which may be cut anywhere.
#[derive(Debug)]
struct Reader {
    key: u8,
    /// Not yet looked at.
    frame: Bytes,
    /// The prefix, and as much of the message as it takes to tell whether it is a chunk.
    head: Vec<u8>,
    state: State,
}

#[derive(Debug)]
enum State {
    Head,
    /// Bytes of a chunk still to come.
    Chunk(usize),
    /// A message of another form, and its length.
    Message(BytesMut, usize),
}

impl Reader {
    fn new(carrier: Carrier) -> Self {
        Self { key: carrier.key(), frame: Bytes::new(), head: Vec::new(), state: State::Head }
    }

    /// Whether the last message is complete.
    fn is_between(&self) -> bool {
        matches!(self.state, State::Head) && self.head.is_empty()
    }

    /// The next piece of the frame; `None` when all of it was read.
    fn next(&mut self) -> Result<Option<Piece>, Status> {
        loop {
            match &mut self.state {
                State::Head => {
                    if let Some(state) = self.judge()? {
                        self.head.clear();
                        self.state = state;
                        continue;
                    }
                    if self.frame.is_empty() {
                        return Ok(None);
                    }
                    self.head.push(self.frame.get_u8());
                }
                State::Chunk(0) => self.state = State::Head,
                State::Chunk(_) if self.frame.is_empty() => return Ok(None),
                State::Chunk(left) => {
                    let piece = self.frame.split_to(self.frame.len().min(*left));
                    *left -= piece.len();
                    return Ok(Some(Piece::Chunk(piece)));
                }
                State::Message(held, length) => {
                    let more = self.frame.split_to(self.frame.len().min(*length - held.len()));
                    held.extend_from_slice(&more);
                    if held.len() < *length {
                        return Ok(None);
                    }
                    let message = std::mem::take(held).freeze();
                    self.state = State::Head;
                    return Ok(Some(Piece::Message(message)));
                }
            }
        }
    }

    /// What the message is, once enough of it is there to tell.
    fn judge(&self) -> Result<Option<State>, Status> {
        let Some((prefix, start)) = self.head.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let [flag, length @ ..] = *prefix;
        let length = u32::from_be_bytes(length) as usize;
        match flag {
            0 if length <= MESSAGE_BYTES => {}
            0 => {
                let detail = format!("a message of {length} bytes, more than the limit of {MESSAGE_BYTES}");
                return Err(Status::out_of_range(detail));
            }
            1 => return Err(Status::unimplemented("a compressed message")),
            _ => return Err(Status::internal(format!("a message with the compression flag {flag}"))),
        }
        let other = || {
            let mut held = BytesMut::with_capacity(length);
            held.extend_from_slice(start);
            Ok(Some(State::Message(held, length)))
        };
        match start {
            _ if start.len() == length => other(),
            [] => Ok(None),
            [key, ..] if *key != self.key => other(),
            [_, number @ ..] => {
                let ended = number.last().is_some_and(|byte| byte & 0x80 == 0);
                if !ended && number.len() < NUMBER_BYTES {
                    return Ok(None);
                }
                let chunk = number.iter().rev().fold(0, |value, &byte| value << 7 | u64::from(byte & 0x7f));
                let whole = ended && chunk == (length - start.len()) as u64;
                match whole && (1..=limits::CHUNK_BYTES as u64).contains(&chunk) {
                    true => Ok(Some(State::Chunk(chunk as usize))),
                    false => other(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
