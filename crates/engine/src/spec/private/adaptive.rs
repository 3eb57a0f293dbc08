//! The checks on `privacy.adaptive_clip`.

use super::super::{
    check::Check,
    raw::{RawAdaptiveClip, RawPrivacy},
};
use crate::privacy::AskedClipping;
use testudo_aggregate::{RuleConfig, RuleKind};

impl Check<'_> {
    /// What an adaptive clip needs beside it; its figures are checked with the others.
    pub(super) fn adaptive_clip(&mut self, asked: &RawPrivacy, rule: &RuleConfig) -> Option<AskedClipping> {
        let RawAdaptiveClip { quantile, learning_rate, min, max, bits_noise } = *asked.adaptive_clip.as_ref()?;
        let key = "privacy.adaptive_clip";
        match rule.kernel() {
            RuleKind::Mean(_) | RuleKind::TrimmedMean(_) => {}
            RuleKind::CenteredClipping(_) => {
                let what =
                    "rule.radius is what bounds a client, and is fixed; a clip that moves beside it has no proof";
                self.fail(key, what, "write kind = \"mean\" or \"trimmed_mean\" in [rule], or remove the key");
            }
            _ => {
                let what = format!("is proved for mean and trimmed_mean, not for {}", rule.kind());
                self.fail(key, what, "write kind = \"mean\" or \"trimmed_mean\" in [rule], or remove the key");
            }
        }
        for (name, value, least, most) in [
            ("quantile", quantile, 1e-6, 1.0 - 1e-6),
            ("learning_rate", learning_rate, 1e-6, 1.0),
            ("min", min, 1e-30, 1e30),
            ("max", max, 1e-30, 1e30),
            ("bits_noise", bits_noise, 1e-6, 1e9),
        ] {
            if let Some(value) = value {
                self.range(&format!("{key}.{name}"), value, least, most);
            }
        }
        Some(AskedClipping { quantile, learning_rate, least: min, most: max, bits_noise })
    }
}
