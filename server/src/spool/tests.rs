use super::*;
use proptest::prelude::*;
use std::path::PathBuf;

const KEY: &str = "task/1/abc";
const NO_INLINE: u64 = 0;

fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 % 251) as u8).collect()
}

fn local() -> (tempfile::TempDir, Spool) {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = Spool::local(directory.path()).unwrap();
    spool.part_bytes = 10;
    spool.short_bytes = 0;
    (directory, spool)
}

fn memory() -> Spool {
    Spool { short_bytes: 0, ..Spool::memory() }
}

async fn write(spool: &Spool, key: &str, bytes: &[u8], chunk: usize) -> Body {
    let mut writer = spool.writer(key.into(), Held::nothing()).unwrap();
    for chunk in bytes.chunks(chunk) {
        writer.append(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    assert_eq!(writer.position(), bytes.len() as u64);
    writer.finish(NO_INLINE).await.unwrap()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_payload_reads_back_over_any_range() {
    let (_directory, local) = local();
    for (spool, parts) in [(memory(), 34), (local, 9)] {
        let bytes = payload(100);
        let body = write(&spool, KEY, &bytes, 3).await;
        let Body::Parts { parts: written, .. } = &body else { panic!("parts") };
        assert_eq!(written.len(), parts, "{spool:?}");
        for start in 0..=100 {
            for end in start..=100 {
                let range = start as u64..end as u64;
                assert_eq!(spool.read(&body, range.clone()).await.unwrap().concat(), bytes[start..end]);
                assert_eq!(spool.segments(&body, range).unwrap().concat(), bytes[start..end]);
            }
        }
        for range in [0..101, 100..101, Range { start: 5, end: 4 }, u64::MAX - 1..u64::MAX] {
            let error = spool.read(&body, range.clone()).await.unwrap_err();
            assert!(matches!(error, SpoolError::Range { length: 100, .. }), "{error}");
        }
    }
}

#[tokio::test]
async fn memory_shares_the_bytes_it_was_given() {
    let spool = memory();
    let chunks = [Bytes::from(payload(50)), Bytes::from(payload(70))];
    let mut writer = spool.writer(KEY.into(), Held::nothing()).unwrap();
    for chunk in &chunks {
        writer.append(chunk.clone()).await.unwrap();
    }
    let body = writer.finish(u64::MAX).await.unwrap();
    let segments = spool.read(&body, 10..60).await.unwrap();
    let places: Vec<_> = segments.iter().map(|segment| segment.as_ptr()).collect();
    assert_eq!(places, [chunks[0][10..].as_ptr(), chunks[1].as_ptr()]);
}

#[tokio::test]
async fn small_payloads_of_a_durable_spool_stay_inline() {
    let (directory, spool) = local();
    for (length, limit, inline) in [(9, 9, true), (9, 8, false), (0, 8, true), (10, 100, false)] {
        let mut writer = spool.writer(format!("task/1/{length}-{limit}"), Held::nothing()).unwrap();
        for chunk in payload(length).chunks(4) {
            writer.append(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        let body = writer.finish(limit).await.unwrap();
        assert_eq!(matches!(body, Body::Inline(_)), inline, "{length} bytes, limit {limit}");
        assert_eq!(spool.read(&body, 0..length as u64).await.unwrap().concat(), payload(length));
    }
    assert_eq!(files(directory.path()).len(), 2);
}

#[tokio::test]
async fn an_interrupted_upload_goes_on_where_its_last_part_ends() {
    let (directory, spool) = local();
    let bytes = payload(57);
    let mut writer = spool.writer(KEY.into(), Held::nothing()).unwrap();
    for chunk in bytes[..24].chunks(8) {
        writer.append(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    writer.flush().await.unwrap();
    writer.flush().await.unwrap();
    drop(writer);

    let spool = Spool::local(directory.path()).unwrap();
    let held = spool.held(KEY).await.unwrap();
    assert_eq!(held.parts(), [(0, 16), (16, 8)]);
    assert_eq!(spool.read(&held.body(KEY), 0..24).await.unwrap().concat(), bytes[..24]);
    let mut writer = spool.writer(KEY.into(), held).unwrap();
    assert_eq!(writer.position(), 24);
    writer.append(Bytes::copy_from_slice(&bytes[24..])).await.unwrap();
    let body = writer.finish(u64::MAX).await.unwrap();
    assert_eq!(body, Body::Parts { key: KEY.into(), parts: vec![(0, 16), (16, 8), (24, 33)] });
    assert_eq!(spool.read(&body, 0..57).await.unwrap().concat(), bytes);
}

#[tokio::test]
async fn what_was_gathered_and_not_flushed_is_not_held() {
    let (_directory, spool) = local();
    let mut writer = spool.writer(KEY.into(), Held::nothing()).unwrap();
    writer.append(Bytes::from(payload(9))).await.unwrap();
    assert_eq!(writer.position(), 9);
    drop(writer);
    assert_eq!(spool.held(KEY).await.unwrap(), Held::nothing());
}

#[tokio::test]
async fn parts_after_a_gap_and_strange_files_are_deleted() {
    let (directory, spool) = local();
    write(&spool, KEY, &payload(40), 10).await;
    write(&spool, "task/1/abcd", &payload(40), 10).await;
    let parts = directory.path().join(KEY);
    std::fs::remove_file(parts.join("000000000020")).unwrap();
    std::fs::write(parts.join("20"), payload(10)).unwrap();
    std::fs::write(parts.join("00000000002x"), payload(10)).unwrap();
    let held = spool.held(KEY).await.unwrap();
    assert_eq!(held.parts(), [(0, 10), (10, 10)]);
    assert_eq!(files(&parts), ["000000000000", "000000000010"].map(|name| parts.join(name)));
    assert_eq!(spool.held("task/1/abcd").await.unwrap().position(), 40, "another key is left alone");
}

#[tokio::test]
async fn a_second_writer_cannot_replace_a_part() {
    let (_directory, local) = local();
    for spool in [memory(), local] {
        let body = write(&spool, KEY, &payload(20), 10).await;
        let mut second = spool.writer(KEY.into(), Held::nothing()).unwrap();
        let error = second.append(Bytes::from(vec![0; 10])).await.unwrap_err();
        assert!(matches!(error, SpoolError::Part { offset: 0, .. }), "{error}");
        assert_eq!(spool.read(&body, 0..20).await.unwrap().concat(), payload(20));
    }
}

#[tokio::test]
async fn truncated_and_missing_parts_are_told_apart() {
    let (directory, spool) = local();
    let body = write(&spool, KEY, &payload(30), 10).await;
    let part = directory.path().join(KEY).join("000000000010");
    std::fs::File::options().write(true).open(&part).unwrap().set_len(9).unwrap();
    let error = spool.read(&body, 0..30).await.unwrap_err().to_string();
    assert!(error.contains("part at 10 of task/1/abc is shorter than recorded"), "{error}");
    assert_eq!(spool.read(&body, 0..19).await.unwrap().concat(), payload(30)[..19]);
    std::fs::remove_file(&part).unwrap();
    let error = spool.segments(&body, 5..15).unwrap_err().to_string();
    assert!(error.contains("is missing"), "{error}");

    let spool = memory();
    let body = write(&spool, KEY, &payload(30), 10).await;
    let longer = Body::Parts { key: KEY.into(), parts: vec![(0, 10), (10, 20)] };
    let error = spool.read(&longer, 0..30).await.unwrap_err().to_string();
    assert!(error.contains("part at 10 of task/1/abc is shorter than recorded"), "{error}");
    spool.delete(KEY).await.unwrap();
    let error = spool.read(&body, 0..30).await.unwrap_err().to_string();
    assert!(error.contains("part at 0 of task/1/abc is missing"), "{error}");
}

#[tokio::test]
async fn bodies_with_impossible_parts_are_refused() {
    let spool = memory();
    for parts in
        [vec![(1, 5)], vec![(0, 5), (6, 5)], vec![(0, 5), (4, 5)], vec![(0, 0)], vec![(0, u64::MAX), (u64::MAX, 1)]]
    {
        let body = Body::Parts { key: KEY.into(), parts };
        assert!(matches!(spool.read(&body, 0..1).await, Err(SpoolError::Part { .. })), "{body:?}");
    }
}

#[tokio::test]
async fn hostile_keys_are_refused_everywhere() {
    let (directory, spool) = local();
    let outside = directory.path().parent().unwrap().join("outside");
    let long = "x".repeat(129);
    for key in [
        "",
        "/",
        "..",
        "../outside",
        "a/../../outside",
        "a/./b",
        "a//b",
        "/etc/passwd",
        "a/",
        "/a",
        ".hidden",
        "a/.b",
        "A",
        "a b",
        "a\\b",
        "a%2e%2e",
        "a\0b",
        "a\n",
        "a#1",
        "a:b",
        "ä",
        "a/b/c/d/e/f/g/h/i",
        &long,
    ] {
        let refused = |error: SpoolError| assert!(matches!(error, SpoolError::Key { .. }), "{key:?}: {error}");
        refused(spool.writer(key.into(), Held::nothing()).unwrap_err());
        refused(spool.held(key).await.unwrap_err());
        let body = Body::Parts { key: key.into(), parts: vec![(0, 5)] };
        refused(spool.read(&body, 0..5).await.unwrap_err());
        if key != "a/" {
            refused(spool.delete(key).await.unwrap_err());
            refused(spool.sweep(&[key.into()]).await.unwrap_err());
        }
    }
    assert!(!outside.exists());
    assert_eq!(files(directory.path()), [] as [PathBuf; 0]);
}

#[tokio::test]
async fn deleting_a_round_takes_its_parts_and_no_others() {
    let (directory, local) = local();
    for spool in [memory(), local] {
        for key in ["task/1/a", "task/1/b", "task/10/a", "task2/1/a"] {
            write(&spool, key, &payload(20), 10).await;
        }
        spool.delete("task/1/").await.unwrap();
        spool.delete("task/1").await.unwrap();
        let mut left = Vec::new();
        for key in ["task/1/a", "task/1/b", "task/10/a", "task2/1/a"] {
            left.push(spool.held(key).await.unwrap().position());
        }
        assert_eq!(left, [0, 0, 20, 20], "{spool:?}");
    }
    assert!(!directory.path().join("task/1").exists());
}

#[tokio::test]
async fn a_sweep_keeps_only_what_is_live() {
    let (directory, local) = local();
    for spool in [memory(), local] {
        for key in ["task/1/a", "task/2/a", "task/20/a", "gone/2/a"] {
            write(&spool, key, &payload(20), 10).await;
        }
        if spool.is_durable() {
            // A staging file that a crash left behind: the store does not list it.
            std::fs::write(directory.path().join("gone/2/a/000000000020#1"), b"half").unwrap();
        }
        assert!(spool.sweep(&["../task".into()]).await.is_err());
        spool.sweep(&["task/2/".into(), "never/1/".into()]).await.unwrap();
        let mut left = Vec::new();
        for key in ["task/1/a", "task/2/a", "task/20/a", "gone/2/a"] {
            left.push(spool.held(key).await.unwrap().position());
        }
        assert_eq!(left, [0, 20, 0, 0], "{spool:?}");
    }
    assert_eq!(files(directory.path()).len(), 2);
    assert!(!directory.path().join("gone").exists());
}

#[test]
fn a_full_disk_is_told_apart_however_deep_the_error_lies() {
    let wrap = |kind: io::ErrorKind| object_store::Error::Generic {
        store: "test",
        source: Box::new(io::Error::other(io::Error::from(kind))),
    };
    assert!(matches!(writer::failed(wrap(io::ErrorKind::StorageFull)), SpoolError::Full { .. }));
    assert!(matches!(writer::failed(wrap(io::ErrorKind::QuotaExceeded)), SpoolError::Full { .. }));
    assert!(matches!(writer::failed(wrap(io::ErrorKind::PermissionDenied)), SpoolError::Backend(_)));
}

proptest! {
    // Every case syncs some dozen files.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_chunks_and_any_interruptions_give_the_same_payload(
        chunks in proptest::collection::vec((1usize..25, any::<bool>()), 0..20),
        range in any::<(proptest::sample::Index, proptest::sample::Index)>(),
    ) {
        let (_directory, spool) = local();
        let bytes = payload(chunks.iter().map(|(length, _)| length).sum());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut writer = spool.writer(KEY.into(), Held::nothing()).unwrap();
            let mut position = 0;
            for (length, interrupted) in &chunks {
                writer.append(Bytes::copy_from_slice(&bytes[position..position + length])).await.unwrap();
                position += length;
                if *interrupted {
                    writer.flush().await.unwrap();
                    writer = spool.writer(KEY.into(), spool.held(KEY).await.unwrap()).unwrap();
                }
            }
            let body = writer.finish(5).await.unwrap();
            let (first, second) = (range.0.index(bytes.len() + 1), range.1.index(bytes.len() + 1));
            let (start, end) = (first.min(second), first.max(second));
            let read = spool.read(&body, start as u64..end as u64).await.unwrap().concat();
            assert_eq!(read, &bytes[start..end]);
        });
    }
}

#[tokio::test]
async fn a_sender_of_tiny_chunks_costs_no_more_than_its_bytes() {
    let directory = tempfile::tempdir().unwrap();
    for spool in [Spool::memory(), Spool::local(directory.path()).unwrap()] {
        let bytes = payload(200_000);
        let body = write(&spool, KEY, &bytes, 7).await;
        let Body::Parts { parts, .. } = &body else { panic!("parts") };
        assert!(parts.len() <= 4, "{spool:?}: {} parts", parts.len());
        assert_eq!(spool.read(&body, 0..200_000).await.unwrap().concat(), bytes);
    }
}
