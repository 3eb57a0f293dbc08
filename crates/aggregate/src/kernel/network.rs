//! Sorting networks, pruned to the ranks that are needed.

/// One step of a network: order the values at `low` and `high`, keeping only what later steps read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// Where the smaller value goes; less than `high`.
    pub(crate) low: usize,
    /// Where the larger value goes.
    pub(crate) high: usize,
    /// Which of the two is still needed.
    pub(crate) keep: Keep,
}

/// Which results of an exchange later steps read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Both,
    Low,
    High,
}

/// The exchanges that put the values of the given ranks in place.
///
/// Batcher's merge exchange (Knuth, The Art of Computer Programming, volume 3, algorithm 5.2.2M), which works for any
/// number of values, without the exchanges that do not influence the ranks.
pub(crate) fn selection_network(values: usize, ranks: &[usize]) -> Vec<Exchange> {
    let mut needed = vec![false; values];
    for &rank in ranks {
        needed[rank] = true;
    }
    let mut pruned = Vec::new();
    for (low, high) in merge_exchange(values).into_iter().rev() {
        let keep = match (needed[low], needed[high]) {
            (true, true) => Keep::Both,
            (true, false) => Keep::Low,
            (false, true) => Keep::High,
            (false, false) => continue,
        };
        (needed[low], needed[high]) = (true, true);
        pruned.push(Exchange { low, high, keep });
    }
    pruned.reverse();
    pruned
}

fn merge_exchange(values: usize) -> Vec<(usize, usize)> {
    let mut exchanges = Vec::new();
    if values < 2 {
        return exchanges;
    }
    let top = 1_usize << (values - 1).ilog2();
    let mut p = top;
    while p > 0 {
        let (mut q, mut r, mut d) = (top, 0, p);
        loop {
            exchanges.extend((0..values - d).filter(|i| i & p == r).map(|i| (i, i + d)));
            if q == p {
                break;
            }
            (d, q, r) = (q - p, q / 2, p);
        }
        p /= 2;
    }
    exchanges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(network: &[Exchange], values: &mut [u32]) {
        for exchange in network {
            let (a, b) = (values[exchange.low], values[exchange.high]);
            if exchange.keep != Keep::High {
                values[exchange.low] = a.min(b);
            }
            if exchange.keep != Keep::Low {
                values[exchange.high] = a.max(b);
            }
        }
    }

    /// By the zero-one principle a network that sorts every 0/1 input sorts everything.
    #[test]
    fn the_pruned_network_puts_every_pair_of_ranks_in_place() {
        for values in 1..=11 {
            for low in 0..values {
                for high in low..values {
                    let network = selection_network(values, &[low, high]);
                    for input in 0..1_u32 << values {
                        let mut column: Vec<u32> = (0..values).map(|i| input >> i & 1).collect();
                        let zeros = column.iter().filter(|&&bit| bit == 0).count();
                        run(&network, &mut column);
                        assert_eq!(column[low], u32::from(low >= zeros));
                        assert_eq!(column[high], u32::from(high >= zeros));
                    }
                }
            }
        }
    }

    #[test]
    fn large_networks_sort_pseudo_random_values() {
        for values in [12, 16, 33, 64, 100, 255, 256] {
            let ranks: Vec<usize> = (0..values).collect();
            let network = selection_network(values, &ranks);
            for seed in 0..50_u32 {
                let mut column: Vec<u32> =
                    (0..values as u32).map(|i| (i + seed).wrapping_mul(2_654_435_761) >> 7).collect();
                let mut sorted = column.clone();
                sorted.sort_unstable();
                run(&network, &mut column);
                assert_eq!(column, sorted);
            }
        }
    }

    #[test]
    fn pruning_removes_exchanges() {
        assert!(selection_network(64, &[31, 32]).len() < merge_exchange(64).len());
        assert!(selection_network(1, &[0]).is_empty());
    }
}
