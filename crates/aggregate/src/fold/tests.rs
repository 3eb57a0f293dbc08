use proptest::prelude::*;

use super::*;

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Cuts bytes after each of the given lengths in turn, empty pieces included.
fn cut<'a>(mut bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for length in lengths {
        let (piece, rest) = bytes.split_at((*length).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces.push(bytes);
    pieces
}

#[test]
fn an_input_of_another_length_is_named_and_nothing_is_added() {
    let mut sum = [1, 2];
    let (right, short): (&[&[u8]], &[&[u8]]) = (&[&[1; 8]], &[&[1; 3], &[1; 4]]);
    let error = FoldError::Length { input: 1, bytes: 7, expected: 8 };
    assert_eq!(fold_all(&mut sum, &[right, short]), Err(error));
    assert_eq!(fold(&mut sum, &[&[1; 9]]), Err(FoldError::Length { input: 0, bytes: 9, expected: 8 }));
    assert_eq!(sum, [1, 2]);
    assert_eq!(fold(&mut [], &[&[], &[]]), Ok(()));
}

#[test]
fn sums_wrap_around_both_ways() {
    let mut sum = [u32::MAX, 0];
    fold(&mut sum, &[&bytes(&[1, u32::MAX])]).unwrap();
    assert_eq!(sum, [0, u32::MAX]);
}

#[test]
fn inputs_longer_than_a_tile_add_up_however_they_are_cut() {
    let length = 2 * TILE + 5;
    let inputs: Vec<Vec<u32>> =
        (0..11_u32).map(|row| (0..length as u32).map(|c| (c + row).wrapping_mul(2_654_435_761)).collect()).collect();
    let expected: Vec<u32> =
        (0..length).map(|c| inputs.iter().fold(3, |sum: u32, input| sum.wrapping_add(input[c]))).collect();
    let raw: Vec<Vec<u8>> = inputs.iter().map(|words| bytes(words)).collect();
    for lengths in
        [vec![], vec![4 * TILE], vec![4 * TILE - 2, 1, 0, 2], vec![16_384; 5], vec![1, 2, 3, 4, 5, 6, 7, 9999]]
    {
        let pieces: Vec<Vec<&[u8]>> =
            raw.iter().enumerate().map(|(row, raw)| cut(raw, &lengths[row.min(lengths.len())..])).collect();
        let views: Vec<&[&[u8]]> = pieces.iter().map(Vec::as_slice).collect();
        let mut sum = vec![3; length];
        fold_all(&mut sum, &views).unwrap();
        assert_eq!(sum, expected, "{lengths:?}");
    }
}

proptest! {
    #[test]
    fn sums_are_exact_for_any_inputs_and_cuts(
        inputs in (0..40_usize).prop_flat_map(|length| {
            proptest::collection::vec(proptest::collection::vec(any::<u32>(), length), 0..10)
                .prop_map(move |inputs| (length, inputs))
        }),
        lengths in proptest::collection::vec(0..30_usize, 0..12),
    ) {
        let (length, inputs) = inputs;
        let raw: Vec<Vec<u8>> = inputs.iter().map(|words| bytes(words)).collect();
        let pieces: Vec<Vec<&[u8]>> =
            raw.iter().enumerate().map(|(row, raw)| cut(raw, &lengths[row.min(lengths.len())..])).collect();
        let views: Vec<&[&[u8]]> = pieces.iter().map(Vec::as_slice).collect();
        let mut together = vec![9; length];
        fold_all(&mut together, &views).unwrap();
        let mut apart = vec![9; length];
        for pieces in &views {
            fold(&mut apart, pieces).unwrap();
        }
        let expected: Vec<u32> = (0..length)
            .map(|c| inputs.iter().fold(9_u64, |sum, input| sum + u64::from(input[c])) as u32)
            .collect();
        prop_assert_eq!(&together, &expected);
        prop_assert_eq!(&apart, &expected);
    }
}
