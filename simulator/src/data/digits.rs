//! UCI optical digits, embedded: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine
//! Learning Repository, <https://doi.org/10.24432/C50P49>, CC BY 4.0.

use super::Dataset;
use super::csv::{self, Options};

/// SHA-256 of the decompressed CSV.
pub const SHA256: &str = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8";

/// The recommended size of the test part; 1,437 examples remain for training.
pub const TEST_EXAMPLES: usize = 360;

const COMPRESSED: &[u8] = include_bytes!("../../data/digits.csv.gz");

/// 1,797 images of 8x8 pixels in file order, features in 0..=1 (the file's 0 to 16 divided by 16), labels 0 to 9.
pub fn load() -> Dataset {
    let options = Options { scale: 1.0 / 16.0, ..Options::default() };
    csv::read(COMPRESSED, "digits.csv.gz", &options)
        .expect("the embedded file is fixed at build time and a test reads it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::input::read_bounded;
    use sha2::{Digest, Sha256};

    #[test]
    fn the_embedded_file_is_the_published_one() {
        let bytes = read_bounded(COMPRESSED, "digits", 1 << 20).unwrap();
        assert_eq!(hex::encode(Sha256::digest(&bytes)), SHA256);
    }

    #[test]
    fn the_digits_have_their_known_shape_range_and_class_sizes() {
        let data = load();
        assert_eq!((data.len(), data.width(), data.classes()), (1_797, 64, 10));
        assert_eq!(&data.row(0)[..6], [0.0, 0.0, 5.0 / 16.0, 13.0 / 16.0, 9.0 / 16.0, 1.0 / 16.0]);
        assert_eq!(&data.labels()[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert!(data.features().iter().all(|value| (0.0..=1.0).contains(value)));
        let mut sizes = [0; 10];
        data.labels().iter().for_each(|label| sizes[usize::from(*label)] += 1);
        assert_eq!(sizes, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    }
}
