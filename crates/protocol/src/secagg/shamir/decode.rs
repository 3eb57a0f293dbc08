//! Rebuilding a secret although some shares are wrong: Reed–Solomon decoding by Gao 2003.
//!
//! Runs only where the secret is about to become known, so it may branch on values. Each limb is decoded by itself;
//! a share is wrong if any of its limbs is.

use super::{LIMBS, ShamirError, Share, check_distinct, check_threshold, field, join};
use zeroize::{Zeroize, Zeroizing};

/// Coefficients in ascending order, the last one not zero; none at all for zero.
type Polynomial = Zeroizing<Vec<u64>>;

/// A secret and whose shares of it were wrong.
pub struct Decoded {
    /// The secret.
    pub secret: Zeroizing<[u8; 32]>,
    /// Places in the roster of the wrong shares, in the order given.
    pub bad: Vec<u32>,
}

/// Rebuilds a secret from m shares of which up to ⌊(m − threshold) / 2⌋ are wrong. `verify` says whether a candidate
/// is the secret, by its public key or commitment.
///
/// # Errors
/// [`ShamirError`] with too few shares, one place twice, or more wrong shares than can be corrected.
pub fn decode(
    shares: &[(u32, Share)],
    threshold: u32,
    verify: &dyn Fn(&[u8; 32]) -> bool,
) -> Result<Decoded, ShamirError> {
    let (count, dimension) = (shares.len(), threshold as usize);
    if count < dimension {
        return Err(ShamirError::TooFew { have: count, need: dimension });
    }
    check_threshold(threshold, count)?;
    let places: Vec<u32> = shares.iter().map(|(place, _)| *place).collect();
    check_distinct(&places)?;

    let failure = ShamirError::Undecodable { count, correctable: (count - dimension) / 2 };
    let points: Vec<u64> = places.iter().map(|&place| field::point(place)).collect();
    let vanishing = vanishing(&points);
    let interpolants = interpolate(&points, shares, &vanishing);
    let mut limbs = Zeroizing::new([0; LIMBS]);
    let mut wrong = vec![false; count];
    for (limb, interpolant) in interpolants.into_iter().enumerate() {
        let message = message(&vanishing, interpolant, count, dimension).ok_or(failure)?;
        for ((wrong, &x), (_, share)) in wrong.iter_mut().zip(&points).zip(shares) {
            *wrong |= evaluate(&message, x) != share.0[limb];
        }
        limbs[limb] = message.first().copied().unwrap_or(0);
    }
    let secret = join(&limbs).map_err(|_| failure)?;
    if !verify(&secret) {
        return Err(failure);
    }
    let bad = places.into_iter().zip(wrong).filter_map(|(place, wrong)| wrong.then_some(place)).collect();
    Ok(Decoded { secret, bad })
}

/// The polynomial of degree below `dimension` that agrees with the interpolant on all but a few points, if any.
fn message(vanishing: &[u64], interpolant: Polynomial, count: usize, dimension: usize) -> Option<Polynomial> {
    let mut older = (Zeroizing::new(vanishing.to_vec()), Polynomial::default());
    let mut newer = (interpolant, Zeroizing::new(vec![1]));
    // The Euclidean algorithm, until the remainder's degree is below (count + dimension) / 2.
    while !newer.0.is_empty() && 2 * (newer.0.len() - 1) >= count + dimension {
        let (quotient, remainder) = divide(older.0, &newer.0);
        let multiplier = subtract_product(older.1, &quotient, &newer.1);
        older = std::mem::replace(&mut newer, (remainder, multiplier));
    }
    let (message, rest) = divide(newer.0, &newer.1);
    (rest.is_empty() && message.len() <= dimension).then_some(message)
}

/// Π (X − x).
fn vanishing(points: &[u64]) -> Vec<u64> {
    let mut product = vec![1];
    for &x in points {
        product.push(0);
        for i in (0..product.len()).rev() {
            let lower = if i > 0 { product[i - 1] } else { 0 };
            product[i] = field::sub(lower, field::mul(product[i], x));
        }
    }
    product
}

/// For each limb the polynomial through all shares.
fn interpolate(points: &[u64], shares: &[(u32, Share)], vanishing: &[u64]) -> [Polynomial; LIMBS] {
    let denominators: Vec<u64> = points
        .iter()
        .map(|&x| points.iter().filter(|&&other| other != x).fold(1, |d, &other| field::mul(d, field::sub(x, other))))
        .collect();
    let inverses = field::invert_all(&denominators);
    let mut interpolants: [Polynomial; LIMBS] = std::array::from_fn(|_| Zeroizing::new(vec![0; points.len()]));
    for ((&x, (_, share)), &inverse) in points.iter().zip(shares).zip(&inverses) {
        let scales = Zeroizing::new(share.0.map(|value| field::mul(value, inverse)));
        // Dividing by X − x, from the highest coefficient down.
        let mut quotient = 0;
        for i in (0..points.len()).rev() {
            quotient = field::add(vanishing[i + 1], field::mul(quotient, x));
            for (interpolant, &scale) in interpolants.iter_mut().zip(scales.iter()) {
                interpolant[i] = field::add(interpolant[i], field::mul(scale, quotient));
            }
        }
    }
    interpolants.iter_mut().for_each(trim);
    interpolants
}

/// Quotient and remainder by a polynomial that is not zero.
fn divide(mut dividend: Polynomial, divisor: &[u64]) -> (Polynomial, Polynomial) {
    let Some(steps) = (dividend.len() + 1).checked_sub(divisor.len()) else {
        return (Polynomial::default(), dividend);
    };
    let leading = field::invert(divisor.last().copied().unwrap_or(1));
    let mut quotient = Zeroizing::new(vec![0; steps]);
    for shift in (0..steps).rev() {
        let factor = field::mul(dividend[shift + divisor.len() - 1], leading);
        quotient[shift] = factor;
        for (value, &coefficient) in dividend[shift..].iter_mut().zip(divisor) {
            *value = field::sub(*value, field::mul(factor, coefficient));
        }
    }
    trim(&mut dividend);
    trim(&mut quotient);
    (quotient, dividend)
}

/// minuend − a · b.
fn subtract_product(minuend: Polynomial, a: &[u64], b: &[u64]) -> Polynomial {
    let mut result = Zeroizing::new(vec![0; minuend.len().max(a.len() + b.len())]);
    result[..minuend.len()].copy_from_slice(&minuend);
    for (i, &x) in a.iter().enumerate() {
        for (value, &y) in result[i..].iter_mut().zip(b) {
            *value = field::sub(*value, field::mul(x, y));
        }
    }
    trim(&mut result);
    result
}

fn evaluate(polynomial: &[u64], x: u64) -> u64 {
    polynomial.iter().rev().fold(0, |value, &coefficient| field::add(field::mul(value, x), coefficient))
}

fn trim(polynomial: &mut Polynomial) {
    let length = polynomial.iter().rposition(|&value| value != 0).map_or(0, |last| last + 1);
    polynomial[length..].zeroize();
    polynomial.truncate(length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quotient_with_a_remainder_is_no_message() {
        // The width of rebuilt limbs would hide this from the tests of whole secrets.
        let points: Vec<u64> = (1..=6).collect();
        let vanishing = vanishing(&points);
        for (wrong, correctable) in [(0, true), (2, true), (3, false), (4, false)] {
            // Values of 7 + 11·X, of which the first few are wrong.
            let values = points.iter().map(|&x| 7 + 11 * x + if x <= wrong { x * x } else { 0 });
            let shares: Vec<(u32, Share)> =
                (0..).zip(values.map(|value| Share(Zeroizing::new([value; LIMBS])))).collect();
            let [interpolant, ..] = interpolate(&points, &shares, &vanishing);
            let found = message(&vanishing, interpolant, 6, 2);
            assert_eq!(found.map(|message| message.to_vec()), correctable.then(|| vec![7, 11]), "{wrong} wrong");
        }
    }
}
