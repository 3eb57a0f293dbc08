use super::*;
use crate::v1::{Chunk, UploadHeader, UploadRequest, upload_request::Part};
use proptest::prelude::*;
use prost::Message as _;

/// Everything a reader makes of a body that is cut into frames of `cut` bytes; chunks are put together again.
fn read(carrier: Carrier, body: &[u8], cut: usize) -> Result<Vec<Piece>, Status> {
    let mut reader = Reader::new(carrier);
    let mut pieces: Vec<Piece> = Vec::new();
    for frame in body.chunks(cut) {
        reader.frame = Bytes::copy_from_slice(frame);
        while let Some(piece) = reader.next()? {
            pieces.push(piece);
        }
    }
    assert!(reader.next()?.is_none());
    match reader.is_between() {
        true => Ok(pieces),
        false => Err(Status::internal("cut off")),
    }
}

fn bytes_of(pieces: &[Piece]) -> Vec<u8> {
    let bytes = pieces.iter().map(|piece| match piece {
        Piece::Chunk(bytes) => bytes.to_vec(),
        Piece::Message(_) => panic!("a message"),
    });
    bytes.collect::<Vec<_>>().concat()
}

fn update(part: Part) -> UploadRequest {
    UploadRequest { part: Some(part) }
}

proptest! {
    #[test]
    fn a_chunk_is_what_the_codec_makes_of_it_however_it_is_cut(
        data in prop::collection::vec(any::<u8>(), 1..400), cut in 1usize..50
    ) {
        let data = Bytes::from(data);
        for (carrier, encoded) in [
            (Carrier::Model, message(&Chunk { data: data.clone() })),
            (Carrier::Update, message(&update(Part::Chunk(data.clone())))),
        ] {
            prop_assert_eq!(&carrier.pieces(data.clone()).concat(), &encoded);
            let twice = [&encoded[..], &encoded[..]].concat();
            prop_assert_eq!(bytes_of(&read(carrier, &twice, cut).unwrap()), data.repeat(2));
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(body in prop::collection::vec(any::<u8>(), 0..60), cut in 1usize..9) {
        let _ = read(Carrier::Update, &body, cut);
    }

    #[test]
    fn any_message_is_read_as_the_codec_would(body in prop::collection::vec(any::<u8>(), 0..60), cut in 1usize..9) {
        let framed = [&prefix(body.len())[..], &body[..]].concat();
        let pieces = read(Carrier::Update, &framed, cut).unwrap();
        match pieces.first() {
            Some(Piece::Message(found)) => prop_assert_eq!(&found[..], &body[..]),
            _ => {
                let expected = UploadRequest::decode(&body[..]).unwrap().part;
                prop_assert_eq!(expected, Some(Part::Chunk(bytes_of(&pieces).into())));
            }
        }
    }
}

#[test]
fn whatever_is_no_chunk_comes_whole() {
    let header = update(Part::Header(UploadHeader { total_bytes: 7, ..UploadHeader::default() }));
    let empty = update(Part::Chunk(Bytes::new()));
    let oversize = update(Part::Chunk(vec![0; limits::CHUNK_BYTES + 1].into()));
    // A field of a later version behind the chunk.
    let longer = [&update(Part::Chunk(Bytes::from_static(&[5; 9]))).encode_to_vec()[..], &[0x50, 1]].concat();
    for body in [header.encode_to_vec(), empty.encode_to_vec(), oversize.encode_to_vec(), longer, Vec::new()] {
        let framed = [&prefix(body.len())[..], &body[..]].concat();
        for cut in [1, 3, 1 << 20] {
            assert_eq!(read(Carrier::Update, &framed, cut).unwrap(), [Piece::Message(body.clone().into())]);
        }
    }
}

#[test]
fn messages_over_the_limit_and_compressed_ones_are_refused_at_their_prefix() {
    let long = prefix(MESSAGE_BYTES + 1);
    assert_eq!(read(Carrier::Update, &long, 9).unwrap_err().code(), tonic::Code::OutOfRange);
    assert_eq!(read(Carrier::Update, &[1, 0, 0, 0, 1], 9).unwrap_err().code(), tonic::Code::Unimplemented);
    assert_eq!(read(Carrier::Update, &[7, 0, 0, 0, 1], 9).unwrap_err().code(), tonic::Code::Internal);
}

#[test]
fn a_body_that_ends_within_a_message_is_not_whole() {
    let whole = Carrier::Update.pieces(Bytes::from_static(&[1; 40])).concat();
    for length in 1..whole.len() {
        assert!(read(Carrier::Update, &whole[..length], 11).is_err(), "{length}");
    }
}
