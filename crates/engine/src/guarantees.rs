//! What an accepted task promises, in words and numbers.

use crate::TaskSpec;

/// One sentence per promise or assumption, for `testudo task check` and every round record.
pub(crate) fn report(spec: &TaskSpec) -> Vec<String> {
    let cohort = &spec.cohort;
    let mut lines = vec![
        "visibility: the server sees every client's update (masking = none)".to_string(),
        format!(
            "rounds: {} clients selected, closed at {} updates, released with at least {}, abandoned otherwise",
            cohort.selected, cohort.size, cohort.minimum
        ),
        robustness(spec),
    ];
    lines.push(match spec.max_l2 {
        Some(cap) => format!("door: updates with an L2 norm over {cap} or a non-finite value are rejected alone"),
        None => "door: updates with a non-finite value are rejected alone; no cap on the norm".to_string(),
    });
    lines.push(match spec.examples.weighted {
        true => format!(
            "weights: claimed examples, capped at {}, weigh the updates; clients can lie up to the cap",
            spec.examples.max
        ),
        false => "weights: every update weighs the same, whatever its client claims".to_string(),
    });
    lines.push("privacy: none (no noise is added)".to_string());
    lines
}

fn robustness(spec: &TaskSpec) -> String {
    let kind = spec.rule_config.kind();
    match spec.rule.byzantine() {
        0 => format!("robustness: none; one bad client can steer the model (rule {kind}, byzantine = 0)"),
        byzantine => format!(
            "robustness: rule {kind} holds its guarantee against up to {byzantine} bad clients of at least {} (more than \
             that void it)",
            spec.cohort.minimum
        ),
    }
}
