use super::*;
use flate2::{Compression, Crc, write::DeflateEncoder};
use proptest::prelude::*;
use std::io::Write;

fn npy(descr: &str, shape: &str, numbers: &[u8]) -> Vec<u8> {
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    while (text.len() + 11) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend(numbers);
    bytes
}

fn zip(members: &[(&str, Vec<u8>)], deflate: bool) -> Vec<u8> {
    let (mut all, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in members {
        let mut crc = Crc::new();
        crc.update(content);
        let packed = if deflate {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        } else {
            content.clone()
        };
        let offset = all.len() as u32;
        let method = if deflate { 8_u16 } else { 0 };
        let mut common = Vec::new();
        common.extend(20_u16.to_le_bytes());
        common.extend(0_u16.to_le_bytes());
        common.extend(method.to_le_bytes());
        common.extend([0; 4]);
        common.extend(crc.sum().to_le_bytes());
        common.extend((packed.len() as u32).to_le_bytes());
        common.extend((content.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        all.extend(b"PK\x03\x04");
        all.extend(&common);
        all.extend(0_u16.to_le_bytes());
        all.extend(name.as_bytes());
        all.extend(packed);
        directory.extend(b"PK\x01\x02");
        directory.extend(20_u16.to_le_bytes());
        directory.extend(&common);
        directory.extend([0; 2 + 2 + 2 + 2 + 4]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let from = all.len() as u32;
    all.extend(&directory);
    all.extend(b"PK\x05\x06");
    all.extend([0; 4]);
    all.extend((members.len() as u16).to_le_bytes());
    all.extend((members.len() as u16).to_le_bytes());
    all.extend((directory.len() as u32).to_le_bytes());
    all.extend(from.to_le_bytes());
    all.extend([0; 2]);
    all
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn small() -> Vec<(&'static str, Vec<u8>)> {
    let labels: Vec<u8> = [0_i64, 2, 1].iter().flat_map(|label| label.to_le_bytes()).collect();
    vec![("x.npy", npy("<f4", "3, 2", &floats(&[1.0, 2.0, -3.0, 4.0, 0.5, 6.0]))), ("y.npy", npy("<i8", "3,", &labels))]
}

fn message(bytes: &[u8]) -> String {
    read(bytes, "data.npz", &Options::default()).unwrap_err().to_string()
}

#[test]
fn stored_and_deflated_archives_give_the_same_examples() {
    for deflate in [false, true] {
        let data = read(&zip(&small(), deflate)[..], "data.npz", &Options::default()).unwrap();
        assert_eq!((data.len(), data.width(), data.classes()), (3, 2, 3));
        assert_eq!(data.features(), [1.0, 2.0, -3.0, 4.0, 0.5, 6.0]);
        assert_eq!(data.labels(), [0, 2, 1]);
    }
}

#[test]
fn images_of_bytes_are_flattened_and_scaled_and_arrays_may_be_named() {
    let members =
        [("pictures.npy", npy("|u1", "2, 1, 2", &[0, 255, 51, 102])), ("digit.npy", npy("|u1", "2,", &[7, 0]))];
    let options =
        Options { features: Some("pictures".to_owned()), labels: Some("digit".to_owned()), ..Options::default() };
    let data = read(&zip(&members, true)[..], "data.npz", &options).unwrap();
    assert_eq!((data.width(), data.classes()), (2, 8));
    assert_eq!(data.features(), [0.0, 1.0, 0.2, 0.4]);
    let missing = message(&zip(&members, true));
    assert!(missing.contains("looked for y, Y") && missing.contains("pictures.npy"), "{missing}");
}

#[test]
fn what_is_no_such_archive_is_refused_with_the_array_and_a_fix() {
    let with = |x: Vec<u8>, y: Vec<u8>| message(&zip(&[("x.npy", x), ("y.npy", y)], false));
    let (x, y) = (small()[0].1.clone(), small()[1].1.clone());
    assert!(message(b"nothing").contains("no directory of a ZIP archive"));
    assert!(with(npy("<f4", "2, 2", &[0; 16]), y.clone()).contains("shape [2, 2] for 3 labels"));
    assert!(with(npy(">f4", "3, 2", &[0; 24]), y.clone()).contains("astype"));
    assert!(with(npy("<f4", "3, 2", &[0; 20]), y.clone()).contains("20 bytes of numbers"));
    assert!(with(npy("<f4", "3, 2", &floats(&[f32::NAN; 6])), y.clone()).contains("example 0, value 0 is not finite"));
    assert!(with(x.clone(), npy("<f4", "3,", &[0; 12])).contains("labels are integers"));
    assert!(with(x.clone(), npy("|i1", "3,", &[0, 255, 1])).contains("label -1 of example 1"));
    assert!(with(x.clone(), x.clone()).contains("array y"));
    assert!(with(b"text".to_vec(), y.clone()).contains("does not begin as an array"));
    let huge = npy("<f4", "3, 99999999999999999999", &[0; 24]);
    assert!(with(huge, y).contains("no shape"));
}

#[test]
fn false_sizes_bombs_and_damage_are_found() {
    let whole = zip(&small(), true);
    let mut damaged = whole.clone();
    damaged[60] ^= 0xFF;
    assert!(!message(&damaged).is_empty());
    let bomb = zip(&[("x.npy", npy("|u1", "5000, 1000", &vec![0; 5_000_000])), small().remove(1)], true);
    let limits = Limits { bytes: 100_000, ..Limits::default() };
    assert!(bomb.len() < 20_000);
    let error = read(&bomb[..], "bomb.npz", &Options { limits, ..Options::default() }).unwrap_err().to_string();
    assert!(error.contains("limit of 100000"), "{error}");
    // The size in the directory is a lie: more comes than is announced.
    let mut lying = zip(&small(), true);
    let listed = lying.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    lying[listed + 24] = 1;
    lying[listed + 25] = 0;
    assert!(read(&lying[..], "data.npz", &Options { features: Some("x".into()), ..Options::default() }).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(at in 0_usize..600, value in any::<u8>(), cut in 0_usize..600) {
        let mut bytes = zip(&small(), at % 2 == 0);
        let at = at % bytes.len();
        bytes[at] = value;
        let _ = read(&bytes[..], "data.npz", &Options::default());
        bytes.truncate(cut);
        let _ = read(&bytes[..], "data.npz", &Options::default());
    }
}
