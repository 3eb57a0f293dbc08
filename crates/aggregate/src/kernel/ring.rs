//! Adding words to an accumulator mod 2^32.

use super::dispatch::{Kernel, dispatch};

/// Adds little-endian words to as many values of the accumulator, mod 2^32.
pub(crate) fn add(accumulator: &mut [u32], bytes: &[u8]) {
    dispatch(AddWords { accumulator, bytes });
}

/// Subtracts little-endian words from as many values of the accumulator, mod 2^32.
pub(crate) fn subtract(accumulator: &mut [u32], bytes: &[u8]) {
    dispatch(SubtractWords { accumulator, bytes });
}

/// Adds four times as many little-endian words, with one load and one store per value of the accumulator.
pub(crate) fn add_four(accumulator: &mut [u32], bytes: [&[u8]; 4]) {
    dispatch(AddFour { accumulator, bytes });
}

struct AddWords<'a> {
    accumulator: &'a mut [u32],
    bytes: &'a [u8],
}

impl Kernel for AddWords<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (sum, word) in self.accumulator.iter_mut().zip(self.bytes.as_chunks().0) {
            *sum = sum.wrapping_add(u32::from_le_bytes(*word));
        }
    }
}

struct SubtractWords<'a> {
    accumulator: &'a mut [u32],
    bytes: &'a [u8],
}

impl Kernel for SubtractWords<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (sum, word) in self.accumulator.iter_mut().zip(self.bytes.as_chunks().0) {
            *sum = sum.wrapping_sub(u32::from_le_bytes(*word));
        }
    }
}

struct AddFour<'a> {
    accumulator: &'a mut [u32],
    bytes: [&'a [u8]; 4],
}

impl Kernel for AddFour<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let length = self.accumulator.len();
        let [a, b, c, d] = self.bytes;
        let (a, b) = (&a.as_chunks().0[..length], &b.as_chunks().0[..length]);
        let (c, d) = (&c.as_chunks().0[..length], &d.as_chunks().0[..length]);
        for i in 0..length {
            let low = u32::from_le_bytes(a[i]).wrapping_add(u32::from_le_bytes(b[i]));
            let high = u32::from_le_bytes(c[i]).wrapping_add(u32::from_le_bytes(d[i]));
            self.accumulator[i] = self.accumulator[i].wrapping_add(low.wrapping_add(high));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::{Path, dispatch_up_to};
    use super::*;

    #[test]
    fn every_path_equals_the_naive_sum_at_every_length_and_alignment() {
        let bytes: Vec<u8> = (0..2000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let words = |from: usize, length: usize| -> Vec<u32> {
            (0..length).map(|i| (0..4).map(|byte| u32::from(bytes[from + 4 * i + byte]) << (8 * byte)).sum()).collect()
        };
        for length in 0..130 {
            let from = length % 7;
            let start: Vec<u32> = (0..length as u32).map(|i| i.wrapping_mul(3_266_489_917)).collect();
            let inputs: [&[u8]; 4] = [0, 1, 2, 3].map(|i| &bytes[from + 300 * i..from + 300 * i + 4 * length]);
            let naive: [Vec<u32>; 4] = [0, 1, 2, 3].map(|i| words(from + 300 * i, length));
            let added: Vec<u32> = (0..length).map(|i| start[i].wrapping_add(naive[0][i])).collect();
            let taken: Vec<u32> = (0..length).map(|i| start[i].wrapping_sub(naive[0][i])).collect();
            let all: Vec<u32> =
                (0..length).map(|i| naive.iter().fold(start[i], |sum, words| sum.wrapping_add(words[i]))).collect();
            for path in Path::ALL {
                let mut sum = start.clone();
                dispatch_up_to(path, AddWords { accumulator: &mut sum, bytes: inputs[0] });
                assert_eq!(sum, added, "{path:?}");
                sum.clone_from(&start);
                dispatch_up_to(path, SubtractWords { accumulator: &mut sum, bytes: inputs[0] });
                assert_eq!(sum, taken, "{path:?}");
                sum.clone_from(&start);
                dispatch_up_to(path, AddFour { accumulator: &mut sum, bytes: inputs });
                assert_eq!(sum, all, "{path:?}");
            }
        }
    }
}
