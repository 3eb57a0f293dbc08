use super::*;
use proptest::prelude::*;

fn sample() -> Writer {
    Writer::new("test/v1").u8(7).u32(8).u64(9).f64(-0.5).fixed(&[1, 2]).bytes(b"abc").text("é")
}

fn read(bytes: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader::new(bytes);
    reader.label("test/v1")?;
    assert_eq!(reader.u8("a")?, 7);
    assert_eq!(reader.u32("b")?, 8);
    assert_eq!(reader.u64("c")?, 9);
    assert_eq!(reader.f64("d")?, -0.5);
    assert_eq!(reader.fixed("e", 2)?, [1, 2]);
    assert_eq!(reader.bytes("f", 3)?, b"abc");
    assert_eq!(reader.text("g", 2)?, "é");
    reader.end()
}

#[test]
fn a_reader_returns_what_a_writer_wrote() {
    assert_eq!(read(&sample().finish()), Ok(()));
}

#[test]
fn every_shorter_and_every_longer_encoding_is_refused() {
    let bytes = sample().finish();
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "{length}");
    }
    let error = read(&[&bytes[..], &[0]].concat()).unwrap_err();
    assert_eq!(error.to_string(), "end: 1 bytes too many at the end");
}

#[test]
fn a_length_over_the_limit_is_refused_before_anything_is_read() {
    let bytes = [0xff; 4];
    let error = Reader::new(&bytes).bytes("boxes", 10).unwrap_err();
    assert_eq!(error.to_string(), "boxes: 4294967295 bytes, at most 10 are allowed");
}

#[test]
fn numbers_that_are_not_finite_and_texts_that_are_not_text_are_refused() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(Reader::new(&value.to_le_bytes()).f64("clip").unwrap_err().problem, Problem::NotFinite);
    }
    assert_eq!(Reader::new(&[1, 0, 0, 0, 0xff]).text("task", 9).unwrap_err().problem, Problem::NotText);
}

#[test]
fn another_label_is_refused_even_when_it_begins_alike() {
    for label in ["test/v", "test/v11", "", "TEST/v1"] {
        let bytes = Writer::new(label).finish();
        assert_eq!(Reader::new(&bytes).label("test/v1").unwrap_err().field, "label", "{label}");
    }
}

#[test]
fn the_digest_is_that_of_the_encoding() {
    assert_eq!(sample().digest(), Digest::of(&sample().finish()));
}

proptest! {
    #[test]
    fn neighbouring_fields_never_run_into_each_other(a: Vec<u8>, b: Vec<u8>, c: Vec<u8>, d: Vec<u8>) {
        let encode = |first: &[u8], second: &[u8]| Writer::new("x").bytes(first).bytes(second).finish();
        prop_assert_eq!((&a, &b) == (&c, &d), encode(&a, &b) == encode(&c, &d));
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes: Vec<u8>) {
        let _ = read_anything(&bytes);
    }
}

fn read_anything(bytes: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader::new(bytes);
    reader.label("")?;
    reader.u8("a")?;
    reader.text("b", 3)?;
    reader.f64("c")?;
    reader.bytes("d", usize::MAX)?;
    reader.end()
}
