//! `privacy.adaptive_clip`: what is accepted, its figures, and what is refused.

use super::{privacy::PRIVATE, *};

fn with(clip: &str) -> String {
    PRIVATE.replace("[privacy]", &format!("[privacy]\nadaptive_clip = {clip}"))
}

#[test]
fn an_adaptive_clip_costs_what_the_noise_multiplier_says() {
    let fixed = TaskSpec::new("task.toml", PRIVATE).unwrap();
    for (text, times) in [
        (with("{}"), 1.0),
        (with("{ quantile = 0.3, learning_rate = 0.1, min = 0.1, max = 3, bits_noise = 10.0 }"), 1.0),
        (with("{}").replace("kind = \"mean\"", "kind = \"trimmed_mean\"\nbyzantine = 10"), 1.0),
        (with("{}").replace("[privacy]", "[privacy]\nadjacency = \"replace_one\""), 2.0),
    ] {
        let spec = TaskSpec::new("task.toml", &text).unwrap_or_else(|error| panic!("{error}"));
        let privacy = spec.privacy.as_ref().unwrap();
        let z = privacy.effective_multiplier();
        assert!(z >= 2.0 / times && z < 2.0 / times * (1.0 + 1e-6), "{z}: {text}");
        let all = spec.guarantees.join("\n");
        for part in ["C starts at 0.5", "quantile of the updates' norms", "released with every round", "z = 2"] {
            assert!(all.contains(part), "{part}: {all}");
        }
        // The bits cost something: the updates get more noise than with a fixed clip.
        assert!(privacy.charge.sigma_grid > fixed.privacy.as_ref().unwrap().charge.sigma_grid, "{text}");
    }
}

#[test]
fn an_adaptive_clip_without_proof_or_sense_is_refused_with_why_and_fix() {
    let centred = "kind = \"centered_clipping\"\nradius = 0.5\nsteps = 1";
    let krum = "kind = \"multi_krum\"\nbyzantine = 1";
    let cases = [
        (with("{}").replace("kind = \"mean\"", centred), "", "rule.radius", "trimmed_mean"),
        (
            with("{}")
                .replace("kind = \"mean\"", krum)
                .replace("[privacy]", "[privacy]\naccept_large_sensitivity = true"),
            "",
            "not for multi_krum",
            "mean",
        ),
        (with("{ quantile = 0 }"), ".quantile", "outside", "from"),
        (with("{ quantile = 1.5 }"), ".quantile", "outside", "from"),
        (with("{ learning_rate = -1 }"), ".learning_rate", "outside", "from"),
        (with("{ min = 0 }"), ".min", "outside", "from"),
        (with("{ max = 1e31 }"), ".max", "outside", "from"),
        (with("{ min = 0.6 }"), ".min", "does not fit", "clip_l2 = 0.5"),
        (with("{ max = 0.4 }"), ".min", "does not fit", "clip_l2 = 0.5"),
        (with("{ min = 3, max = 2 }"), ".max", "does not fit", "from 3"),
        (with("{ bits_noise = 1.0 }"), ".bits_noise", "does not fit", "more than 1"),
        (
            with("{}").replace("noise_multiplier = 2.0", "noise_multiplier = 90.0"),
            ".bits_noise",
            "cohort.size / 20 unless written",
            "above 900",
        ),
        (with("{ bits_noise = 1e9 }"), ".bits_noise", "does not fit", "less than"),
        (with("{ tau = 1.0 }"), ".tau", "unknown field", ""),
        (PRIVATE.replace("clip_l2 = 0.5", "clip_l2 = { quantile = 0.5 }"), "", "f64", ""),
    ];
    for (text, key, what, fix) in cases {
        let list = problems(&text);
        let problem = &list[0];
        if what != "f64" {
            assert_eq!(problem.key, format!("privacy.adaptive_clip{key}"), "{list:?}");
        }
        assert!(problem.what.contains(what) || problem.fix.contains(what), "{what}: {problem:?}");
        assert!(problem.fix.contains(fix), "{problem:?}");
    }
}
