//! The innermost loops: some rows against as many others, with the sums of all their pairs in registers.

/// Sums kept per pair.
pub(super) const SUMS: usize = 8;

/// Vectors of a tile: coordinates of one row that are gone through before sums leave the registers.
pub(super) const GROUPS: usize = 16;

pub(super) type Sums = [f64; SUMS];

/// The sums of the pairs of N rows and N others.
pub(super) type Square<const N: usize> = [[Sums; N]; N];

/// A tile of one row, aligned so that no vector straddles two cache lines.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Tile<L, const LANES: usize>(pub(super) [[L; LANES]; GROUPS]);

/// How many rows and others make a square, and in which numbers their differences are squared and added up over a tile.
pub(super) trait Squares<L, const LANES: usize, const N: usize> {
    /// Adds the differences of N rows from N others.
    fn add_square(sums: &mut Square<N>, rows: &[Tile<L, LANES>; N], others: &[Tile<L, LANES>; N]);

    /// Adds the differences among N rows; on the diagonal, from the origin.
    fn add_triangle(sums: &mut Square<N>, rows: &[Tile<L, LANES>; N]);
}

pub(super) struct Blocking;

/// Written out, so that the loop over the lanes is the innermost one: then it becomes whole vectors, and the totals
/// stay in registers. In f64 the sums themselves go through the registers; in f32 those of one tile do, and are then
/// added to the sums, lane i and lane i + 8 to sum i.
macro_rules! squares {
    ($type:ident $lanes:literal $n:literal: $($row:literal)*, $square:tt, $triangle:tt) => {
        impl Squares<$type, $lanes, $n> for Blocking {
            #[inline(always)]
            fn add_square(
                sums: &mut Square<$n>, rows: &[Tile<$type, $lanes>; $n], others: &[Tile<$type, $lanes>; $n],
            ) {
                squares!(@begin $type $lanes $n, staged, sums);
                for lane in 0..$lanes {
                    let mut totals = [[0.0; $n]; $n];
                    squares!(@load totals, staged, lane, $square);
                    squares!(@add totals, rows, others, lane, $square);
                    squares!(@store totals, staged, lane, $square);
                }
                squares!(@end $type, staged, sums, $square);
            }

            #[inline(always)]
            fn add_triangle(sums: &mut Square<$n>, rows: &[Tile<$type, $lanes>; $n]) {
                squares!(@begin $type $lanes $n, staged, sums);
                for lane in 0..$lanes {
                    let mut totals = [[0.0; $n]; $n];
                    squares!(@load totals, staged, lane, $triangle);
                    squares!(@add totals, rows, rows, lane, $triangle);
                    squares!(@store totals, staged, lane, $triangle);
                    $(
                        let mut total = staged[$row][$row][lane];
                        let Tile(groups) = &rows[$row];
                        squares!(@norm total, groups, lane, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
                        staged[$row][$row][lane] = total;
                    )*
                }
                squares!(@end $type, staged, sums, $triangle);
                squares!(@end $type, staged, sums, [$(($row $row))*]);
            }
        }
    };
    (@begin f64 $lanes:literal $n:literal, $staged:ident, $sums:ident) => {
        let $staged = $sums;
    };
    (@begin f32 $lanes:literal $n:literal, $staged:ident, $sums:ident) => {
        let mut $staged = [[[0.0_f32; $lanes]; $n]; $n];
    };
    (@end f64, $staged:ident, $sums:ident, $pairs:tt) => {};
    (@end f32, $staged:ident, $sums:ident, [$(($row:literal $other:literal))*]) => {
        for lane in 0..SUMS {
            $(
                let (low, high) = ($staged[$row][$other][lane], $staged[$row][$other][lane + SUMS]);
                $sums[$row][$other][lane] += f64::from(low) + f64::from(high);
            )*
        }
    };
    (@load $totals:ident, $staged:ident, $lane:ident, [$(($row:literal $other:literal))*]) => {
        $($totals[$row][$other] = $staged[$row][$other][$lane];)*
    };
    (@store $totals:ident, $staged:ident, $lane:ident, [$(($row:literal $other:literal))*]) => {
        $($staged[$row][$other][$lane] = $totals[$row][$other];)*
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
    (both $type:ident $lanes:literal) => {
        squares!($type $lanes 2: 0 1, [(0 0) (0 1) (1 0) (1 1)], [(0 1)]);
        squares!($type $lanes 4: 0 1 2 3,
            [(0 0) (0 1) (0 2) (0 3) (1 0) (1 1) (1 2) (1 3) (2 0) (2 1) (2 2) (2 3) (3 0) (3 1) (3 2) (3 3)],
            [(0 1) (0 2) (0 3) (1 2) (1 3) (2 3)]);
    };
}

squares!(both f64 8);
squares!(both f32 16);
