//! `docs/privacy.md` names a test for every claim: they exist.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{fs, path::Path};

fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_test_that_the_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    for folder in [
        "src",
        "tests",
        "../engine/src",
        "../protocol/src",
        "../../cli/src/commands",
        "../../cli/tests",
        "../../server/src",
        "../../server/tests",
        "../../client/src",
        "../../client/tests",
    ] {
        sources(&root.join(folder), &mut code);
    }
    let page = fs::read_to_string(root.join("../../docs/privacy.md")).unwrap();
    let words = page.split('`').skip(1).step_by(2);
    // Test names are sentences: three words and more; or the kinds of reference values.
    let mut seen = 0;
    for name in words.filter(|word| word.matches('_').count() >= 1 && !word.contains([' ', '(', ':', '/', '.'])) {
        if [
            "gaussian_exact",
            "accept_large_sensitivity",
            "too_soon",
            "limit_reached",
            "clip_l2",
            "noise_multiplier",
            "learning_rate",
            "bits_noise",
            "grid_bits",
            "release_step_s",
            "phase_limit_s",
        ]
        .contains(&name)
        {
            continue;
        }
        assert!(code.contains(&format!("fn {name}(")), "docs/privacy.md names {name}, which is no test");
        seen += 1;
    }
    assert!(seen > 60, "{seen}");
}
