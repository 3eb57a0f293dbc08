//! Finds NaN and infinities.

use super::dispatch::{Kernel, dispatch};
use crate::element::Element;

/// Coordinates checked before looking at the answer.
const STRIDE: usize = 512;

/// The first coordinate that is NaN or infinite.
#[must_use]
pub fn first_non_finite<T: Element>(values: &[T]) -> Option<usize> {
    dispatch(FirstNonFinite { values })
}

struct FirstNonFinite<'a, T> {
    values: &'a [T],
}

impl<T: Element> Kernel for FirstNonFinite<'_, T> {
    type Output = Option<usize>;

    #[inline(always)]
    fn run(self) -> Option<usize> {
        for (index, stride) in self.values.chunks(STRIDE).enumerate() {
            let mut finite = true;
            for value in stride {
                finite &= value.is_finite();
            }
            if !finite {
                let within = stride.iter().position(|value| !value.is_finite())?;
                return Some(index * STRIDE + within);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::{Path, dispatch_up_to};
    use super::super::naive;
    use super::*;

    #[test]
    fn the_first_non_finite_coordinate_is_found_at_every_length_and_position() {
        for length in (0..130).chain([511, 512, 513, 1500]) {
            let clean = vec![f32::MAX; length];
            assert_eq!(first_non_finite(&clean), None);
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in 0..length {
                    let mut values = clean.clone();
                    values[at] = bad;
                    if at + 3 < length {
                        values[at + 3] = bad;
                    }
                    for from in 0..at.min(3) {
                        let expected = naive::first_non_finite(&values[from..]);
                        assert_eq!(first_non_finite(&values[from..]), expected);
                        for path in Path::ALL {
                            let kernel = FirstNonFinite { values: &values[from..] };
                            assert_eq!(dispatch_up_to(path, kernel), expected, "{path:?}");
                        }
                    }
                }
            }
        }
        assert_eq!(first_non_finite(&[1e308, f64::NAN]), Some(1));
    }
}
