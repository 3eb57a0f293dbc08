use super::*;

fn file(directory: &std::path::Path, digest: &Digest) -> std::path::PathBuf {
    let digits = digest.to_string();
    directory.join("blob/sha256").join(&digits[..2]).join(&digits[2..])
}

#[tokio::test]
async fn blobs_read_back_by_their_digest() {
    let directory = tempfile::tempdir().unwrap();
    for blobs in [Blobs::memory(), Blobs::local(directory.path()).unwrap()] {
        for bytes in [Bytes::new(), Bytes::from_static(b"abc"), Bytes::from(vec![7; (1 << 20) + 1])] {
            let digest = Digest::of(&bytes);
            assert!(matches!(blobs.get(&digest).await, Err(BlobError::NotFound(missing)) if missing == digest));
            assert_eq!(blobs.put(bytes.clone()).await.unwrap(), digest);
            assert_eq!(blobs.put(bytes.clone()).await.unwrap(), digest);
            assert_eq!(blobs.get(&digest).await.unwrap(), bytes);
            blobs.delete(&digest).await.unwrap();
            blobs.delete(&digest).await.unwrap();
            assert!(matches!(blobs.get(&digest).await, Err(BlobError::NotFound(_))));
        }
    }
}

#[tokio::test]
async fn blobs_lie_where_operators_look_for_them_and_survive_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let digest = Blobs::local(directory.path()).unwrap().put(Bytes::from_static(b"model")).await.unwrap();
    assert_eq!(std::fs::read(file(directory.path(), &digest)).unwrap(), b"model");
    assert_eq!(Blobs::local(directory.path()).unwrap().get(&digest).await.unwrap(), "model");
}

#[tokio::test]
async fn a_blob_that_is_there_is_not_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let blobs = Blobs::local(directory.path()).unwrap();
    let digest = blobs.put(Bytes::from_static(b"model")).await.unwrap();
    let path = file(directory.path(), &digest);
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions).unwrap();
    blobs.put(Bytes::from_static(b"model")).await.unwrap();
    assert!(std::fs::metadata(&path).unwrap().permissions().readonly(), "a new file would be writable");
}

#[tokio::test]
async fn one_flipped_bit_and_one_missing_byte_are_detected() {
    let directory = tempfile::tempdir().unwrap();
    let blobs = Blobs::local(directory.path()).unwrap();
    for damaged in [&b"modem"[..], b"mode", b"", b"models"] {
        let digest = blobs.put(Bytes::from_static(b"model")).await.unwrap();
        std::fs::write(file(directory.path(), &digest), damaged).unwrap();
        let error = blobs.get(&digest).await.unwrap_err();
        assert!(matches!(error, BlobError::Damaged { found, .. } if found == Digest::of(damaged)), "{error}");
        assert!(error.to_string().contains("restore it from a backup"), "{error}");
        blobs.delete(&digest).await.unwrap();
    }
}

#[tokio::test]
async fn putting_a_truncated_blob_again_heals_it() {
    let directory = tempfile::tempdir().unwrap();
    let blobs = Blobs::local(directory.path()).unwrap();
    let digest = blobs.put(Bytes::from_static(b"model")).await.unwrap();
    std::fs::write(file(directory.path(), &digest), b"mod").unwrap();
    blobs.put(Bytes::from_static(b"model")).await.unwrap();
    assert_eq!(blobs.get(&digest).await.unwrap(), "model");
}

#[test]
fn a_file_in_place_of_the_directory_is_refused_with_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, b"").unwrap();
    let error = Blobs::local(&path).unwrap_err().to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
}
