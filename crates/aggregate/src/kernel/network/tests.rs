use super::*;

fn ordered(a: u32, b: u32) -> (u32, u32) {
    (a.min(b), a.max(b))
}

/// What a step does not keep is overwritten, so that reading it would show.
fn run(network: &[Step], values: &mut [u32]) {
    let set = |values: &mut [u32], to: [usize; 2], (low, high): (u32, u32), keep: Keep| {
        values[to[0]] = if matches!(keep, Keep::Low | Keep::Both) { low } else { 7 };
        values[to[1]] = if matches!(keep, Keep::High | Keep::Both) { high } else { 7 };
    };
    for step in network {
        match *step {
            Step::Sort(start) => {
                let run = &mut values[start..start + RUN];
                sort_run!(run, ordered);
            }
            Step::Pair { low, high, keep } => {
                let sorted = ordered(values[low], values[high]);
                set(values, [low, high], sorted, keep);
            }
            Step::Merge8(start) => {
                let run = &mut values[start..start + 8];
                merge_run!(8, run, ordered);
            }
            Step::Merge16(start) => {
                let run = &mut values[start..start + 16];
                merge_run!(16, run, ordered);
            }
            Step::Quads { first, count, quarter, mirrored, lower, upper } => {
                for i in 0..count {
                    let places = places(first, quarter, mirrored, i);
                    let [a, b, c, d] = places.map(|place| values[place]);
                    let (c, d) = if mirrored.is_some() { (d, c) } else { (c, d) };
                    set(values, [places[0], places[1]], ordered(a.min(c), b.min(d)), lower);
                    set(values, [places[2], places[3]], ordered(a.max(c), b.max(d)), upper);
                }
            }
        }
    }
}

/// By the zero-one principle a network that sorts every 0/1 input sorts everything.
#[test]
fn the_pruned_network_puts_every_pair_of_ranks_in_place() {
    for values in 1..=18 {
        for low in 0..values {
            for high in (low..values).filter(|high| values < 12 || low + high == values - 1) {
                let network = selection_network(values, &[low, high]);
                for input in 0..1_u32 << values {
                    let mut column: Vec<u32> = (0..values).map(|i| input >> i & 1).collect();
                    let zeros = column.iter().filter(|&&bit| bit == 0).count();
                    run(&network, &mut column);
                    assert_eq!(column[low], u32::from(low >= zeros), "{values}, {low}, {high}");
                    assert_eq!(column[high], u32::from(high >= zeros), "{values}, {low}, {high}");
                }
            }
        }
    }
}

#[test]
fn large_networks_sort_pseudo_random_values() {
    for values in [12, 16, 31, 33, 48, 64, 65, 100, 127, 255, 256, 1000, 1024] {
        let ranks: Vec<usize> = (0..values).collect();
        let whole = selection_network(values, &ranks);
        let middle = selection_network(values, &[values / 3, values / 2]);
        for seed in 0..50_u32 {
            let mut column: Vec<u32> =
                (0..values as u32).map(|i| (i + seed).wrapping_mul(2_654_435_761) >> 7).collect();
            let mut sorted = column.clone();
            sorted.sort_unstable();
            let mut selected = column.clone();
            run(&whole, &mut column);
            assert_eq!(column, sorted);
            run(&middle, &mut selected);
            assert_eq!(selected[values / 3], sorted[values / 3]);
            assert_eq!(selected[values / 2], sorted[values / 2]);
        }
    }
}

#[test]
fn pruning_removes_steps() {
    let ranks: Vec<usize> = (0..64).collect();
    let merges = |ranks: &[usize]| {
        let merge = |step: &&Step| matches!(step, Step::Merge8(_) | Step::Merge16(_));
        selection_network(64, ranks).iter().filter(merge).count()
    };
    assert!(merges(&[31, 32]) < merges(&ranks));
    assert!(selection_network(1, &[0]).is_empty());
}
