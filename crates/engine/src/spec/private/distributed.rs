//! The checks on `trust = "distributed"`: shares of noise that clients add under masks.
//!
//! Every row is noised enough before anything sees it, so that every rule over rows is post-processing. What has to be right
//! is how many honest shares are in a row at least: the group's threshold less the colluders that a group may hold.

use super::super::{
    Cohort,
    check::Check,
    raw::{RawPrivacy, RawTask},
};
use crate::{
    guarantees,
    masking::{COMPLETE_GROUP, Masking},
    shares::{Asked, NoiseShares, SHARE_GRID_BITS},
};
use testudo_protocol::secagg::SHARE_BITS;

impl Check<'_> {
    /// Everything about `[privacy]` where clients add shares of the noise; masking and cohort have passed their own checks.
    /// Raises the threshold of `masking` where the honest survivors that are asked for need it.
    pub(in crate::spec) fn shares(
        &mut self,
        raw: &RawTask,
        asked: &RawPrivacy,
        masking: Option<&mut Masking>,
        cohort: Option<&Cohort>,
    ) -> Option<NoiseShares> {
        let before = self.list.len();
        self.not_beside_shares(raw, asked);
        self.gaussian(raw, asked);
        let grid_bits = asked.grid_bits.unwrap_or(u64::from(SHARE_GRID_BITS));
        self.range("privacy.grid_bits", grid_bits as f64, f64::from(*SHARE_BITS.start()), f64::from(*SHARE_BITS.end()));
        let adjacency = self.adjacency(asked.adjacency.as_deref().unwrap_or("zero_out"));
        let delta = cohort.and_then(|cohort| self.delta(asked, cohort));
        let (adjacency, delta, masking, cohort) = (adjacency?, delta?, masking?, cohort?);
        if self.list.len() > before {
            return None;
        }
        let (honest, colluders) = self.honest(asked, masking, cohort)?;
        masking.bits = grid_bits as u32;
        let largest = Masking::largest_group(masking.group_size, cohort.minimum, cohort.selected);
        let asked = Asked {
            population: &asked.population,
            epsilon: asked.budget_epsilon,
            delta,
            clients: asked.clients,
            adjacency,
            clip: masking.clip_l2,
            grid_bits: grid_bits as u32,
            noise_multiplier: asked.noise_multiplier,
            honest,
            colluders,
            largest,
        };
        match NoiseShares::new(asked) {
            Ok(shares) => Some(shares),
            Err(error) => self.unfit(error),
        }
    }

    /// Honest survivors that every group has at least, as asked for or as the threshold leaves them, and the colluders that
    /// are taken off it in a group of `group_size`.
    fn honest(&mut self, asked: &RawPrivacy, masking: &mut Masking, cohort: &Cohort) -> Option<(u32, u32)> {
        let (least, most) = (cohort.minimum, cohort.selected);
        if Masking::largest_group(masking.group_size, least, most) > COMPLETE_GROUP {
            let what = format!(
                "noise shares are counted from a group's threshold, and groups of more than {COMPLETE_GROUP} clients have none \
                 over all their members"
            );
            let fix = format!("lower group_size, so that no group has more than {COMPLETE_GROUP} clients");
            return self.fail_none("visibility.group_size", what, fix);
        }
        let groups = guarantees::kinds_of_groups(masking, cohort);
        let held: Vec<(usize, usize)> =
            groups.iter().map(|&(clients, size)| (size, guarantees::colluders_held(masking, clients, size))).collect();
        let honest = |masking: &Masking| {
            let each = held.iter().map(|&(size, held)| masking.complete_threshold(size).saturating_sub(held));
            each.min().unwrap_or(0)
        };
        let colluders = held.iter().map(|&(_, held)| held).max().unwrap_or(0);
        let Some(wanted) = asked.honest else {
            let honest = honest(masking);
            if honest == 0 {
                let left = |&&(size, held): &&(usize, usize)| masking.complete_threshold(size).saturating_sub(held);
                let (size, held) = held.iter().min_by_key(left).copied().unwrap_or_default();
                let what = format!(
                    "a group of {size} clients is unmasked with {} survivors and may hold {held} colluders: no share of noise is \
                     certain to be secret",
                    masking.complete_threshold(size)
                );
                return self.fail_none(
                    "visibility.colluders",
                    what,
                    "declare fewer colluders, or raise threshold or group_size",
                );
            }
            return Some((honest as u32, colluders as u32));
        };
        if !self.range("privacy.honest", wanted as f64, 1.0, masking.group_size as f64) {
            return None;
        }
        let first = masking.complete_threshold(masking.group_size);
        let raised =
            (first..=masking.group_size).map(|threshold| Masking { threshold: Some(threshold), ..masking.clone() });
        let mut raised = raised.skip_while(|masking| (honest(masking) as u64) < wanted);
        match raised.next() {
            Some(enough) if enough.complete_threshold(enough.group_size) == first => {}
            Some(enough) => *masking = enough,
            None => {
                let most = honest(&Masking { threshold: Some(masking.group_size), ..masking.clone() });
                let what = format!(
                    "{wanted} honest survivors are not certain: a group of {} clients may hold {colluders} colluders",
                    masking.group_size
                );
                let fix = match most {
                    0 => "declare fewer colluders or raise group_size".to_string(),
                    most => format!("write a value from 1 to {most}, raise group_size or declare fewer colluders"),
                };
                return self.fail_none("privacy.honest", what, fix);
            }
        }
        Some((wanted as u32, colluders as u32))
    }

    fn not_beside_shares(&mut self, raw: &RawTask, asked: &RawPrivacy) {
        if !crate::spec::masked::asked(raw) {
            let what = "with trust = \"distributed\" masks hide updates that have only a share of the noise each";
            let fix = "write masking = \"pairwise\" with a group_size, or trust = \"local\" for noise that hides an update alone";
            self.fail("visibility.masking", what, fix);
        }
        if asked.accept_large_sensitivity {
            let what = "has no effect: noised rows may go through any rule";
            self.fail("privacy.accept_large_sensitivity", what, "remove the key");
        }
        for (key, given) in
            [("encoding.bits", raw.encoding.bits.is_some()), ("encoding.kappa", raw.encoding.kappa.is_some())]
        {
            if given {
                let what =
                    "has no effect: with noise shares privacy.grid_bits is the resolution, and nothing is clamped";
                self.fail(key, what, "remove the key");
            }
        }
        if raw.examples.weighted == Some(true) {
            let what = "how many examples a client has would be in a row's sum without noise";
            let fix = "write weighted = false or remove the key: every update weighs the same";
            self.fail("examples.weighted", what, fix);
        }
    }
}
