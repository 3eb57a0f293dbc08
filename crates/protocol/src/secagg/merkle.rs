//! Merkle trees over rosters: a client checks its own entry and its group without seeing everybody's.
//!
//! Neighbours are hashed in pairs, level by level; a node without a neighbour moves up as it is (the shape of RFC
//! 6962). Leaves, nodes and the root are hashed under different labels, and the root commits to the number of leaves:
//! no node passes for a leaf, and no tree for one of another size.

use crate::{Digest, secagg::transcript::Writer};
use subtle::ConstantTimeEq;

/// Longest path, enough for 2^32 leaves.
pub const PATH_LIMIT: usize = 32;

/// A path that does not lead from a leaf to a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the Merkle path does not lead from the leaf to the root")]
pub struct WrongPath;

/// A Merkle tree with all its levels, 64 bytes for each leaf.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Leaves first, the single top node last; no level at all without leaves.
    levels: Vec<Vec<Digest>>,
    count: u32,
}

impl Tree {
    /// Hashes leaves into a tree.
    ///
    /// # Panics
    /// With 2^32 leaves or more, which the limit on cohorts excludes.
    pub fn new<Leaf: AsRef<[u8]>>(leaves: impl IntoIterator<Item = Leaf>) -> Self {
        let leaves: Vec<Digest> = leaves.into_iter().map(|leaf| hash_leaf(leaf.as_ref())).collect();
        let count = u32::try_from(leaves.len()).expect("a cohort is far below 2^32 clients");
        let mut levels = vec![leaves];
        while let Some(last) = levels.last().filter(|last| last.len() > 1) {
            let next = last.chunks(2).map(|pair| if let [a, b] = pair { hash_node(a, b) } else { pair[0] }).collect();
            levels.push(next);
        }
        Self { levels, count }
    }

    /// The root: a commitment to the leaves, their order and their number.
    pub fn root(&self) -> Digest {
        let top = self.levels.last().and_then(|level| level.first());
        hash_root(self.count, top.unwrap_or(&Digest([0; 32])))
    }

    /// Number of leaves.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The path of a leaf, from the bottom up; `None` beyond the last leaf.
    pub fn path(&self, index: u32) -> Option<Vec<Digest>> {
        if index >= self.count {
            return None;
        }
        let mut index = index as usize;
        let mut path = Vec::with_capacity(self.levels.len());
        for level in &self.levels {
            path.extend(level.get(index ^ 1));
            index /= 2;
        }
        Some(path)
    }
}

/// The root over leaves, without keeping the tree.
pub fn root<Leaf: AsRef<[u8]>>(leaves: impl IntoIterator<Item = Leaf>) -> Digest {
    Tree::new(leaves).root()
}

/// Number of nodes in the path of a leaf; `None` beyond the last leaf.
pub fn path_length(index: u32, count: u32) -> Option<usize> {
    (index < count).then(|| steps(index, count).filter(|step| *step != Step::Up).count())
}

/// Checks that a leaf stands at an index in a tree of `count` leaves with this root.
///
/// # Errors
/// [`WrongPath`] otherwise, or when the path has too few or too many nodes.
pub fn verify(root: &Digest, index: u32, count: u32, leaf: &[u8], path: &[Digest]) -> Result<(), WrongPath> {
    if path_length(index, count) != Some(path.len()) {
        return Err(WrongPath);
    }
    let mut path = path.iter();
    let mut node = hash_leaf(leaf);
    for step in steps(index, count) {
        node = match step {
            Step::Up => node,
            Step::Left => hash_node(&node, path.next().ok_or(WrongPath)?),
            Step::Right => hash_node(path.next().ok_or(WrongPath)?, &node),
        };
    }
    if hash_root(count, &node).0.ct_eq(&root.0).into() { Ok(()) } else { Err(WrongPath) }
}

/// What happens to a node on its way to the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It is the left one of a pair.
    Left,
    /// It is the right one of a pair.
    Right,
    /// It has no neighbour.
    Up,
}

fn steps(index: u32, count: u32) -> impl Iterator<Item = Step> {
    let mut place = (u64::from(index), u64::from(count));
    std::iter::from_fn(move || {
        let (index, width) = place;
        if width <= 1 {
            return None;
        }
        place = (index / 2, width.div_ceil(2));
        Some(match index % 2 {
            1 => Step::Right,
            _ if index + 1 < width => Step::Left,
            _ => Step::Up,
        })
    })
}

fn hash_leaf(leaf: &[u8]) -> Digest {
    Writer::new("testudo/merkle/leaf").bytes(leaf).digest()
}

fn hash_node(left: &Digest, right: &Digest) -> Digest {
    Writer::new("testudo/merkle/node").fixed(&left.0).fixed(&right.0).digest()
}

fn hash_root(count: u32, top: &Digest) -> Digest {
    Writer::new("testudo/merkle/root").u32(count).fixed(&top.0).digest()
}

#[cfg(test)]
mod tests;
