//! Puts the values of some ranks in place, in every lane.

use super::lanes::{LANES, Lanes};
use crate::element::Element;
use crate::kernel::network::{Exchange, Keep, selection_network};

/// Most rows for the network; its n log² n steps lose to selection beyond.
const NETWORK_ROWS: usize = 256;

/// How the ranks are found, for one number of rows.
#[derive(Clone, Debug)]
pub(super) enum Finder {
    Network(Vec<Exchange>),
    /// One or two ranks, in order.
    Selection {
        low: usize,
        high: usize,
    },
    /// Many ranks.
    Sorting,
}

impl Finder {
    /// The quickest way to the given ranks of `rows` values.
    pub(super) fn new(rows: usize, ranks: &[usize]) -> Self {
        if rows <= NETWORK_ROWS { Self::Network(selection_network(rows, ranks)) } else { Self::scalar(ranks) }
    }

    /// The way for many rows: a coordinate at a time.
    pub(super) fn scalar(ranks: &[usize]) -> Self {
        match *ranks {
            [low, high] => Self::Selection { low, high },
            _ => Self::Sorting,
        }
    }

    /// Space for [`Self::place`], which fills it.
    #[inline(always)]
    pub(super) fn column<T>(&self) -> Vec<T> {
        Vec::new()
    }

    /// Permutes the values of each lane until those of the ranks are at their index; the others are undefined.
    #[inline(always)]
    pub(super) fn place<T: Element>(&self, values: &mut [Lanes<T>], column: &mut Vec<T>) {
        match self {
            Self::Network(network) => exchange_all(network, values),
            Self::Selection { low, high } => select_all(values, *low, *high, column),
            Self::Sorting => sort_all(values, column),
        }
    }
}

#[inline(always)]
fn exchange_all<T: Element>(network: &[Exchange], values: &mut [Lanes<T>]) {
    for exchange in network {
        let (Lanes(a), Lanes(b)) = (values[exchange.low], values[exchange.high]);
        if exchange.keep != Keep::High {
            let Lanes(low) = &mut values[exchange.low];
            for lane in 0..LANES {
                low[lane] = if b[lane] < a[lane] { b[lane] } else { a[lane] };
            }
        }
        if exchange.keep != Keep::Low {
            let Lanes(high) = &mut values[exchange.high];
            for lane in 0..LANES {
                high[lane] = if b[lane] < a[lane] { a[lane] } else { b[lane] };
            }
        }
    }
}

#[inline(always)]
fn select_all<T: Element>(values: &mut [Lanes<T>], low: usize, high: usize, column: &mut Vec<T>) {
    for lane in 0..LANES {
        column.clear();
        column.extend(values.iter().map(|lanes| lanes.0[lane]));
        let (_, lowest, above) = column.select_nth_unstable_by(low, T::order);
        values[low].0[lane] = *lowest;
        if high > low {
            values[high].0[lane] = *above.select_nth_unstable_by(high - low - 1, T::order).1;
        }
    }
}

#[inline(always)]
fn sort_all<T: Element>(values: &mut [Lanes<T>], column: &mut Vec<T>) {
    for lane in 0..LANES {
        column.clear();
        column.extend(values.iter().map(|lanes| lanes.0[lane]));
        column.sort_unstable_by(T::order);
        for (lanes, value) in values.iter_mut().zip(&*column) {
            lanes.0[lane] = *value;
        }
    }
}
