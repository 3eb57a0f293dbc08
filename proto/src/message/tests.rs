use super::*;
use proptest::prelude::*;
use prost::Message as _;
use testudo_protocol::{ClientId, Tensor};

fn assignment() -> Assignment {
    Assignment {
        task: TaskName::new("task").unwrap(),
        round: 3,
        nonce: Nonce([5; 16]),
        model_digest: Digest([6; 32]),
        model_bytes: 100,
        layout: Layout::new(vec![Tensor { name: "w".into(), shape: vec![2, 3] }]).unwrap(),
        time_left: Duration::from_millis(1500),
        chunk_bytes: 64,
        max_examples: 10,
        rule: "median".into(),
        masking: Masking::None,
        group_size: 1,
        announcement: Bytes::from_static(b"announced"),
        encodings: vec![Encoding::F32, Encoding::Int8],
        own_noise: Some(OwnNoise { clip_l2: 0.5, grid_bits: 24, sigma_grid: 1 << 26 }),
    }
}

fn header(total_bytes: u64, offset: u64) -> UploadHeader {
    UploadHeader {
        place: Place {
            task: TaskName::new("task").unwrap(),
            round: 3,
            client: ClientId::new("c").unwrap(),
            nonce: Nonce([5; 16]),
        },
        model_digest: Digest([6; 32]),
        digest: Digest([7; 32]),
        total_bytes,
        offset,
        num_examples: -4,
        tensors: vec![v1::Tensor { name: "w".into(), dtype: "F32".into(), shape: vec![2, 3] }],
        encoding: Encoding::Sparse,
    }
}

fn limited(why: NotNowWhy, next_round: Option<u64>) -> Answer {
    let limit = SeatLimit { participations: 3, separation: 4, next_round };
    Answer::NotNow { retry_after: Duration::from_secs(1), why, limit: Some(limit) }
}

#[test]
fn answers_come_back_as_they_went() {
    for answer in [
        Answer::Assignment(Box::new(assignment())),
        Answer::not_now(Duration::from_millis(20), NotNowWhy::Served),
        limited(NotNowWhy::TooSoon, Some(7)),
        limited(NotNowWhy::LimitReached, None),
        Answer::Ended { why: EndedWhy::Stopped },
    ] {
        let bytes = answer.to_wire(Vec::new()).encode_to_vec();
        let wire = v1::CheckInResponse::decode(bytes.as_slice()).unwrap();
        assert_eq!(Answer::from_wire(wire.answer), Ok(answer));
    }
    assert_eq!(Answer::from_wire(None).unwrap_err().reason, Reason::Malformed);
}

#[test]
fn a_word_of_a_later_version_does_not_break_an_answer() {
    let wire =
        v1::check_in_response::Answer::NotNow(v1::NotNow { retry_after_ms: 1, why: "eclipse".into(), limit: None });
    let expected = Answer::not_now(Duration::from_millis(1), NotNowWhy::Unknown);
    assert_eq!(Answer::from_wire(Some(wire)), Ok(expected));
}

#[test]
fn impossible_assignments_are_refused_with_the_field() {
    type Spoil = fn(&mut v1::Assignment);
    let cases: [(Spoil, &str); 11] = [
        (|wire| wire.task = "Not A Name".into(), "task"),
        (|wire| wire.nonce = Bytes::new(), "nonce"),
        (|wire| wire.model_digest = Bytes::from_static(b"x"), "model_digest"),
        (|wire| wire.model_bytes = u64::MAX, "model is"),
        (|wire| wire.chunk_bytes = 0, "chunk_bytes"),
        (|wire| wire.chunk_bytes = u32::MAX, "chunk_bytes"),
        (|wire| wire.tensors.clear(), "coordinates"),
        (|wire| wire.own_noise.as_mut().unwrap().clip_l2 = f64::NAN, "own_noise.clip_l2"),
        (|wire| wire.own_noise.as_mut().unwrap().grid_bits = 32, "own_noise.grid_bits"),
        (|wire| wire.own_noise.as_mut().unwrap().sigma_grid = 0, "own_noise.sigma_grid"),
        (|wire| wire.own_noise.as_mut().unwrap().sigma_grid = u64::MAX, "own_noise.sigma_grid"),
    ];
    for (spoil, part) in cases {
        let mut wire = assignment().to_wire();
        spoil(&mut wire);
        let reject = Assignment::from_wire(wire).unwrap_err();
        assert!(reject.detail.contains(part), "{reject}");
    }
}

#[test]
fn upload_parts_come_back_as_they_went() {
    for part in [UploadPart::Header(Box::new(header(24, 8))), UploadPart::Chunk(Bytes::from_static(b"abcd"))] {
        assert_eq!(UploadPart::from_wire(part.clone().to_wire()), Ok(part));
    }
    assert_eq!(header(24, 0).check_layout(&assignment().layout), Ok(()));
}

#[test]
fn impossible_upload_parts_are_refused() {
    let reason = |part: UploadPart| UploadPart::from_wire(part.to_wire()).unwrap_err().reason;
    assert_eq!(reason(UploadPart::Header(Box::new(header(8, 9)))), Reason::WrongOffset);
    assert_eq!(reason(UploadPart::Header(Box::new(header(u64::MAX, 0)))), Reason::Oversize);
    assert_eq!(reason(UploadPart::Chunk(Bytes::new())), Reason::Malformed);
    assert_eq!(reason(UploadPart::Chunk(vec![0; limits::CHUNK_BYTES + 1].into())), Reason::Oversize);
    assert_eq!(UploadPart::from_wire(v1::UploadRequest { part: None }).unwrap_err().reason, Reason::Malformed);
}

#[test]
fn receipts_come_back_as_they_went() {
    let receipt = Receipt {
        task: TaskName::new("task").unwrap(),
        round: 3,
        digest: Digest([1; 32]),
        num_examples: 9,
        received_at_ms: 77,
    };
    assert_eq!(Receipt::from_wire(receipt.to_wire()), Ok(receipt));
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_read_or_refused_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(wire) = v1::UploadRequest::decode(bytes.as_slice()) {
            let _ = UploadPart::from_wire(wire);
        }
        if let Ok(wire) = v1::CheckInResponse::decode(bytes.as_slice()) {
            let _ = Answer::from_wire(wire.answer);
        }
        if let Ok(wire) = v1::UploadReceipt::decode(bytes.as_slice()) {
            let _ = Receipt::from_wire(wire);
        }
        if let Ok(wire) = v1::CreateTaskRequest::decode(bytes.as_slice()) {
            let _ = crate::CreateTaskPart::from_wire(wire);
        }
    }

    /// One bit turned in a valid message reaches deeper than arbitrary bytes do.
    #[test]
    fn a_damaged_message_is_read_or_refused_and_never_panics(at in any::<proptest::sample::Index>(), bit in 0u8..8) {
        let mut upload = UploadPart::Header(Box::new(header(24, 8))).to_wire().encode_to_vec();
        let position = at.index(upload.len());
        upload[position] ^= 1 << bit;
        if let Ok(wire) = v1::UploadRequest::decode(upload.as_slice()) {
            let _ = UploadPart::from_wire(wire);
        }
        let mut answer = Answer::Assignment(Box::new(assignment())).to_wire(Vec::new()).encode_to_vec();
        let position = at.index(answer.len());
        answer[position] ^= 1 << bit;
        if let Ok(wire) = v1::CheckInResponse::decode(answer.as_slice()) {
            let _ = Answer::from_wire(wire.answer);
        }
    }
}
