//! Which coordinates are aggregated together, and how.

use std::{ops::Range, sync::Arc};
use testudo_aggregate::{Rule, RuleConfig};
use testudo_protocol::{Layout, Tensor};

/// What happens to a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// The task's rule.
    #[default]
    Robust,
    /// Statistics a client measures, such as a batch norm's running mean and variance: the median, outside the rule's
    /// distances. A variance that would become negative becomes 0.
    Stats,
    /// A count kept as a float: the median, rounded to a whole number, outside the rule's distances.
    Counter,
    /// Left as it is.
    Ignore,
}

/// Tensors whose names match a pattern, and what happens to them. `*` stands for any text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorPolicy {
    /// The pattern.
    pub pattern: String,
    /// What happens to them.
    pub policy: Policy,
}

/// Whether a rule sees the whole vector or one tensor at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Granularity {
    /// One decision over all robust coordinates: what guarantees are about.
    #[default]
    Model,
    /// One decision per robust tensor.
    Layer,
}

/// Coordinates that one decision is about: a vector of its own, made of ranges of the model's flat vector.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) policy: Policy,
    pub(crate) rule: Arc<dyn Rule>,
    ranges: Vec<Range<usize>>,
}

/// A tensor that the server optimiser must leave alone.
#[derive(Debug, Clone)]
pub(crate) struct Plain {
    pub(crate) range: Range<usize>,
    policy: Policy,
    /// Never below 0.
    variance: bool,
}

impl Plain {
    /// The new value.
    pub(crate) fn apply(&self, old: f32, delta: f32) -> f32 {
        let value = match self.policy {
            Policy::Ignore => return old,
            Policy::Counter => (old + delta).round_ties_even(),
            Policy::Robust | Policy::Stats => old + delta,
        };
        let value = value.clamp(f32::MIN, f32::MAX);
        if self.variance { value.max(0.0) } else { value }
    }
}

/// The tensors that are not under the task's rule. Statistics with `var` in their name are variances.
pub(crate) fn plain_tensors(layout: &Layout, policies: &[TensorPolicy]) -> Vec<Plain> {
    let mut start = 0;
    let mut plain = Vec::new();
    for tensor in layout.tensors() {
        let range = start..start + tensor.coordinates().unwrap_or(0) as usize;
        start = range.end;
        let policy = policy_of(policies, tensor);
        if policy != Policy::Robust {
            plain.push(Plain { range, policy, variance: policy == Policy::Stats && tensor.name.contains("var") });
        }
    }
    plain
}

impl Policy {
    /// The word of the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Robust => "robust",
            Self::Stats => "stats",
            Self::Counter => "counter",
            Self::Ignore => "ignore",
        }
    }

    /// The policy of that word.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        [Self::Robust, Self::Stats, Self::Counter, Self::Ignore].into_iter().find(|policy| policy.word() == word)
    }
}

impl TensorPolicy {
    pub(crate) fn matches(&self, name: &str) -> bool {
        let mut pieces = self.pattern.split('*');
        let Some(mut rest) = pieces.next().and_then(|first| name.strip_prefix(first)) else { return false };
        let Some(last) = self.pattern.split('*').skip(1).last() else { return rest.is_empty() };
        let inner = self.pattern.split('*').count().saturating_sub(2);
        for piece in pieces.take(inner) {
            let Some(at) = rest.find(piece) else { return false };
            rest = &rest[at + piece.len()..];
        }
        rest.ends_with(last)
    }
}

/// What happens to a tensor under these policies: the first that matches, or the rule.
pub(crate) fn policy_of(policies: &[TensorPolicy], tensor: &Tensor) -> Policy {
    policies.iter().find(|policy| policy.matches(&tensor.name)).map_or(Policy::Robust, |policy| policy.policy)
}

/// The parts of a model, the robust ones first.
pub(crate) fn parts(
    layout: &Layout,
    policies: &[TensorPolicy],
    granularity: Granularity,
    rule: &Arc<dyn Rule>,
) -> Vec<Arc<Part>> {
    let mut start = 0;
    let mut placed = Vec::new();
    for tensor in layout.tensors() {
        let length = tensor.coordinates().unwrap_or(0) as usize;
        if length > 0 {
            placed.push((policy_of(policies, tensor), start..start + length));
        }
        start += length;
    }
    let of = |policy: Policy| -> Vec<Range<usize>> {
        joined(placed.iter().filter(|(other, _)| *other == policy).map(|(_, range)| range.clone()))
    };
    let mut parts = Vec::new();
    match granularity {
        Granularity::Model => parts.push((Policy::Robust, rule.clone(), of(Policy::Robust))),
        Granularity::Layer => {
            let robust = placed.iter().filter(|(policy, _)| *policy == Policy::Robust);
            parts.extend(robust.map(|(_, range)| (Policy::Robust, rule.clone(), vec![range.clone()])));
        }
    }
    let median: Arc<dyn Rule> = Arc::from(RuleConfig::median(0).build());
    for policy in [Policy::Stats, Policy::Counter] {
        parts.push((policy, median.clone(), of(policy)));
    }
    let filled = parts.into_iter().filter(|(_, _, ranges)| !ranges.is_empty());
    filled.map(|(policy, rule, ranges)| Arc::new(Part { policy, rule, ranges })).collect()
}

/// Neighbouring ranges as one.
fn joined(ranges: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut joined: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

impl Part {
    /// Coordinates of the part's own vector.
    pub(crate) fn dimension(&self) -> usize {
        self.ranges.iter().map(Range::len).sum()
    }

    /// Where coordinates of the part's own vector lie in the model's.
    pub(crate) fn places(&self, own: Range<usize>) -> Vec<Range<usize>> {
        let mut places = Vec::new();
        let mut start = 0;
        for range in &self.ranges {
            let from = own.start.clamp(start, start + range.len()) - start;
            let to = own.end.clamp(start, start + range.len()) - start;
            if from < to {
                places.push(range.start + from..range.start + to);
            }
            start += range.len();
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layout(tensors: &[(&str, u64)]) -> Layout {
        let tensor = |(name, length): &(&str, u64)| Tensor { name: (*name).into(), shape: vec![*length] };
        Layout::new(tensors.iter().map(tensor).collect()).unwrap()
    }

    fn policy(pattern: &str, policy: Policy) -> TensorPolicy {
        TensorPolicy { pattern: pattern.into(), policy }
    }

    fn rule() -> Arc<dyn Rule> {
        Arc::from(RuleConfig::median(1).build())
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("bn.weight", "bn.weight", true),
            ("bn.weight", "bn.weights", false),
            ("*.running_*", "layer1.bn.running_mean", true),
            ("*.running_*", "running_mean", false),
            ("bn*", "bn1.bias", true),
            ("*bias", "bn1.bias", true),
            ("*bias", "bias.x", false),
            ("*", "anything", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("aa*aa", "aaa", false),
        ] {
            assert_eq!(policy(pattern, Policy::Stats).matches(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn parts_follow_the_policies_and_neighbours_are_joined() {
        let layout = layout(&[("w", 10), ("b", 5), ("bn.mean", 3), ("n", 1), ("v", 4), ("skip", 2)]);
        let policies = [policy("bn.*", Policy::Stats), policy("n", Policy::Counter), policy("skip", Policy::Ignore)];
        let whole = parts(&layout, &policies, Granularity::Model, &rule());
        let places: Vec<_> = whole.iter().map(|part| (part.policy, part.places(0..99))).collect();
        let expected = [(Policy::Robust, [0..15, 19..23].to_vec())].into_iter().chain(
            [(Policy::Stats, 15..18), (Policy::Counter, 18..19)].map(|(policy, range)| (policy, Vec::from([range]))),
        );
        assert_eq!(places, expected.collect::<Vec<_>>());
        assert_eq!(whole[0].places(13..17), [13..15, 19..21]);
        assert_eq!(parts(&layout, &policies, Granularity::Layer, &rule()).len(), 5);
        let ignored = parts(&layout, &[policy("*", Policy::Ignore)], Granularity::Model, &rule());
        assert!(ignored.is_empty());
    }

    proptest! {
        #[test]
        fn places_cover_the_parts_own_vector_once(lengths in prop::collection::vec(1usize..9, 1..6), cut in 1usize..7) {
            let mut start = 0;
            let ranges: Vec<_> = lengths.iter().map(|length| { start += length + 2; start - length..start }).collect();
            let part = Part { policy: Policy::Robust, rule: rule(), ranges: ranges.clone() };
            let expected: Vec<usize> = ranges.into_iter().flatten().collect();
            let starts = (0..part.dimension()).step_by(cut);
            let found: Vec<usize> =
                starts.flat_map(|start| part.places(start..part.dimension().min(start + cut))).flatten().collect();
            prop_assert_eq!(found, expected);
        }
    }
}
