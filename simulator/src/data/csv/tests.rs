use super::*;
use crate::data::input::gzip;
use proptest::prelude::*;

fn parse(text: &str) -> Result<Dataset, DataError> {
    read(text.as_bytes(), "data.csv", &Options::default())
}

fn message(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn the_last_column_is_the_label_and_a_header_is_optional() {
    let plain = parse("1,2,0\n3,4,1\n").unwrap();
    assert_eq!(plain.features(), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(plain.labels(), [0, 1]);
    assert_eq!((plain.width(), plain.classes()), (2, 2));
    assert_eq!(parse("a,b,label\n1,2,0\n3,4,1\n").unwrap(), plain);
    assert_eq!(parse("\u{feff}1, 2 ,0\r\n\r\n3,4,1").unwrap(), plain);
}

#[test]
fn a_named_column_may_be_the_label() {
    let options = Options { label: LabelColumn::Named("kind".to_owned()), ..Options::default() };
    let data = read(&b"a,kind,b\n1,2,3\n4,0,6\n"[..], "data.csv", &options).unwrap();
    assert_eq!(data.features(), [1.0, 3.0, 4.0, 6.0]);
    assert_eq!(data.labels(), [2, 0]);
    assert_eq!(data.classes(), 3);
}

#[test]
fn a_compressed_file_on_disk_reads_as_its_text() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("small.csv.gz");
    std::fs::write(&path, gzip(b"0.5,1\n0.25,0\n")).unwrap();
    let options = Options { scale: 2.0, ..Options::default() };
    assert_eq!(load(&path, &options).unwrap().features(), [1.0, 0.5]);
    let missing = load(&directory.path().join("none.csv"), &options).unwrap_err().to_string();
    assert!(missing.contains("none.csv") && missing.contains("cannot read"), "{missing}");
}

#[test]
fn a_bad_cell_is_named_by_file_line_column_and_value() {
    let error = message("age,income,label\n1,2,0\n3,many,1\n");
    assert!(error.starts_with("data.csv, line 3, column 2 (income): \"many\" is not a number"), "{error}");
    assert!(message("1,2,0\n,2,1\n").contains("line 2, column 1: empty cell"));
    for bad in ["nan", "inf", "-inf", "1e39"] {
        let error = message(&format!("1,2,0\n{bad},2,1\n"));
        assert!(error.contains(bad) && error.contains("not finite"), "{error}");
    }
}

#[test]
fn a_bad_label_is_named_with_the_permitted_range() {
    for bad in ["-1", "0.5", "cat", "", "1024", "1e300", "nan"] {
        let error = message(&format!("1,0\n2,{bad}\n"));
        assert!(error.contains("line 2, column 2") && error.contains("from 0 to 1023"), "{bad}: {error}");
    }
    let options = Options { classes: Some(3), ..Options::default() };
    let error = read(&b"1,0\n2,3\n"[..], "f", &options).unwrap_err().to_string();
    assert!(error.contains("label \"3\"") && error.contains("from 0 to 2"), "{error}");
}

#[test]
fn ragged_empty_and_one_class_files_are_refused() {
    assert!(message("1,2,0\n1,2\n").contains("line 2: 2 columns instead of 3"));
    assert!(message("1,2,0\n1,2,3,4\n").contains("4 columns instead of 3"));
    assert!(message("").contains("no examples"));
    assert!(message("a,b\n").contains("no examples"));
    assert!(message("1\n2\n").contains("1 column(s)"));
    assert!(message("1;2;0\n").contains("separated by commas"));
    assert!(message("1,0\n2,0\n").contains("every label is 0"));
}

#[test]
fn a_label_column_that_cannot_be_found_is_explained() {
    let named = |name: &str, text: &str| {
        let options = Options { label: LabelColumn::Named(name.to_owned()), ..Options::default() };
        read(text.as_bytes(), "f", &options).unwrap_err().to_string()
    };
    assert!(named("kind", "a,b\n1,0\n").contains("name one of \"a\", \"b\""));
    assert!(named("a", "a,a,b\n1,0,1\n").contains("two columns are named \"a\""));
    assert!(named("a", "1,0\n").contains("only numbers"));
}

#[test]
fn every_limit_is_enforced_before_the_data_are_kept() {
    let limited = |limits: Limits| {
        let options = Options { limits, ..Options::default() };
        read(&b"1,2,0\n1,2,1\n1,2,0\n"[..], "f", &options).unwrap_err().to_string()
    };
    let limits = Limits::default();
    assert!(limited(Limits { rows: 2, ..limits }).contains("3 rows exceed the limit of 2"));
    assert!(limited(Limits { columns: 2, ..limits }).contains("3 columns exceed the limit of 2"));
    assert!(limited(Limits { values: 5, ..limits }).contains("6 values exceed the limit of 5"));
    assert!(limited(Limits { bytes: 10, ..limits }).contains("more than 10 bytes"));
    assert!(limited(Limits { classes: 1, ..limits }).contains("from 0 to 0"));
    assert!(limited(Limits { classes: 0, ..limits }).contains("is not a class"));
}

#[test]
fn what_a_message_quotes_is_shortened_and_escaped() {
    let error = message(&format!("1,0\n\"\x1b[31m{}\",1\n", "x".repeat(10_000)));
    assert!(error.len() < 300 && !error.contains('\x1b'), "{error}");
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&bytes[..], "f", &Options::default());
    }

    #[test]
    fn near_csv_text_never_panics(text in "[0-9a,.\"\n\r\\-e ]{0,200}") {
        let _ = read(text.as_bytes(), "f", &Options::default());
    }
}
