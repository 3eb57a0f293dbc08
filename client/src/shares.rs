//! An update under masks with the device's share of the noise: clipped, rotated and rounded in integers.

use crate::{Error, masked};
use std::fmt;
use testudo_aggregate::{Cipher, KeyStream, MaskKey};
use testudo_privacy::{
    clip::{Grid, rotated, rounded_bound},
    noise::{Law, NoiseKey, NoiseStream, NoiseTable},
    rotation::{BLOCK, Rotation},
};
use testudo_protocol::secagg::Session;
use zeroize::Zeroizing;

/// Words of the ring for an update in a session with noise shares, with a share drawn for this call: call it once a round.
/// What is not finite becomes the share alone, because who left a round over it would be seen.
///
/// Sent past every bound if `hostile`: neither clipped nor noised, for testing servers.
pub(crate) fn words(session: &Session, delta: &[f32], hostile: bool) -> Result<Zeroizing<Vec<u32>>, Error> {
    let unfit = |error: &dyn fmt::Display| Error::Policy(format!("the round's noise: {error}"));
    let grid = Grid::new(session.clip_l2, session.bits, 0.0, 1).map_err(|error| unfit(&error))?;
    let rotation = Rotation::new(session.digest().0);
    let mut steps = Zeroizing::new(match hostile {
        false => {
            let mut seed = Zeroizing::new([0; 32]);
            masked::random(&mut *seed);
            let mut stream = KeyStream::new(&MaskKey::new(*seed), Cipher::preferred());
            rotated(&grid, &rotation, delta, |bytes| stream.fill(bytes)).0
        }
        true => {
            // Rotated all the same: it is to point where it was meant to, and not somewhere.
            let mut values = vec![0.0; Rotation::padded(delta.len())];
            values.iter_mut().zip(delta).for_each(|(step, value)| *step = f64::from(*value) / grid.step());
            for (index, block) in (0..).zip(values.as_chunks_mut::<BLOCK>().0) {
                rotation.forward(index, block);
            }
            values.iter().map(|step| *step as i64).collect()
        }
    });
    if !hostile {
        let table = NoiseTable::new(Law::Discrete, session.noise).map_err(|error| unfit(&error))?;
        let mut key = Zeroizing::new([0; 32]);
        masked::random(&mut *key);
        NoiseStream::new(&table, &NoiseKey::new(*key)).add_to(&mut steps).map_err(|error| unfit(&error))?;
    }
    // Modulo 2³²: the low words.
    Ok(Zeroizing::new(steps.iter().map(|step| *step as u32).collect()))
}

/// z = σ/Δ of a group's sum with the shares that are certain when `colluders` of it tell theirs: Δ is the bound that rounded
/// updates are held to, the clip and a little more. 0 without shares.
pub(crate) fn noise_multiplier(session: &Session, colluders: u32) -> f64 {
    let honest = f64::from(session.honest_shares(colluders));
    // A grid that cannot be is refused once noise is drawn on it.
    Grid::new(session.clip_l2, session.bits, 0.0, 1)
        .map_or(0.0, |grid| session.noise * honest.sqrt() / rounded_bound(&grid) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use testudo_protocol::secagg::DISCRETE_GAUSSIAN;

    fn session() -> Session {
        Session {
            dimension: 5000,
            bits: 20,
            kappa: 0.5,
            clip_l2: 0.5,
            mechanism: DISCRETE_GAUSSIAN.into(),
            noise: 1000.0,
            delta: 1e-6,
            honest: 9,
            ..fixture::session()
        }
    }

    fn lifted(words: &[u32]) -> Vec<f64> {
        words.iter().map(|word| f64::from(word.cast_signed())).collect()
    }

    fn norm(values: &[f64]) -> f64 {
        values.iter().map(|value| value * value).sum::<f64>().sqrt()
    }

    #[test]
    fn a_share_of_the_asked_size_is_on_every_word_and_drawn_anew() {
        let zeros = vec![0.0; 5000];
        let [first, second] = [0, 1].map(|_| words(&session(), &zeros, false).unwrap());
        assert_eq!(first.len(), 8192, "whole blocks, all of them noised");
        assert_ne!(*first, *second);
        let deviation = norm(&lifted(&first)) / 8192_f64.sqrt();
        assert!((deviation / 1000.0 - 1.0).abs() < 0.04, "{deviation}");
    }

    #[test]
    fn an_update_is_clipped_before_its_share_is_added() {
        // 10⁶ times the clip; the share is small beside it.
        let far = Session { noise: 2.0, ..session() };
        let sum = lifted(&words(&far, &vec![7000.0; 5000], false).unwrap());
        assert!((norm(&sum) / 1_048_576.0 - 1.0).abs() < 0.01, "{}", norm(&sum));
        let spread = sum.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
        assert!(spread < 0.1 * 1_048_576.0, "rotated: no word holds more than a little, {spread}");
        let mut hostile = lifted(&words(&far, &vec![1.0; 5000], true).unwrap());
        assert!(norm(&hostile) > 50.0 * 1_048_576.0);
        // Turned back as a row is, it is what was sent.
        let rotation = Rotation::new(far.digest().0);
        for (index, block) in (0..).zip(hostile.as_chunks_mut::<BLOCK>().0) {
            rotation.inverse(index, block);
        }
        let step = 1_048_576.0 / 0.5;
        assert!(hostile[..5000].iter().all(|value| (value / step - 1.0).abs() < 1e-4), "{}", hostile[0]);
    }

    #[test]
    fn what_is_not_finite_is_the_share_alone() {
        let words = words(&session(), &[f32::NAN; 5000], false).unwrap();
        assert!(norm(&lifted(&words)) < 1.1 * 1000.0 * 8192_f64.sqrt());
    }
}
