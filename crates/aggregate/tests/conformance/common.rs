//! Rows to test with.

use testudo_aggregate::{Aggregate, AggregateError, Element, Inputs, Rule, RuleConfig, aggregate_inputs};

/// SplitMix64: a small deterministic generator, so that tests repeat.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Roughly normal: the sum of twelve uniforms.
    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn rows<T: Element>(&mut self, n: usize, d: usize) -> Vec<Vec<T>> {
        (0..n).map(|_| (0..d).map(|_| T::from_f64(self.normal())).collect()).collect()
    }

    pub(crate) fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for at in (1..n).rev() {
            order.swap(at, self.below(at + 1));
        }
        order
    }
}

pub(crate) fn run<T: Element>(config: &RuleConfig, rows: &[Vec<T>]) -> Result<Aggregate<T>, AggregateError> {
    let rows: Vec<&[T]> = rows.iter().map(Vec::as_slice).collect();
    run_inputs(config, &Inputs::new(&rows))
}

/// Runs a rule; extra rows it needs are zero for the last aggregate and histories, and for a reference the lower median
/// per coordinate: it does not depend on the order of the rows, and few of them cannot make it extreme.
pub(crate) fn run_inputs<T: Element>(
    config: &RuleConfig,
    inputs: &Inputs<'_, T>,
) -> Result<Aggregate<T>, AggregateError> {
    let extras = config.needs().extras;
    let zero = vec![T::ZERO; inputs.rows.first().map_or(0, |row| row.len())];
    let reference = if extras.reference { lower_median(inputs.rows) } else { Vec::new() };
    let mut views: Vec<&[T]> = Vec::new();
    views.extend(extras.last_aggregate.then_some(zero.as_slice()));
    views.extend(extras.reference.then_some(reference.as_slice()));
    views.extend(inputs.rows.iter().filter(|_| extras.history).map(|_| zero.as_slice()));
    aggregate_inputs(config.rule(), &Inputs { extras: &views, ..*inputs })
}

fn lower_median<T: Element>(rows: &[&[T]]) -> Vec<T> {
    let of = |coordinate: usize| {
        let mut values: Vec<T> = rows.iter().map(|row| row[coordinate]).collect();
        values.sort_by(|a, b| a.to_f64().total_cmp(&b.to_f64()));
        values[(values.len() - 1) / 2]
    };
    (0..rows[0].len()).map(of).collect()
}

/// Every rule with this *f*, compatibility modes included.
pub(crate) fn all_rules(byzantine: usize) -> Vec<RuleConfig> {
    let mut rules: Vec<RuleConfig> = testudo_aggregate::catalogue()
        .iter()
        .map(|info| RuleConfig::with_byzantine(info.kind, byzantine).unwrap())
        .collect();
    for kind in ["krum", "multi_krum"] {
        rules.push(rule(&format!("kind = \"{kind}\"\nbyzantine = {byzantine}\nneighbours = \"byzfl\"")));
    }
    rules.push(rule(&format!("kind = \"bulyan\"\nbyzantine = {byzantine}\nselection = \"one_shot\"")));
    rules.push(rule("kind = \"centered_clipping\"\nradius = 0.5\nsteps = 3"));
    rules.push(rule("kind = \"geometric_median\"\nstart = \"zero\"\nnu = 0.1\nsteps = 3\ntolerance = 0"));
    rules.push(rule("kind = \"norm_clip\"\nquantile = 0.5"));
    rules.push(rule("kind = \"trimmed_mean\"\nfraction = 0.2\nfloor = true"));
    // With one sample the strict range leaves more of f: all coordinates, and a few.
    for coordinates in [1_000_000, 16] {
        let sampled = format!("iterations = 1\ncoordinates = {coordinates}");
        rules.push(rule(&format!("kind = \"dnc\"\nbyzantine = {byzantine}\n{sampled}")));
    }
    rules
}

/// Every rule for `rows` rows with this *f*, or the largest that it takes.
pub(crate) fn all_rules_for(rows: usize, byzantine: usize) -> Vec<RuleConfig> {
    all_rules(byzantine).iter().filter_map(|config| config.fit(rows).ok()).collect()
}

/// Whether the rule holds lengths against a fixed length: it then neither scales with the rows nor returns equal rows.
pub(crate) fn has_a_radius(config: &RuleConfig) -> bool {
    matches!(config.kind(), "centered_clipping" | "norm_clip")
}

/// Whether the aggregate scales with the rows, bit for bit with powers of two.
pub(crate) fn scales(config: &RuleConfig) -> bool {
    // The geometric median compares distances with a fixed one, too.
    !has_a_radius(config) && config.kind() != "geometric_median"
}

pub(crate) fn rule(text: &str) -> RuleConfig {
    toml::from_str(text).unwrap()
}
