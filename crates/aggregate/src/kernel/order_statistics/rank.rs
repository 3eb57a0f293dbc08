//! Puts the values of some ranks in place, in every lane.

use super::lanes::{LANES, Lanes};
use crate::element::Element;
use crate::kernel::network::{Keep, RUN, Step, merge_run, selection_network, sort_run};

/// Most rows for the network. Its n log² n steps are done for many coordinates at once, and at 6,000 rows still take
/// half the time of selection; but they are also kept in memory.
const NETWORK_ROWS: usize = 8192;

/// How the ranks are found, for one number of rows.
#[derive(Clone, Debug)]
pub(super) enum Finder {
    Network(Vec<Step>),
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

    /// Permutes the values of each lane until those of the ranks are at their index; the others are undefined.
    #[inline(always)]
    pub(super) fn place<T: Element>(&self, tile: &[Lanes<T>], values: &mut [Lanes<T>], column: &mut Vec<T>) {
        match self {
            Self::Network(network) => {
                let unsorted = tile.len() / RUN * RUN;
                values[unsorted..].copy_from_slice(&tile[unsorted..]);
                run_all(network, tile, values);
            }
            Self::Selection { low, high } => select_all(tile, values, *low, *high, column),
            Self::Sorting => sort_all(tile, values, column),
        }
    }
}

/// Runs the network. Whole runs of [`RUN`] values are read from `tile`, the rest is in `values`.
#[inline(always)]
fn run_all<T: Element>(network: &[Step], tile: &[Lanes<T>], values: &mut [Lanes<T>]) {
    for step in network {
        match *step {
            Step::Sort(start) => sort_lanes(&tile[start..start + RUN], &mut values[start..start + RUN]),
            Step::Merge8(start) => merge_8_lanes(&mut values[start..start + 8]),
            Step::Merge16(start) => merge_16_lanes(&mut values[start..start + 16]),
            Step::Pair { low, high, keep } => {
                let (lows, highs) = values.split_at_mut(high);
                pair(&mut lows[low].0, &mut highs[0].0, keep);
            }
            Step::Quads { first, count, quarter, mirrored, lower, upper } => {
                let (a, rest) = values[first..].split_at_mut(quarter);
                // Mirrored quads take c and d from the end of their quarters.
                let third = mirrored.map_or(quarter, |last| last + 1 - count - 2 * quarter - first);
                let (b, rest) = rest.split_at_mut(third);
                let (c, d) = rest.split_at_mut(quarter);
                let (a, b, c, d) = (&mut a[..count], &mut b[..count], &mut c[..count], &mut d[..count]);
                for i in 0..count {
                    let other = if mirrored.is_some() { count - 1 - i } else { i };
                    let (c, d) = (&mut c[other].0, &mut d[other].0);
                    quad(&mut a[i].0, &mut b[i].0, c, d, mirrored.is_some(), lower, upper);
                }
            }
        }
    }
}

#[inline(always)]
fn exchange<T: Element>(a: T, b: T) -> (T, T) {
    (if b < a { b } else { a }, if b < a { a } else { b })
}

#[inline(always)]
fn pair<T: Element>(low: &mut [T; LANES], high: &mut [T; LANES], keep: Keep) {
    for lane in 0..LANES {
        let (smaller, larger) = exchange(low[lane], high[lane]);
        if keep != Keep::High {
            low[lane] = smaller;
        }
        if keep != Keep::Low {
            high[lane] = larger;
        }
    }
}

/// The comparisons of one quad, those that are needed.
#[inline(always)]
fn quad<T: Element>(
    a: &mut [T; LANES],
    b: &mut [T; LANES],
    c: &mut [T; LANES],
    d: &mut [T; LANES],
    mirrored: bool,
    lower: Keep,
    upper: Keep,
) {
    // A mirrored quad is a straight one whose larger values change places at the end.
    match (lower, upper, mirrored) {
        (lower, Keep::Neither, false) => lower_half(a, b, c, d, lower),
        (lower, Keep::Neither, true) => lower_half(a, b, d, c, lower),
        (Keep::Neither, upper, false) => upper_half(a, b, c, d, upper),
        (Keep::Neither, upper, true) => upper_half(b, a, c, d, upper),
        (_, _, false) => whole(a, b, c, d),
        (_, _, true) => whole_mirrored(a, b, c, d),
    }
}

// The places of a quad are separate arguments, so that the compiler knows that they are apart.

#[inline(always)]
fn whole<T: Element>(a: &mut [T; LANES], b: &mut [T; LANES], c: &mut [T; LANES], d: &mut [T; LANES]) {
    for lane in 0..LANES {
        let ((low, high), (other_low, other_high)) = (exchange(a[lane], c[lane]), exchange(b[lane], d[lane]));
        (a[lane], b[lane]) = exchange(low, other_low);
        (c[lane], d[lane]) = exchange(high, other_high);
    }
}

#[inline(always)]
fn whole_mirrored<T: Element>(a: &mut [T; LANES], b: &mut [T; LANES], c: &mut [T; LANES], d: &mut [T; LANES]) {
    for lane in 0..LANES {
        let ((low, high), (other_low, other_high)) = (exchange(a[lane], d[lane]), exchange(b[lane], c[lane]));
        (a[lane], b[lane]) = exchange(low, other_low);
        (c[lane], d[lane]) = exchange(high, other_high);
    }
}

/// The two smaller values, or one of them.
#[inline(always)]
fn lower_half<T: Element>(a: &mut [T; LANES], b: &mut [T; LANES], c: &[T; LANES], d: &[T; LANES], keep: Keep) {
    let lower = |a, b, c, d| exchange(exchange(a, c).0, exchange(b, d).0);
    match keep {
        Keep::Low => (0..LANES).for_each(|lane| a[lane] = lower(a[lane], b[lane], c[lane], d[lane]).0),
        Keep::High => (0..LANES).for_each(|lane| b[lane] = lower(a[lane], b[lane], c[lane], d[lane]).1),
        Keep::Both | Keep::Neither => {
            for lane in 0..LANES {
                (a[lane], b[lane]) = lower(a[lane], b[lane], c[lane], d[lane]);
            }
        }
    }
}

/// The two larger values, or one of them.
#[inline(always)]
fn upper_half<T: Element>(a: &[T; LANES], b: &[T; LANES], c: &mut [T; LANES], d: &mut [T; LANES], keep: Keep) {
    let upper = |a, b, c, d| exchange(exchange(a, c).1, exchange(b, d).1);
    match keep {
        Keep::Low => (0..LANES).for_each(|lane| c[lane] = upper(a[lane], b[lane], c[lane], d[lane]).0),
        Keep::High => (0..LANES).for_each(|lane| d[lane] = upper(a[lane], b[lane], c[lane], d[lane]).1),
        Keep::Both | Keep::Neither => {
            for lane in 0..LANES {
                (c[lane], d[lane]) = upper(a[lane], b[lane], c[lane], d[lane]);
            }
        }
    }
}

#[inline(always)]
fn sort_lanes<T: Element>(from: &[Lanes<T>], run: &mut [Lanes<T>]) {
    let (Some(from), Some(run)) = (from.first_chunk::<RUN>(), run.first_chunk_mut::<RUN>()) else { return };
    for lane in 0..LANES {
        let mut values = [T::ZERO; RUN];
        for place in 0..RUN {
            values[place] = from[place].0[lane];
        }
        sort_run!(values, exchange);
        for place in 0..RUN {
            run[place].0[lane] = values[place];
        }
    }
}

#[inline(always)]
fn merge_8_lanes<T: Element>(run: &mut [Lanes<T>]) {
    let Some(run) = run.first_chunk_mut::<8>() else { return };
    for lane in 0..LANES {
        let mut values = [T::ZERO; 8];
        for place in 0..8 {
            values[place] = run[place].0[lane];
        }
        merge_run!(8, values, exchange);
        for place in 0..8 {
            run[place].0[lane] = values[place];
        }
    }
}

#[inline(always)]
fn merge_16_lanes<T: Element>(run: &mut [Lanes<T>]) {
    let Some(run) = run.first_chunk_mut::<16>() else { return };
    for lane in 0..LANES {
        let mut values = [T::ZERO; 16];
        for place in 0..16 {
            values[place] = run[place].0[lane];
        }
        merge_run!(16, values, exchange);
        for place in 0..16 {
            run[place].0[lane] = values[place];
        }
    }
}

#[inline(always)]
fn select_all<T: Element>(tile: &[Lanes<T>], values: &mut [Lanes<T>], low: usize, high: usize, column: &mut Vec<T>) {
    for lane in 0..LANES {
        column.clear();
        column.extend(tile.iter().map(|lanes| lanes.0[lane]));
        let (_, lowest, above) = column.select_nth_unstable_by(low, T::order);
        values[low].0[lane] = *lowest;
        if high > low {
            values[high].0[lane] = *above.select_nth_unstable_by(high - low - 1, T::order).1;
        }
    }
}

#[inline(always)]
fn sort_all<T: Element>(tile: &[Lanes<T>], values: &mut [Lanes<T>], column: &mut Vec<T>) {
    for lane in 0..LANES {
        column.clear();
        column.extend(tile.iter().map(|lanes| lanes.0[lane]));
        column.sort_unstable_by(T::order);
        for (lanes, value) in values.iter_mut().zip(&*column) {
            lanes.0[lane] = *value;
        }
    }
}
