//! The checks on `trust = "local"`: noise that every client adds to its own update.
//!
//! Rows are private before the server has them, so that every rule, and every look at a row, is post-processing.

use super::super::{
    Cohort,
    check::Check,
    raw::{RawPrivacy, RawTask},
};
use crate::{
    local::Local,
    part::{Policy, TensorPolicy},
};

impl Check<'_> {
    /// Everything about `[privacy]` where every client noises its own update; the cohort has passed its own checks.
    pub(in crate::spec) fn local(
        &mut self,
        raw: &RawTask,
        asked: &RawPrivacy,
        cohort: Option<&Cohort>,
        tensors: &[TensorPolicy],
    ) -> Option<Local> {
        let before = self.list.len();
        self.not_beside_local_noise(raw, asked, tensors);
        self.only_shares(asked);
        let grid_bits = self.gaussian(raw, asked);
        let delta = cohort.and_then(|cohort| self.delta(asked, cohort));
        let clip = self.private_clip(raw);
        let (delta, clip) = (delta?, clip?);
        if self.list.len() > before {
            return None;
        }
        match Local::new(
            (&asked.population, asked.budget_epsilon, delta, asked.clients),
            clip,
            grid_bits,
            asked.noise_multiplier,
        ) {
            Ok(local) => Some(local),
            Err(error) => self.unfit(error),
        }
    }

    fn not_beside_local_noise(&mut self, raw: &RawTask, asked: &RawPrivacy, tensors: &[TensorPolicy]) {
        if crate::spec::masked::asked(raw) {
            let what =
                "with trust = \"local\" every update is noised enough to be shown, and masks would hide nothing more";
            self.fail("visibility.masking", what, "write masking = \"none\" or remove the key");
        }
        match asked.adjacency.as_deref() {
            None | Some("replace_one") => {}
            Some(_) => {
                let what = "with trust = \"local\" the server sees that an update came: what is hidden is which one";
                self.fail("privacy.adjacency", what, "write adjacency = \"replace_one\" or remove the key");
            }
        }
        if asked.accept_large_sensitivity {
            let what = "has no effect: noised updates may go through any rule";
            self.fail("privacy.accept_large_sensitivity", what, "remove the key");
        }
        if !raw.encoding.accept.is_empty() {
            let what = "noised updates have an encoding of their own";
            self.fail("encoding.accept", what, "remove the key");
        }
        if raw.examples.weighted == Some(true) {
            let what = "how many examples a client has would leave its device without noise";
            let fix = "write weighted = false or remove the key: every update weighs the same";
            self.fail("examples.weighted", what, fix);
        }
        if raw.examples.max.is_some() {
            let what = "has no effect: clients do not tell how many examples they have";
            self.fail("examples.max", what, "remove the key");
        }
        for tensor in tensors.iter().filter(|tensor| tensor.policy == Policy::Counter) {
            let what = "a count would use up the update's clip and be noised";
            self.fail(&format!("tensors.{}", tensor.pattern), what, "write \"ignore\"; the count stays as it is");
        }
    }
}
