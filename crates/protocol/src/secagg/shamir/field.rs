//! Arithmetic modulo the Mersenne prime 2^61 − 1, without branches on values. Arguments and results are below it.

/// The prime.
pub(super) const P: u64 = (1 << 61) - 1;

/// The point that belongs to a place in the roster. Never zero, where the secret is.
pub(super) fn point(place: u32) -> u64 {
    u64::from(place) + 1
}

/// a + b.
pub(super) fn add(a: u64, b: u64) -> u64 {
    reduce(a + b)
}

/// a − b.
pub(super) fn sub(a: u64, b: u64) -> u64 {
    let difference = a.wrapping_sub(b);
    difference.wrapping_add(P & (difference >> 63).wrapping_neg())
}

/// a · b.
pub(super) fn mul(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    // 2^61 is 1 modulo the prime, so the upper bits are simply added.
    reduce((product as u64 & P) + (product >> 61) as u64)
}

/// 1 / a by Fermat's little theorem, and 0 of 0.
pub(super) fn invert(a: u64) -> u64 {
    let exponent = P - 2;
    (0..61).rev().fold(1, |power, bit| {
        let square = mul(power, power);
        // The exponent is public.
        if exponent >> bit & 1 == 1 { mul(square, a) } else { square }
    })
}

/// The inverses of non-zero values, with a single inversion (Montgomery's trick).
pub(super) fn invert_all(values: &[u64]) -> Vec<u64> {
    let mut inverses = Vec::with_capacity(values.len());
    let product = values.iter().fold(1, |product, &value| {
        inverses.push(product);
        mul(product, value)
    });
    let mut rest = invert(product);
    for (inverse, &value) in inverses.iter_mut().zip(values).rev() {
        *inverse = mul(*inverse, rest);
        rest = mul(rest, value);
    }
    inverses
}

/// Subtracts the prime once if the value, below twice the prime, reaches it.
fn reduce(value: u64) -> u64 {
    let less = value.wrapping_sub(P);
    less.wrapping_add(P & (less >> 63).wrapping_neg())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reference(a: u64, b: u64, operation: fn(u128, u128) -> u128) -> u64 {
        (operation(u128::from(a), u128::from(b)) % u128::from(P)) as u64
    }

    #[test]
    fn the_ends_of_the_field_are_handled() {
        for a in [0, 1, 2, P - 2, P - 1] {
            for b in [0, 1, 2, P - 2, P - 1] {
                assert_eq!(add(a, b), reference(a, b, |a, b| a + b));
                assert_eq!(sub(a, b), reference(a, b, |a, b| a + u128::from(P) - b));
                assert_eq!(mul(a, b), reference(a, b, |a, b| a * b));
            }
        }
        assert_eq!(invert(0), 0);
        assert_eq!(point(u32::MAX), 1 << 32);
    }

    proptest! {
        #[test]
        fn operations_are_those_of_whole_numbers_modulo_the_prime(a in 0..P, b in 0..P) {
            prop_assert_eq!(add(a, b), reference(a, b, |a, b| a + b));
            prop_assert_eq!(sub(a, b), reference(a, b, |a, b| a + u128::from(P) - b));
            prop_assert_eq!(mul(a, b), reference(a, b, |a, b| a * b));
        }

        #[test]
        fn a_value_times_its_inverse_is_one(values in proptest::collection::vec(1..P, 0..20)) {
            for (&value, inverse) in values.iter().zip(invert_all(&values)) {
                prop_assert_eq!(mul(value, inverse), 1);
                prop_assert_eq!(invert(value), inverse);
            }
        }
    }
}
