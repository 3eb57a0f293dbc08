//! When updates arrive, in virtual time: a function of the seed, the round and the client.

use testudo_protocol::Tick;

use crate::random::{Purpose, stream};
use crate::scalar::Scalar;
use crate::scenario::Network;

/// Most milliseconds an update takes: beyond, it has not come.
const MOST: f64 = 1e15;

/// Milliseconds from the start of `round` to the arrival of `client`'s update: log-normal around the median, and
/// `slowness` times that for a straggler. 0 for everyone without a median.
pub fn arrival(network: &Network, seed: u64, round: u64, client: usize) -> Tick {
    if network.median_s == 0.0 {
        return 0;
    }
    let mut random = stream(seed, Purpose::Network, round, client as u64);
    let factor = Scalar::exp(network.spread * random.normal());
    let slowness = if random.uniform() < network.stragglers { network.slowness } else { 1.0 };
    (network.median_s * 1000.0 * factor * slowness).clamp(0.0, MOST) as Tick
}

/// Whether an honest `client` sends nothing in `round`.
pub fn drops_out(probability: f64, seed: u64, round: u64, client: usize) -> bool {
    probability > 0.0 && stream(seed, Purpose::Dropout, round, client as u64).uniform() < probability
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_median_everything_arrives_at_once() {
        assert!((0..50).all(|client| arrival(&Network::default(), 1, 1, client) == 0));
    }

    #[test]
    fn half_of_the_updates_arrive_before_the_median_and_stragglers_far_later() {
        let network = Network { median_s: 10.0, spread: 0.5, ..Network::default() };
        let times: Vec<Tick> = (0..4_000).map(|client| arrival(&network, 3, 1, client)).collect();
        let early = times.iter().filter(|time| **time < 10_000).count();
        assert!((1_850..2_150).contains(&early), "{early}");
        let slow = Network { stragglers: 0.25, slowness: 100.0, ..network };
        let late = (0..4_000).filter(|client| arrival(&slow, 3, 1, *client) > 100_000).count();
        assert!((850..1_150).contains(&late), "{late}");
        // The same draw otherwise: a straggler is only slower.
        assert!((0..100).all(|client| arrival(&slow, 3, 1, client) >= times[client]));
    }

    #[test]
    fn dropouts_come_at_the_given_rate_and_never_at_none() {
        let dropped = (0..4_000).filter(|client| drops_out(0.2, 5, 7, *client)).count();
        assert!((700..900).contains(&dropped), "{dropped}");
        assert!((0..100).all(|client| !drops_out(0.0, 5, 7, client) && drops_out(1.0, 5, 7, client)));
    }
}
