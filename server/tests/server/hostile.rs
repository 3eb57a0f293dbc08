//! Hostile and broken clients over real sockets: each is refused alone, with its reason, and the round goes on.

use crate::common::*;
use bytes::Bytes;
use futures::future::join_all;
use std::time::Duration;
use testudo_proto::{Answer, UploadPart, framing, v1};
use testudo_protocol::{ClientId, Digest, Nonce, Reason};
use tokio::io::AsyncReadExt;
use tonic::{Code, Status, transport::Channel};
use tower::{Service as _, ServiceExt as _};

const MEAN: &str = "kind = \"mean\"";

/// What a hostile client sends, and the reason it must be refused with.
struct Case {
    name: &'static str,
    reason: Reason,
    parts: fn(&Seat) -> Vec<v1::UploadRequest>,
}

/// An honest payload under a changed header.
fn with_header(seat: &Seat, change: impl FnOnce(&mut testudo_proto::UploadHeader)) -> Vec<v1::UploadRequest> {
    seat.parts(&seat.payload(), change)
}

fn with_tensors(seat: &Seat, change: impl FnOnce(&mut Vec<v1::Tensor>)) -> Vec<v1::UploadRequest> {
    with_header(seat, |header| change(&mut header.tensors))
}

const CASES: &[Case] = &[
    Case { name: "nan", reason: Reason::NonFinite, parts: |seat| with_value(seat, f32::NAN, 3) },
    Case { name: "plus-inf", reason: Reason::NonFinite, parts: |seat| with_value(seat, f32::INFINITY, 0) },
    Case { name: "minus-inf", reason: Reason::NonFinite, parts: |seat| with_value(seat, f32::NEG_INFINITY, 19) },
    Case { name: "huge", reason: Reason::Magnitude, parts: |seat| with_value(seat, 1e38, 5) },
    Case { name: "over-the-cap", reason: Reason::Magnitude, parts: |seat| with_value(seat, 101.0, 5) },
    Case { name: "wrong-name", reason: Reason::WrongShape, parts: |s| with_tensors(s, |t| t[0].name = "x".into()) },
    Case {
        name: "wrong-shape",
        reason: Reason::WrongShape,
        parts: |s| with_tensors(s, |t| t[0].shape = vec![4, 4, 1]),
    },
    Case { name: "transposed", reason: Reason::WrongShape, parts: |s| with_tensors(s, |t| t[0].shape.reverse()) },
    Case {
        name: "vast-shape",
        reason: Reason::WrongShape,
        parts: |s| with_tensors(s, |t| t[0].shape = vec![1 << 63; 2]),
    },
    Case {
        name: "deep-shape",
        reason: Reason::WrongShape,
        parts: |s| with_tensors(s, |t| t[0].shape = vec![1; 10_000]),
    },
    Case { name: "missing-tensor", reason: Reason::WrongShape, parts: |s| with_tensors(s, |t| drop(t.pop())) },
    Case { name: "no-tensors", reason: Reason::WrongShape, parts: |s| with_tensors(s, Vec::clear) },
    Case { name: "extra-tensor", reason: Reason::WrongShape, parts: |s| with_tensors(s, |t| t.push(t[0].clone())) },
    Case { name: "swapped-tensors", reason: Reason::WrongShape, parts: |s| with_tensors(s, |t| t.reverse()) },
    Case {
        name: "many-tensors",
        reason: Reason::WrongShape,
        parts: |s| {
            with_tensors(s, |t| {
                *t = vec![v1::Tensor { name: "t".into(), dtype: "F32".into(), shape: vec![1] }; 100_000]
            })
        },
    },
    Case { name: "f64", reason: Reason::WrongDtype, parts: |s| with_tensors(s, |t| t[1].dtype = "F64".into()) },
    Case {
        name: "control-dtype",
        reason: Reason::WrongDtype,
        parts: |s| with_tensors(s, |t| t[1].dtype = "\u{1b}[31m\nF32".into()),
    },
    Case {
        name: "many-examples",
        reason: Reason::Examples,
        parts: |s| with_header(s, |h| h.num_examples = 1_000_000_000_000_000),
    },
    Case { name: "no-examples", reason: Reason::Examples, parts: |s| with_header(s, |h| h.num_examples = 0) },
    Case { name: "negative-examples", reason: Reason::Examples, parts: |s| with_header(s, |h| h.num_examples = -5) },
    Case { name: "least-examples", reason: Reason::Examples, parts: |s| with_header(s, |h| h.num_examples = i64::MIN) },
    Case {
        name: "wrong-model",
        reason: Reason::WrongModel,
        parts: |s| with_header(s, |h| h.model_digest = Digest([7; 32])),
    },
    Case {
        name: "wrong-digest",
        reason: Reason::DigestMismatch,
        parts: |s| with_header(s, |h| h.digest = Digest([7; 32])),
    },
    Case { name: "announced-too-few", reason: Reason::Truncated, parts: |s| with_header(s, |h| h.total_bytes -= 4) },
    Case { name: "announced-too-many", reason: Reason::Oversize, parts: |s| with_header(s, |h| h.total_bytes += 4) },
    Case { name: "announced-absurd", reason: Reason::Oversize, parts: |s| with_header(s, |h| h.total_bytes = 1 << 62) },
    Case {
        name: "ends-early",
        reason: Reason::Truncated,
        parts: |seat| {
            let payload = seat.payload();
            let mut parts = seat.parts(&payload, |_| {});
            parts.truncate(1);
            parts.push(chunk(payload.slice(..payload.len() - 3)));
            parts
        },
    },
    Case { name: "only-a-header", reason: Reason::Truncated, parts: |seat| with_header(seat, |_| {})[..1].to_vec() },
    Case {
        name: "goes-on",
        reason: Reason::Oversize,
        parts: |seat| {
            let mut parts = with_header(seat, |_| {});
            parts.push(chunk(Bytes::from_static(b"x")));
            parts
        },
    },
    Case {
        name: "second-header",
        reason: Reason::Malformed,
        parts: |seat| {
            let parts = with_header(seat, |_| {});
            vec![parts[0].clone(), parts[0].clone(), parts[1].clone()]
        },
    },
    Case {
        name: "empty-chunk",
        reason: Reason::Malformed,
        parts: |seat| {
            let parts = with_header(seat, |_| {});
            vec![parts[0].clone(), chunk(Bytes::new()), parts[1].clone()]
        },
    },
    Case {
        name: "empty-message",
        reason: Reason::Malformed,
        parts: |seat| {
            let parts = with_header(seat, |_| {});
            vec![parts[0].clone(), v1::UploadRequest { part: None }, parts[1].clone()]
        },
    },
    Case {
        name: "long-chunk",
        reason: Reason::Oversize,
        parts: |seat| {
            let parts = with_header(seat, |_| {});
            vec![parts[0].clone(), chunk(vec![0; (1 << 20) + 1].into())]
        },
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn every_broken_update_is_refused_alone_with_its_reason_in_the_record() {
    // Every client's check-in is held at once on the one connection.
    let host = Host::with(|config| config.limits.streams_per_connection = 200).await;
    let honest = ["honest-1", "honest-2", "honest-3"];
    let clients: Vec<&str> = CASES.iter().map(|case| case.name).chain(honest).collect();
    let cohort = format!("size = {}\nminimum = 3\nphase_limit_s = 15.0", clients.len());
    let toml = task_toml("besieged", 1, &cohort, MEAN, "[encoding]\nmax_l2 = 100.0");
    let model = small_model(5);
    host.create(&toml, &model).await;
    let seats = host.seats("besieged", &clients).await;
    let attacks = CASES.iter().zip(&seats).map(|(case, seat)| async move {
        let found = reason(seat.send((case.parts)(seat)).await);
        // A refused client has had its one update of this round.
        let again = seat.submit().await;
        (case.name, found, again.map(|_| ()).map_err(|status| status.code()))
    });
    let mut wrong = Vec::new();
    for ((name, found, again), case) in join_all(attacks).await.into_iter().zip(CASES) {
        if found != case.reason {
            wrong.push(format!("{name}: {found:?} instead of {:?}", case.reason));
        }
        if again != Err(Code::AlreadyExists) {
            wrong.push(format!("{name}: its second update was answered {again:?}"));
        }
    }
    for seat in &seats[CASES.len()..] {
        seat.submit().await.unwrap();
    }
    let record = host.ended("besieged", 1).await;
    for case in CASES {
        let found = verdict(&record, case.name);
        if found != format!("rejected {}", case.reason.code()) {
            wrong.push(format!("{}: the record says {found:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!((record.state.as_str(), record.accepted), ("released", 3));
    assert!(record.clients.iter().all(|row| row.detail.chars().all(|letter| !letter.is_control())), "raw controls");
    let mut reference = Reference::new(&toml, model);
    let row = vec![0.25; reference.model.parameters().len()];
    reference.apply(&[row.clone(), row.clone(), row], Some(&[5.0; 3]));
    assert_eq!(host.model("besieged").await.digest(), reference.model.digest());
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_belong_to_no_place_change_nothing() {
    let host = Host::start().await;
    host.create(&task_toml("places", 2, "size = 3", MEAN, ""), &small_model(4)).await;
    let first = host.seats("places", &["a", "b", "c"]).await;
    let replay = first[0].parts(&first[0].payload(), |_| {});
    for seat in &first {
        seat.submit().await.unwrap();
    }
    host.ended("places", 1).await;
    let seats = host.seats("places", &["a", "b", "c"]).await;
    let [a, b, c] = &seats[..] else { panic!() };
    // An upload of an earlier round, byte by byte, and under this round's number.
    assert_eq!(reason(a.send(replay).await), Reason::Late);
    let renumbered = Seat { place: testudo_proto::Place { round: 2, ..first[0].place.clone() }, ..first[0].clone() };
    assert_eq!(reason(renumbered.submit().await), Reason::NotInCohort);
    // Somebody else's place, and a guessed one.
    let stolen = |place| Seat { place, ..a.clone() };
    let theirs = testudo_proto::Place { nonce: a.place.nonce, ..b.place.clone() };
    let guessed = testudo_proto::Place { nonce: Nonce([0; 16]), ..b.place.clone() };
    let stranger = testudo_proto::Place { client: ClientId::new("stranger").unwrap(), ..a.place.clone() };
    for place in [theirs, guessed, stranger] {
        let seat = stolen(place);
        assert_eq!(reason(seat.submit().await), Reason::NotInCohort);
        assert_eq!(reason(seat.withdraw().await), Reason::NotInCohort);
        assert_eq!(reason(seat.status(Digest::of(b"x")).await), Reason::NotInCohort);
        // A broken update in another's name does not cost that one its place.
        assert!(seat.send(with_value(&seat, f32::NAN, 0)).await.is_err());
        assert!(seat.send(with_header(&seat, |header| header.total_bytes = 1 << 62)).await.is_err());
    }
    for (round, expected) in
        [(0, Reason::WrongRound), (1, Reason::Late), (3, Reason::WrongRound), (u64::MAX, Reason::WrongRound)]
    {
        let seat = stolen(testudo_proto::Place { round, ..a.place.clone() });
        assert_eq!(reason(seat.submit().await), expected, "round {round}");
    }
    let nowhere = testudo_protocol::TaskName::new("nowhere").unwrap();
    assert_eq!(
        reason(stolen(testudo_proto::Place { task: nowhere, ..a.place.clone() }).submit().await),
        Reason::NotFound
    );
    // A stream without a header, or from an offset the server does not hold, may be tried again.
    assert_eq!(reason(a.send(vec![chunk(a.payload())]).await), Reason::Malformed);
    assert_eq!(reason(a.send(Vec::new()).await), Reason::Malformed);
    assert_eq!(reason(a.send(with_header(a, |header| header.offset = 4)).await), Reason::WrongOffset);
    // The same update again has the same receipt; another one is refused.
    let receipt = a.submit().await.unwrap();
    assert_eq!(a.submit().await.unwrap(), receipt);
    let held = a.status(Digest::of(&a.payload())).await.unwrap();
    assert_eq!(held.receipt, Some(receipt));
    let other = a.parts(&framing::payload(&vec![0.5; a.dimension()]), |_| {});
    let status = a.send(other).await.unwrap_err();
    assert_eq!((status.code(), reason::<()>(Err(status))), (Code::AlreadyExists, Reason::Duplicate));
    assert_eq!(reason(a.withdraw().await), Reason::Duplicate);
    b.submit().await.unwrap();
    c.submit().await.unwrap();
    let record = host.ended("places", 2).await;
    assert_eq!((record.state.as_str(), record.accepted, record.rejected), ("released", 3, 0));
    host.stop().await;
}

/// A raw call: any bytes as the request's body. Returns the status.
async fn raw(channel: &Channel, path: &str, body: Vec<u8>, encoding: Option<&str>) -> Status {
    let mut request = http::Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    let request = request.body(tonic::body::Body::new(axum::body::Body::from(body))).unwrap();
    let mut channel = channel.clone();
    let answer = async { channel.ready().await.unwrap().call(request).await };
    let response = match within("a raw call", answer).await {
        Ok(response) => response,
        Err(error) => return Status::unavailable(error.to_string()),
    };
    Status::from_header_map(response.headers()).unwrap_or_else(|| Status::ok(""))
}

/// A gRPC message's frame.
fn frame(flag: u8, announced: u32, body: &[u8]) -> Vec<u8> {
    [&[flag][..], &announced.to_be_bytes(), body].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn message_bombs_compressed_messages_and_garbage_are_refused() {
    let host = Host::start().await;
    host.create(&task_toml("bombed", 1, "size = 2", MEAN, ""), &small_model(4)).await;
    let seats = host.seats("bombed", &["a", "b"]).await;
    let server = |host: &Host| host.admin.clone();
    let before = server(&host).get_server(v1::GetServerRequest {}).await.unwrap().into_inner().resident_bytes;
    let (upload, check_in_path) = ("/testudo.v1.Federation/Upload", "/testudo.v1.Federation/CheckIn");
    for path in [upload, check_in_path, "/testudo.v1.Admin/CreateTask"] {
        let bomb = raw(&host.channel, path, frame(0, 1 << 30, &[0; 1000]), None).await;
        assert!(matches!(bomb.code(), Code::OutOfRange | Code::ResourceExhausted), "{path}: {bomb:?}");
        let zipped = raw(&host.channel, path, frame(1, 10, &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0]), Some("gzip")).await;
        assert!(matches!(zipped.code(), Code::Unimplemented | Code::ResourceExhausted), "{path}: {zipped:?}");
        // Bad UTF-8 in the first field, a field that says it is longer than the message, an endless varint.
        for garbage in [&[0x0a, 2, 0xff, 0xfe][..], &[0x0a, 0x7f, 1], &[0xff; 40], &[0x0b; 500]] {
            let status = raw(&host.channel, path, frame(0, garbage.len() as u32, garbage), None).await;
            assert!(matches!(status.code(), Code::Internal | Code::InvalidArgument), "{path} {garbage:?}: {status:?}");
        }
        let cut = raw(&host.channel, path, frame(0, 100, &[0; 10]), None).await;
        assert_ne!(cut.code(), Code::Ok, "{path}: a frame cut short");
    }
    // A message of 8 MB sent in full.
    let long = seats[0].send(vec![chunk(vec![0; 8 << 20].into())]).await.unwrap_err();
    assert!(
        matches!(
            long.code(),
            Code::OutOfRange
                | Code::ResourceExhausted
                | Code::Cancelled
                | Code::Unavailable
                | Code::Unknown
                | Code::Internal
        ),
        "{long:?}"
    );
    assert_eq!(
        raw(&host.channel, "/testudo.v1.Federation/Nothing", Vec::new(), None).await.code(),
        Code::Unimplemented
    );
    let after = server(&host).get_server(v1::GetServerRequest {}).await.unwrap().into_inner().resident_bytes;
    assert!(after < before + (256 << 20), "announced gigabytes were not allocated: {before} to {after}");
    for seat in &seats {
        seat.submit().await.unwrap();
    }
    assert_eq!(host.ended("bombed", 1).await.accepted, 2);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_with_anything_but_small_letters_are_refused_everywhere() {
    let host = Host::start().await;
    host.create(&task_toml("named", 1, "size = 2", MEAN, ""), &small_model(4)).await;
    let long = "a".repeat(64);
    let endless = "a".repeat(1 << 20);
    for name in ["", "A", "../named", "a/b", "a\nb", "a|b", "\u{1b}[2J", "a\0", "ä", "-a", ".a", &long, &endless] {
        let stub = host.federation();
        for (task, client) in [(name, "a"), ("named", name)] {
            let status = check_in(&stub, task, client, 0).await.unwrap_err();
            assert!(status.message().chars().all(|letter| !letter.is_control()), "{:?}", status.message());
            assert_eq!(reason::<()>(Err(status)), Reason::Malformed, "{name:?}");
        }
        let request = v1::GetRoundRequest { task: name.into(), round: 1 };
        assert_eq!(reason(host.admin.clone().get_round(request).await), Reason::Malformed);
        let toml = task_toml(name, 1, "size = 2", MEAN, "");
        let created = reason(host.try_create(&toml, &small_model(1)).await);
        assert_eq!(created, if name.len() > 1000 { Reason::Oversize } else { Reason::Spec });
    }
    let download =
        |model_digest: Bytes, offset| v1::DownloadModelRequest { task: "named".into(), model_digest, offset };
    let digest = host.task("named").await.model_digest;
    let mut stub = host.federation();
    assert_eq!(reason(stub.download_model(download(Bytes::new(), 0)).await), Reason::Malformed);
    assert_eq!(reason(stub.download_model(download(vec![7; 32].into(), 0)).await), Reason::WrongModel);
    assert_eq!(reason(stub.download_model(download(digest, u64::MAX)).await), Reason::WrongOffset);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_uploads_give_their_memory_back_and_honest_clients_finish() {
    let host = Host::with(|config| {
        config.limits.upload_idle_s = 0.5;
        // Room for eight of these uploads at a time.
        config.limits.upload_memory_bytes = 8 * 64 * 1024;
        config.limits.streams_per_connection = 200;
    })
    .await;
    let honest = names(8);
    let silent: Vec<String> = (0..64).map(|number| format!("silent-{number}")).collect();
    let clients: Vec<&str> = silent.iter().chain(&honest).map(String::as_str).collect();
    let cohort = "size = 8\nover_selection = 9.0\nminimum = 8\nphase_limit_s = 18.0";
    host.create(&task_toml("silent", 1, cohort, MEAN, ""), &small_model(4095)).await;
    let seats = host.seats("silent", &clients).await;
    let mut held = Vec::new();
    for seat in &seats[..64] {
        let (sender, call) = open_upload(seat);
        sender.send(seat.parts(&seat.payload(), |_| {})[0].clone()).await.unwrap();
        held.push((sender, call));
    }
    let honest = seats[64..].iter().map(|seat| seat.submit());
    for receipt in join_all(honest).await {
        receipt.unwrap();
    }
    assert_eq!(host.ended("silent", 1).await.accepted, 8);
    for (sender, call) in held {
        let reason = reason(within("the end of a silent upload", call).await.unwrap());
        assert!(matches!(reason, Reason::TooSlow | Reason::Late | Reason::Withdrawn), "{reason:?}");
        drop(sender);
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_sender_is_told_so_and_holds_up_nobody() {
    let host = Host::with(|config| config.limits.upload_idle_s = 0.3).await;
    host.create(&task_toml("slow", 1, "size = 2\nover_selection = 1.5", MEAN, ""), &small_model(4)).await;
    let seats = host.seats("slow", &["a", "b", "slow"]).await;
    let (sender, call) = open_upload(&seats[2]);
    let parts = seats[2].parts(&seats[2].payload(), |_| {});
    sender.send(parts[0].clone()).await.unwrap();
    sender.send(chunk(seats[2].payload().slice(..3))).await.unwrap();
    assert_eq!(reason(within("the slow upload", call).await.unwrap()), Reason::TooSlow);
    // What had arrived is kept: the client may go on.
    assert_eq!(seats[2].status(Digest::of(&seats[2].payload())).await.unwrap().offset, 3);
    seats[0].submit().await.unwrap();
    seats[1].submit().await.unwrap();
    assert_eq!(host.ended("slow", 1).await.accepted, 2);
    drop(sender);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_says_nothing_is_closed() {
    let host = Host::with(|config| config.limits.handshake_s = 0.3).await;
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(tokio::net::TcpStream::connect(host.server.address()).await.unwrap());
    }
    for mut stream in silent {
        let read = within("the close", stream.read(&mut [0; 1])).await;
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_cap_are_closed_and_the_others_live() {
    let host = Host::with(|config| config.limits.connections = 8).await;
    host.create(&task_toml("crowd", 1, "size = 2", MEAN, ""), &small_model(4)).await;
    let mut crowd = Vec::new();
    for _ in 0..40 {
        crowd.push(tokio::net::TcpStream::connect(host.server.address()).await.unwrap());
    }
    let mut closed = 0;
    for stream in &mut crowd {
        // An admitted connection is greeted with the server's settings or stays silent; a refused one ends.
        let read = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut [0; 1])).await;
        closed += usize::from(matches!(read, Ok(Ok(0) | Err(_))));
    }
    assert!((33..=40).contains(&closed), "{closed} of 40 closed");
    for seat in host.seats("crowd", &["a", "b"]).await {
        seat.submit().await.unwrap();
    }
    assert_eq!(host.ended("crowd", 1).await.accepted, 2);
    drop(crowd);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_order_of_calls_ends_in_an_unknown_or_internal_status() {
    for seed in [1, 2] {
        let host = Host::start().await;
        let cohort = "size = 3\nover_selection = 1.4\nminimum = 1\nphase_limit_s = 0.4";
        host.create(&task_toml("random", 1000, cohort, MEAN, ""), &small_model(4)).await;
        let clients = ["a", "b", "c", "d", "e", "f"];
        let mut random = Random(seed);
        let mut seats: Vec<Seat> = Vec::new();
        let mut codes = Vec::new();
        for step in 0..200 {
            if seats.is_empty() || random.below(8) == 0 {
                let calls = clients.map(|client| {
                    let stub = host.federation();
                    async move { (client, check_in(&stub, "random", client, 100).await) }
                });
                for (client, answer) in join_all(calls).await {
                    match answer {
                        Ok((Answer::Assignment(assignment), _)) => seats.push(Seat {
                            place: testudo_proto::Place {
                                task: assignment.task.clone(),
                                round: assignment.round,
                                client: ClientId::new(client).unwrap(),
                                nonce: assignment.nonce,
                            },
                            assignment: *assignment,
                            stub: host.federation(),
                        }),
                        Ok(_) => {}
                        Err(status) => codes.push((step, status)),
                    }
                }
                continue;
            }
            let at = random.below(seats.len());
            let mut seat = seats[at].clone();
            let result = match random.below(10) {
                0..3 => seat.submit().await.map(drop),
                3 => seat.withdraw().await,
                4 => seat.status(Digest::of(&seat.payload())).await.map(drop),
                5 => {
                    let case = &CASES[random.below(CASES.len())];
                    seat.send((case.parts)(&seat)).await.map(drop)
                }
                6 => {
                    seat.place.round = random.below(20) as u64;
                    seat.submit().await.map(drop)
                }
                7 => host.control("random", ["pause", "resume", "resume"][random.below(3)]).await.map(drop),
                8 => {
                    let round = random.below(9) as u64;
                    let request = v1::GetRoundRequest { task: "random".into(), round };
                    host.admin.clone().get_round(request).await.map(drop)
                }
                _ => host.model_file("random", random.below(9) as u64, random.below(2) == 0).await.map(drop),
            };
            if let Err(status) = result {
                codes.push((step, status));
            }
            if random.below(3) == 0 {
                seats.swap_remove(at);
            }
        }
        for (step, status) in &codes {
            assert!(
                testudo_proto::from_status(status).is_some(),
                "seed {seed}, step {step}: {:?} {} without a reason",
                status.code(),
                status.message()
            );
            assert!(!matches!(status.code(), Code::Unknown | Code::Internal), "seed {seed}, step {step}: {status:?}");
        }
        assert!(codes.len() > 20, "the calls were not hostile enough");
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_stream_of_the_same_client_takes_over_from_a_stuck_one() {
    let host = Host::start().await;
    host.create(&task_toml("twins", 1, "size = 2", MEAN, ""), &small_model(4)).await;
    let seats = host.seats("twins", &["a", "b"]).await;
    let (sender, stuck) = open_upload(&seats[0]);
    let part = UploadPart::Header(Box::new(seats[0].header(&seats[0].payload()))).to_wire();
    sender.send(part).await.unwrap();
    sender.send(chunk(seats[0].payload().slice(..8))).await.unwrap();
    // As a client does that has lost its connection without the server's knowing: it asks, then goes on.
    let digest = Digest::of(&seats[0].payload());
    within("the receipt", async {
        loop {
            let held = seats[0].status(digest).await.unwrap().offset;
            let rest = seats[0].parts(&seats[0].payload(), |header| header.offset = held);
            // The stuck stream may still take its bytes between the two calls; then the client asks again.
            match seats[0].send(rest).await {
                Ok(_) => return,
                refused => assert_eq!(reason(refused), Reason::WrongOffset),
            }
        }
    })
    .await;
    // The old stream ends without harm: told so, or with the receipt if it had not begun yet.
    drop(sender);
    let _ = within("the stuck stream", stuck).await.unwrap();
    seats[1].submit().await.unwrap();
    assert_eq!(host.ended("twins", 1).await.accepted, 2);
    host.stop().await;
}
