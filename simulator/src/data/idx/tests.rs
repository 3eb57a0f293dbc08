use super::*;
use crate::data::input::gzip;
use proptest::prelude::*;

fn file(kind: u8, dimensions: &[u32], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, kind, dimensions.len() as u8];
    dimensions.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
    bytes.extend(payload);
    bytes
}

fn parse(features: &[u8], labels: &[u8]) -> Result<Dataset, DataError> {
    read((features, "images"), (labels, "labels"), &Limits::default())
}

fn message(features: &[u8], labels: &[u8]) -> String {
    parse(features, labels).unwrap_err().to_string()
}

fn images() -> Vec<u8> {
    file(8, &[2, 1, 2], &[0, 255, 51, 102])
}

fn labels() -> Vec<u8> {
    file(8, &[2], &[3, 0])
}

#[test]
fn bytes_become_features_between_zero_and_one() {
    let data = parse(&images(), &labels()).unwrap();
    assert_eq!(data.features(), [0.0, 1.0, 0.2, 0.4]);
    assert_eq!(data.labels(), [3, 0]);
    assert_eq!((data.width(), data.classes()), (2, 4));
}

#[test]
fn floats_are_taken_as_they_are_and_must_be_finite() {
    let payload: Vec<u8> = [1.5_f32, -2.0].iter().flat_map(|value| value.to_be_bytes()).collect();
    assert_eq!(parse(&file(13, &[2, 1], &payload), &labels()).unwrap().features(), [1.5, -2.0]);
    let payload: Vec<u8> = [1.5_f32, f32::INFINITY].iter().flat_map(|value| value.to_be_bytes()).collect();
    assert!(message(&file(13, &[2, 1], &payload), &labels()).contains("images: example 1, value 0 is inf"));
}

#[test]
fn compressed_files_on_disk_are_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("i.gz"), directory.path().join("l.gz"));
    std::fs::write(&first, gzip(&images())).unwrap();
    std::fs::write(&second, gzip(&labels())).unwrap();
    assert_eq!(load(&first, &second, &Limits::default()).unwrap(), parse(&images(), &labels()).unwrap());
}

#[test]
fn a_wrong_header_is_named_with_its_value() {
    let mut magic = images();
    magic[0] = 0x89;
    assert!(message(&magic, &labels()).contains("images: starts with the bytes 89 00"));
    assert!(message(&file(9, &[2, 1], &[0, 0]), &labels()).contains("value type 9"));
    assert!(message(&file(8, &[], &[]), &labels()).contains("0 dimensions"));
    assert!(message(&file(8, &[2, 1, 1, 1, 1], &[0, 0]), &labels()).contains("5 dimensions"));
    assert!(message(&images()[..10], &labels()).contains("ends inside the header"));
    assert!(message(&[0, 0], &labels()).contains("2 bytes are too few"));
    assert!(message(&file(8, &[2, 0], &[]), &labels()).contains("at least 1"));
    assert!(message(&labels(), &images()).contains("swapped"));
}

#[test]
fn a_length_that_differs_from_the_header_is_refused() {
    let mut longer = images();
    longer.push(0);
    assert!(message(&longer, &labels()).contains("5 bytes follow a header that announces 4 values"));
    let whole = images();
    assert!(message(&whole[..whole.len() - 1], &labels()).contains("3 bytes follow"));
    assert!(message(&images(), &file(8, &[2], &[3])).contains("labels: 1 bytes follow"));
    assert!(message(&images(), &file(8, &[3], &[3, 0, 1])).contains("2 examples, but labels holds 3 labels"));
    assert!(message(&file(8, &[0, 1], &[]), &file(8, &[0], &[])).contains("no examples"));
}

#[test]
fn huge_announced_dimensions_are_refused_before_allocation() {
    let huge = file(8, &[u32::MAX, u32::MAX, u32::MAX, u32::MAX], &[]);
    assert!(message(&huge, &file(8, &[u32::MAX], &[])).contains("4294967295 rows exceed the limit"));
    let wide = file(8, &[2, u32::MAX, u32::MAX, u32::MAX], &[]);
    assert!(message(&wide, &labels()).contains("columns exceed the limit"));
    let limits = Limits { values: 3, ..Limits::default() };
    let error = read((&images()[..], "i"), (&labels()[..], "l"), &limits).unwrap_err().to_string();
    assert!(error.contains("4 values exceed the limit of 3"), "{error}");
    let limits = Limits { classes: 3, ..Limits::default() };
    let error = read((&images()[..], "i"), (&labels()[..], "l"), &limits).unwrap_err().to_string();
    assert!(error.contains("4 classes exceed the limit of 3"), "{error}");
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(
        mut features in proptest::collection::vec(any::<u8>(), 0..60),
        mut labels in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let _ = parse(&features, &labels);
        for bytes in [&mut features, &mut labels] {
            if bytes.len() >= 4 {
                bytes[..4].copy_from_slice(&[0, 0, 8, 1]);
            }
        }
        let _ = parse(&features, &labels);
    }
}
