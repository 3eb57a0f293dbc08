//! Scalars and short vectors through opendp, on the server alone.
//!
//! opendp's measurements are `!Send`: everything is built and used inside one call, on a thread that may block. `invoke`
//! checks neither lengths nor finiteness, so integers alone go in. Its randomness cannot be repeated: what it returns is
//! stored with the release that publishes it.

use crate::error::{ParameterError, within};
use opendp::{
    domains::{AtomDomain, VectorDomain},
    measurements::make_gaussian,
    measures::ZeroConcentratedDivergence,
    metrics::L2Distance,
    traits::samplers::sample_discrete_gaussian,
};

/// The longest vector: it takes a fifth of a second.
pub const MOST: usize = 65_536;

/// Integers with discrete Gaussian noise of standard deviation `sigma`, and the ρ of zCDP that opendp proves for an L2
/// `sensitivity`.
///
/// # Errors
/// More than [`MOST`] values, σ or sensitivity outside their limits, or an error of opendp.
pub fn noised(values: &[i64], sigma: f64, sensitivity: f64) -> Result<(Vec<i64>, f64), ParameterError> {
    if values.is_empty() || values.len() > MOST {
        return Err(ParameterError::new("values", values.len(), format!("give 1 to {MOST}")));
    }
    within("sigma_grid", sigma, 1e-3, 2_f64.powi(36))?;
    within("sensitivity", sensitivity, 0.0, 2_f64.powi(36))?;
    let failed = |error: opendp::error::Error| ParameterError::new("sigma_grid", sigma, error.to_string());
    let domain = VectorDomain::new(AtomDomain::<i64>::default()).with_size(values.len());
    let measurement =
        make_gaussian::<_, _, ZeroConcentratedDivergence>(domain, L2Distance::<f64>::default(), sigma, None)
            .map_err(failed)?;
    let noised = measurement.invoke(&values.to_vec()).map_err(failed)?;
    let rho = measurement.map(&sensitivity).map_err(failed)?;
    Ok((noised, rho))
}

/// One discrete Gaussian of opendp's own sampler, for comparison with ours.
///
/// # Errors
/// No randomness.
pub fn sample(sigma: u32) -> Result<i64, ParameterError> {
    let value = sample_discrete_gaussian(sigma.into())
        .map_err(|error| ParameterError::new("sigma_grid", sigma, error.to_string()))?;
    i64::try_from(value).map_err(|_| ParameterError::new("sigma_grid", sigma, "give less: a value left 64 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accountant::zcdp;

    #[test]
    fn the_privacy_map_is_that_of_the_accountant() {
        let (noised, rho) = noised(&[5; 100], 40.0, 10.0).unwrap();
        assert_eq!(noised.len(), 100);
        let ours = zcdp::rho(4.0, 1);
        assert!((rho - ours).abs() < 1e-12, "{rho} {ours}");
    }

    #[test]
    fn what_opendp_does_not_check_is_checked_first() {
        assert!(noised(&[], 1.0, 1.0).is_err());
        assert!(noised(&vec![0; MOST + 1], 1.0, 1.0).is_err());
        assert!(noised(&[1], f64::NAN, 1.0).is_err());
        assert!(noised(&[1], 1.0, -1.0).is_err());
    }
}
