//! Budgets without storage: what a release is charged, whether it fits, and what becomes of a reservation.
//!
//! A charge is the mechanism's *parameters*, never an ε: better accountants may re-read history. Amounts are whole
//! multiples of 2⁻⁴⁰, rounded up, so that sums are exact. The store keeps an [`Account`] and its [`Entry`]s in one
//! transaction with the release; every rule of when is here.

mod account;
mod charge;
mod entry;

pub use account::{Account, Exhausted, Gate, Outcome, ReservationError, ReservationState};
pub use charge::{ACCOUNTANT_VERSION, Charge, ChargeMechanism};
pub use entry::{Entry, VerifyError, verify};

use crate::{error::ParameterError, math::fast};

/// The δ to use for a population of `clients` if none is given: N^−1.1.
#[must_use]
pub fn default_delta(clients: u64) -> f64 {
    fast::exp(-1.1 * fast::ln(clients.max(2) as f64))
}

/// Whether δ is small enough for a population: `Ok(true)` asks for a warning, δ ≥ 1/(10N).
///
/// # Errors
/// δ ≥ 1/N, which would permit to publish one client's data.
pub fn check_delta(delta: f64, clients: u64) -> Result<bool, ParameterError> {
    let clients = clients.max(1) as f64;
    if delta.is_nan() || delta <= 0.0 || delta * clients >= 1.0 {
        let fix = format!(
            "give less than 1/{clients}, one over the population; {:e} is usual",
            default_delta(clients as u64)
        );
        return Err(ParameterError::new("delta", delta, fix));
    }
    Ok(delta * 10.0 * clients >= 1.0)
}

#[cfg(test)]
mod tests;
