//! `privacy.mechanism = "tree"` and `"matrix"`: what is accepted, its figures, and what is refused.

use super::{privacy::PRIVATE, *};
use testudo_privacy::accountant::{matrix::Toeplitz, tree};

fn tree(more: &str) -> String {
    PRIVATE.replace("\"gaussian\"", &format!("\"tree\"\n{more}"))
}

fn matrix(more: &str) -> String {
    PRIVATE.replace("\"gaussian\"", &format!("\"matrix\"\n{more}"))
}

#[test]
fn a_run_costs_the_whole_whatever_the_number_of_releases() {
    let steps = f64::from(1 << 24);
    // Two participations three apart: two rounds strictly between them.
    let square = tree::sensitivity_squared(10, 2, 2).unwrap() as f64;
    let toeplitz = |bands| Toeplitz::square_root(10, bands).unwrap().sensitivity(2, 3).unwrap();
    for (text, sensitivity) in [
        (tree("participations = 2\nseparation = 3"), square.sqrt()),
        (matrix("participations = 2\nseparation = 3"), toeplitz(10)),
        (matrix("participations = 2\nseparation = 3\nbands = 3"), toeplitz(3)),
        (matrix("participations = 2\nseparation = 3\ncoefficients = [2.0, 1.0]"), 2.5_f64.sqrt()),
        (matrix("participations = 10\nbands = 1"), 10_f64.sqrt()),
    ] {
        let privacy = spec(&text).privacy.unwrap();
        let charge = &privacy.charge;
        let found = charge.sensitivity_grid as f64 / steps * f64::from(charge.releases).sqrt();
        // Coefficients are rounded to a few bits, which is another matrix.
        assert!((found / sensitivity - 1.0).abs() < 0.01, "{found} {sensitivity}: {text}");
        assert_eq!((privacy.epsilon(1), privacy.charges(10)), (privacy.epsilon(10), 1), "{text}");
        assert_eq!((privacy.charge_of(1), privacy.charge_of(4)), (*charge, charge.step(4)));
        assert_eq!(privacy.charge_of(4).rho_units(), Some(0));
    }
}

#[test]
fn the_report_says_mechanism_limits_and_what_they_rest_on() {
    for (text, noise) in [
        (tree("participations = 2\nseparation = 3"), "nodes of a binary tree"),
        (matrix("participations = 2\nseparation = 3\nbands = 4"), "correlated over 4 rounds"),
    ] {
        let all = spec(&text).guarantees.join("\n");
        for part in [
            noise,
            "more than 2 of the 10 rounds",
            "at least 3 apart",
            "at least 500 clients are needed",
            "charged with its first release",
            "not covered: ",
        ] {
            assert!(all.contains(part), "{part}: {all}");
        }
    }
}

#[test]
fn correlated_noise_without_proof_or_limits_is_refused_with_why_and_fix() {
    let limits = "participations = 2\nseparation = 3";
    let long = |limits: &str| {
        let text = matrix(limits).replace("rounds = 10", "rounds = 65536");
        text.replace("clients = 10000", "clients = 100000000").replace("delta = 1e-6", "delta = 1e-10")
    };
    let cases = [
        (tree(""), "privacy.participations", "missing", "participations = 1"),
        (tree("participations = 0"), "privacy.participations", "outside", "from 1"),
        (
            tree("participations = 100").replace("rounds = 10", "rounds = 200"),
            "privacy.participations",
            "does not fit",
            "64",
        ),
        (tree("participations = 2\nseparation = 0"), "privacy.separation", "outside", "from 1"),
        (tree("participations = 2\nseparation = 11"), "privacy.separation", "outside", "to 10"),
        (tree(&format!("{limits}\nbands = 3")), "privacy.bands", "no effect on a tree", "matrix"),
        (tree(&format!("{limits}\ncoefficients = [1.0]")), "privacy.coefficients", "no effect on a tree", "matrix"),
        (tree(limits).replace("rounds = 10", "rounds = 20000"), "rounds", "accounted for", "16384"),
        (matrix(limits).replace("rounds = 10", "rounds = 100000"), "rounds", "accounted for", "65536"),
        (matrix(&format!("{limits}\nbands = 11")), "privacy.bands", "outside", "to 10"),
        (matrix(&format!("{limits}\nbands = 2\ncoefficients = [1.0]")), "privacy.bands", "already", "remove"),
        (matrix(&format!("{limits}\ncoefficients = []")), "privacy.coefficients", "does not fit", "1 to 10"),
        (matrix(&format!("{limits}\ncoefficients = [0.0]")), "privacy.coefficients", "does not fit", "positive"),
        (
            matrix(&format!("{limits}\ncoefficients = [1.0, 0.1, 0.2, 0.3]")),
            "privacy.separation",
            "does not fit",
            "number of bands",
        ),
        (long("participations = 2"), "privacy.bands", "65536", "at most 8192"),
        (
            long("participations = 65536\nbands = 2048"),
            "privacy.participations",
            "65536",
            "at most 32768 with 2048 bands",
        ),
        (
            matrix(&format!("{limits}\ncoefficients = [1.0, 1e15]")),
            "privacy.coefficients",
            "does not fit",
            "add up to at most",
        ),
        (
            matrix(limits).replace("noise_multiplier = 2.0", "noise_multiplier = 200.0"),
            "privacy.grid_bits",
            "does not fit",
            "fewer grid_bits",
        ),
        (
            tree(limits).replace("kind = \"mean\"", "kind = \"trimmed_mean\"\nbyzantine = 1"),
            "privacy.mechanism",
            "sums",
            "mean",
        ),
        (tree(&format!("{limits}\nadaptive_clip = {{}}")), "privacy.adaptive_clip", "nothing is proved", "gaussian"),
        (tree(&format!("{limits}\nadjacency = \"replace_one\"")), "privacy.adjacency", "zero-out", "zero_out"),
        (
            tree(limits).replace("clients = 10000", "clients = 499"),
            "privacy.clients",
            "500 are needed",
            "raise participations",
        ),
        (
            tree("participations = 2\nseparation = 6").replace("clients = 10000", "clients = 599"),
            "privacy.clients",
            "600 are needed",
            "separation",
        ),
        (PRIVATE.replace("[privacy]", "[privacy]\nparticipations = 1"), "privacy.participations", "no effect", "tree"),
        (PRIVATE.replace("[privacy]", "[privacy]\nseparation = 1"), "privacy.separation", "no effect", "tree"),
        (PRIVATE.replace("[privacy]", "[privacy]\nbands = 1"), "privacy.bands", "no effect", "matrix"),
        (
            PRIVATE.replace("[privacy]", "[privacy]\ncoefficients = [1.0]"),
            "privacy.coefficients",
            "no effect",
            "matrix",
        ),
    ];
    for (text, key, what, fix) in cases {
        refused(&text, key, what, fix);
    }
}
