use super::*;
use proptest::prelude::*;

fn leaves(count: u32) -> Vec<[u8; 4]> {
    (0..count).map(u32::to_le_bytes).collect()
}

#[test]
fn every_leaf_of_every_small_tree_verifies_at_its_index_and_no_other() {
    for count in 1..20 {
        let leaves = leaves(count);
        let tree = Tree::new(&leaves);
        for index in 0..count {
            let path = tree.path(index).unwrap();
            assert_eq!(Some(path.len()), path_length(index, count));
            for claimed in 0..count + 3 {
                let found = verify(&tree.root(), claimed, count, &leaves[index as usize], &path);
                assert_eq!(found.is_ok(), claimed == index, "{index} of {count} as {claimed}");
            }
        }
        assert_eq!(tree.path(count), None);
    }
}

#[test]
fn a_path_proves_nothing_about_a_tree_of_another_size() {
    for count in 1..20u32 {
        let leaves = leaves(count);
        let tree = Tree::new(&leaves);
        for other in (0..40).filter(|&other| other != count) {
            let path = tree.path(0).unwrap();
            assert_eq!(verify(&tree.root(), 0, other, &leaves[0], &path), Err(WrongPath), "{count} as {other}");
        }
    }
}

#[test]
fn a_node_does_not_pass_for_a_leaf() {
    let tree = Tree::new(leaves(4));
    let (left, right) = (tree.levels[0][0], tree.levels[0][1]);
    let inner = [left.0, right.0].concat();
    // With one kind of hash for both, the left pair would be a leaf of the tree of two.
    assert_eq!(verify(&tree.root(), 0, 2, &inner, &tree.path(0).unwrap()[1..]), Err(WrongPath));
    assert_ne!(hash_leaf(&inner), hash_node(&left, &right));
}

#[test]
fn trees_without_leaves_and_with_one_have_different_roots() {
    assert_ne!(root::<[u8; 0]>([]), root([[]]));
    assert_ne!(root([[0; 32]]), root([[0; 31]]));
    assert_eq!(Tree::new::<[u8; 0]>([]).path(0), None);
    assert_eq!(verify(&root::<[u8; 0]>([]), 0, 0, &[], &[]), Err(WrongPath));
}

#[test]
fn paths_are_never_longer_than_the_limit() {
    for (index, count) in [(0, u32::MAX), (u32::MAX - 1, u32::MAX), (0, 1 << 31)] {
        assert!(path_length(index, count).unwrap() <= PATH_LIMIT);
    }
    assert_eq!(path_length(0, u32::MAX), Some(32));
    assert_eq!(path_length(5, 5), None);
}

proptest! {
    #[test]
    fn every_changed_bit_is_noticed(count in 2u32..60, index: prop::sample::Index, bit: prop::sample::Index) {
        let index = index.index(count as usize) as u32;
        let leaves = leaves(count);
        let tree = Tree::new(&leaves);
        let (root, path, leaf) = (tree.root(), tree.path(index).unwrap(), leaves[index as usize]);
        prop_assert!(verify(&root, index, count, &leaf, &path).is_ok());
        let flip = |bytes: &mut [u8]| {
            let bit = bit.index(8 * bytes.len());
            bytes[bit / 8] ^= 1 << (bit % 8);
        };
        let mut other = leaf;
        flip(&mut other);
        prop_assert!(verify(&root, index, count, &other, &path).is_err());
        let mut other = root;
        flip(&mut other.0);
        prop_assert!(verify(&other, index, count, &leaf, &path).is_err());
        for step in 0..path.len() {
            let mut other = path.clone();
            flip(&mut other[step].0);
            prop_assert!(verify(&root, index, count, &leaf, &other).is_err());
        }
        let longer = [&path[..], &[root]].concat();
        prop_assert!(verify(&root, index, count, &leaf, &longer).is_err());
        prop_assert!(verify(&root, index, count, &leaf, &path[1..]).is_err());
    }

    #[test]
    fn exchanged_leaves_change_the_root(count in 2u32..40, a: prop::sample::Index, b: prop::sample::Index) {
        let (a, b) = (a.index(count as usize), b.index(count as usize));
        let mut other = leaves(count);
        other.swap(a, b);
        prop_assert_eq!(root(&other) == root(leaves(count)), a == b);
    }
}
