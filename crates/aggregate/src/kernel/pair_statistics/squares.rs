//! The innermost loops: some rows against as many others, with the sums of all their pairs in registers.

/// Sums kept per pair.
pub(super) const SUMS: usize = 8;

/// Coordinates widened to f64 at a time, as groups of [`SUMS`].
pub(super) const GROUPS: usize = 16;
pub(super) const TILE: usize = GROUPS * SUMS;

pub(super) type Sums = [f64; SUMS];

/// The sums of the pairs of N rows and N others, kept in registers while going through a tile.
pub(super) type Square<const N: usize> = [[Sums; N]; N];

/// A tile of one row in f64, aligned so that no vector straddles two cache lines.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Wide(pub(super) [Sums; GROUPS]);

/// How many rows and others make a square.
pub(super) trait Squares<const N: usize> {
    /// Adds the differences of N rows from N others.
    fn add_square(sums: &mut Square<N>, rows: &[Wide; N], others: &[Wide; N]);

    /// Adds the differences among N rows; on the diagonal, from the origin.
    fn add_triangle(sums: &mut Square<N>, rows: &[Wide; N]);
}

pub(super) struct Blocking;

/// Written out, so that the loop over the lanes is the innermost one: then it becomes whole vectors, and the totals
/// stay in registers.
macro_rules! squares {
    ($n:literal: $($row:literal)*, $square:tt, $triangle:tt) => {
        impl Squares<$n> for Blocking {
            #[inline(always)]
            fn add_square(sums: &mut Square<$n>, rows: &[Wide; $n], others: &[Wide; $n]) {
                for lane in 0..SUMS {
                    let mut totals = [[0.0; $n]; $n];
                    squares!(@load totals, sums, lane, $square);
                    squares!(@add totals, rows, others, lane, $square);
                    squares!(@store totals, sums, lane, $square);
                }
            }

            #[inline(always)]
            fn add_triangle(sums: &mut Square<$n>, rows: &[Wide; $n]) {
                for lane in 0..SUMS {
                    let mut totals = [[0.0; $n]; $n];
                    squares!(@load totals, sums, lane, $triangle);
                    squares!(@add totals, rows, rows, lane, $triangle);
                    squares!(@store totals, sums, lane, $triangle);
                    $(
                        let mut total = sums[$row][$row][lane];
                        let Wide(groups) = &rows[$row];
                        squares!(@norm total, groups, lane, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
                        sums[$row][$row][lane] = total;
                    )*
                }
            }
        }
    };
    (@load $totals:ident, $sums:ident, $lane:ident, [$(($row:literal $other:literal))*]) => {
        $($totals[$row][$other] = $sums[$row][$other][$lane];)*
    };
    (@store $totals:ident, $sums:ident, $lane:ident, [$(($row:literal $other:literal))*]) => {
        $($sums[$row][$other][$lane] = $totals[$row][$other];)*
    };
    (@norm $total:ident, $groups:ident, $lane:ident, $($group:literal)*) => {
        $($total = $groups[$group][$lane].mul_add($groups[$group][$lane], $total);)*
    };
    (@add $totals:ident, $rows:ident, $others:ident, $lane:ident, $pairs:tt) => {
        squares!(@groups $totals, $rows, $others, $lane, $pairs, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    };
    (@groups $totals:ident, $rows:ident, $others:ident, $lane:ident, $pairs:tt, $($group:literal)*) => {
        $(squares!(@group $group, $totals, $rows, $others, $lane, $pairs);)*
    };
    (@group $group:literal, $totals:ident, $rows:ident, $others:ident, $lane:ident,
        [$(($row:literal $other:literal))*]) => {
        $(
            let difference = $rows[$row].0[$group][$lane] - $others[$other].0[$group][$lane];
            $totals[$row][$other] = difference.mul_add(difference, $totals[$row][$other]);
        )*
    };
}

squares!(2: 0 1, [(0 0) (0 1) (1 0) (1 1)], [(0 1)]);
squares!(4: 0 1 2 3,
    [(0 0) (0 1) (0 2) (0 3) (1 0) (1 1) (1 2) (1 3) (2 0) (2 1) (2 2) (2 3) (3 0) (3 1) (3 2) (3 3)],
    [(0 1) (0 2) (0 3) (1 2) (1 3) (2 3)]);
