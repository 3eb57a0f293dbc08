//! The report of a task in clear mode.

use crate::{Granularity, TaskSpec};
use testudo_aggregate::Rule as _;

/// One sentence per promise or assumption, for `testudo task check` and every round record.
pub(super) fn report(spec: &TaskSpec) -> Vec<String> {
    let mut lines = vec![
        match &spec.local {
            None => "visibility: the server sees every client's update (masking = none)".to_string(),
            Some(_) => "visibility: the server sees every client's update with the client's own noise (masking = none)"
                .to_string(),
        },
        rounds(spec),
        robustness(spec),
    ];
    lines.push(match spec.max_l2 {
        _ if spec.privacy.is_some() => {
            "door: updates of a wrong shape are refused alone; one with a value that is not \
                                        finite counts as zeros, without anybody being told"
                .to_string()
        }
        Some(cap) => format!(
            "door: updates with an L2 norm (over all tensors) above {cap} or a non-finite value are rejected alone"
        ),
        None => "door: updates with a non-finite value are rejected alone; no cap on the norm".to_string(),
    });
    lines.push(match spec.examples.weighted {
        true => format!(
            "weights: claimed examples, capped at {}, weigh the updates; clients can lie up to the cap",
            spec.examples.max
        ),
        false => "weights: every update weighs the same, whatever its client claims".to_string(),
    });
    if spec.encodings.len() > 1 {
        let words: Vec<&str> = spec.encodings.iter().map(|encoding| encoding.word()).collect();
        lines.push(format!(
            "encoding: updates may come as {}; rounding adds to the distances between rows, and a coordinate that a \
             sparse update leaves out counts as 0",
            words.join(", ")
        ));
    }
    lines.extend(tensors(spec));
    lines.extend(reference(spec));
    match (&spec.privacy, &spec.local) {
        (Some(privacy), _) => lines.extend(super::private::report(spec, privacy)),
        (None, Some(local)) => lines.extend(super::local::report(spec, local)),
        (None, None) => lines.push("privacy: none (no noise is added)".to_string()),
    }
    lines
}

/// How many clients take part.
pub(super) fn rounds(spec: &TaskSpec) -> String {
    let cohort = &spec.cohort;
    if let Some(sample) = &cohort.sample {
        return format!(
            "rounds: every one of up to {} registered clients is drawn with probability {} / {}, alone and in secret; a round \
             takes {} s whoever was drawn and is released with whatever came",
            sample.clients,
            sample.expected,
            sample.clients,
            cohort.phase_limit_ms as f64 / 1000.0
        );
    }
    if spec.masking.is_some() {
        return format!(
            "rounds: {} clients selected, groups drawn when {} of them or, at the deadline, at least {} have sent their \
             keys; released with at least {} rows, abandoned otherwise",
            cohort.selected,
            cohort.size,
            cohort.minimum,
            spec.rule.min_rows()
        );
    }
    format!(
        "rounds: {} clients selected, closed at {} updates, released with at least {}, abandoned otherwise",
        cohort.selected, cohort.size, cohort.minimum
    )
}

fn robustness(spec: &TaskSpec) -> String {
    let rule = &spec.rule_config;
    let mut line = match spec.rule.byzantine() {
        0 if matches!(rule.kind(), "fltrust" | "foolsgold") => {
            format!("robustness: rule {rule} withstands {}", rule.kernel().info().breakdown)
        }
        0 => format!("robustness: none; one bad client can steer the model (rule {rule}, byzantine = 0)"),
        byzantine => format!(
            "robustness: rule {rule} holds its guarantee against up to {byzantine} bad clients of at least {} (more than \
             that void it); bound{}: {}",
            spec.cohort.minimum.max(spec.rule.min_rows()),
            if rule.pre().is_empty() { "" } else { " of the rule alone, which its pre-aggregations change" },
            rule.kernel().info().bound
        ),
    };
    line += &lowered(spec).unwrap_or_default();
    if let Some(sampled) = spec.sampled {
        line += &format!(
            "; byzantine comes from {} % bad clients{}: a cohort of {} holds more with probability at most {}, if it \
             is drawn at random: only where many more clients wait than are selected (gather_s)",
            sampled.fraction * 100.0,
            sampled.population.map(|population| format!(" among {population}")).unwrap_or_default(),
            spec.cohort.selected,
            sampled.risk
        );
    }
    if spec.granularity == Granularity::Layer {
        line += "; decided tensor by tensor, so the bound holds for each tensor and not for the whole model";
    }
    line
}

/// What fewer updates than the rule needs are worth, at both ends.
fn lowered(spec: &TaskSpec) -> Option<String> {
    let (least, most) = (spec.cohort.minimum, spec.rule.min_rows().saturating_sub(1).min(spec.cohort.selected));
    let against = |rows: usize| Some(format!("{} with {rows} updates", spec.lowered(rows)?.byzantine()));
    let first = against(least)?;
    let last = (most > least).then(|| against(most)).flatten().map(|last| format!(" to {last}")).unwrap_or_default();
    Some(format!("; with fewer its byzantine is lowered: {first}{last} (fewer = lower_byzantine)"))
}

/// Tensors that the rule does not see.
pub(super) fn tensors(spec: &TaskSpec) -> Option<String> {
    let word = |policy: &crate::TensorPolicy| format!("{} is {}", policy.pattern, policy.policy.word());
    let list: Vec<String> = spec.tensors.iter().map(word).collect();
    (!list.is_empty()).then(|| {
        format!(
            "tensors: {}; the rest is robust. Stats and counters are medians, outside the rule's distances",
            list.join(", ")
        )
    })
}

fn reference(spec: &TaskSpec) -> Option<String> {
    let client = spec.reference.as_ref()?;
    Some(format!(
        "trust: every round compares with the update of {client}; without it the round is abandoned. Who that is, only \
         mutual TLS proves"
    ))
}
