//! What the device insists on before it uploads.

use crate::{Error, shares};
use testudo_proto::{Assignment, Masking};
use testudo_protocol::{
    Digest, limits,
    secagg::{Announcement, Session, VerifyingKey},
};

/// Smallest group of a masked round that a device joins unless told otherwise.
const LEAST_GROUP: u32 = 16;

/// What the device insists on, whatever the server asks for. A round that is against it is left and
/// [`Error::Policy`] returned: the device's owner decides, not the server.
///
/// The default takes any clear-mode round with a model of at most 4 GiB, for ever, and masked rounds in groups of at
/// least 16 that accept no weakness. The first server key that a masked round shows is the one that counts as long as the
/// client lives; [`Policy::server_key`] pins it across processes. A session that has seen its task masked takes no round of
/// it in the clear. Insisting on a server key, an authority or a plan insists on masks.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    masking: bool,
    group: Option<u32>,
    model_bytes: u64,
    rounds: Option<u64>,
    server: Option<VerifyingKey>,
    authority: Option<VerifyingKey>,
    plans: Vec<Digest>,
    weak: bool,
    colluders: f64,
    local_noise: Option<f64>,
    shared_noise: Option<f64>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            masking: false,
            group: None,
            model_bytes: limits::MODEL_BYTES,
            rounds: None,
            server: None,
            authority: None,
            plans: Vec::new(),
            weak: false,
            colluders: 0.05,
            local_noise: None,
            shared_noise: None,
        }
    }
}

impl Policy {
    /// Never send an update that the server could see on its own.
    #[must_use]
    pub fn require_masking(mut self) -> Self {
        self.masking = true;
        self
    }

    /// Never send an update that is summed with fewer than `clients - 1` others before anything sees it; 16 in masked
    /// rounds unless told. Above 1 this needs masking as well: an unmasked update is seen whatever its group.
    #[must_use]
    pub fn min_group(mut self, clients: u32) -> Self {
        self.group = Some(clients);
        self
    }

    /// Take part in masked rounds only if the server signs with this key.
    #[must_use]
    pub fn server_key(mut self, key: VerifyingKey) -> Self {
        self.server = Some(key);
        self
    }

    /// Take part in masked rounds only if this enrolment authority vouches for every member of the group.
    #[must_use]
    pub fn authority(mut self, key: VerifyingKey) -> Self {
        self.authority = Some(key);
        self
    }

    /// Take part in masked rounds only under a specification with this SHA-256 of its text; may be given several times.
    #[must_use]
    pub fn allow_plan(mut self, digest: Digest) -> Self {
        self.plans.push(digest);
        self
    }

    /// In groups above 100 clients, where each shares secrets with some of the others only: the share of colluding clients
    /// that the number of neighbours must withstand, at least. 0.05 unless told.
    #[must_use]
    pub fn min_colluders(mut self, share: f64) -> Self {
        self.colluders = share;
        self
    }

    /// Take part only in rounds in which this device noises its own update, with a standard deviation of at least
    /// `multiplier` times the L2 norm that updates are clipped to. One update is then as private as `testudo privacy epsilon
    /// --noise-multiplier` says of half of it (another update in its place moves a clipped one by twice the clip), several
    /// as it says of as many rounds; see [`Policy::max_rounds`].
    #[must_use]
    pub fn min_local_noise(mut self, multiplier: f64) -> Self {
        self.local_noise = Some(multiplier);
        self
    }

    /// Take part only in masked rounds whose clients add shares of noise, such that the sum of a group has a standard
    /// deviation of at least `multiplier` times the L2 norm that updates are held to, even if no more clients survive than
    /// the threshold and [`Policy::min_colluders`] of the group tell their shares. With [`Policy::min_local_noise`] as well,
    /// either is enough.
    ///
    /// That norm is the clip and what rounding may add to it: a ten-thousandth with the usual `grid_bits` of 20, 3 % with 16. A
    /// task with `noise_multiplier = 4.0` gives 3.9995.
    #[must_use]
    pub fn min_shared_noise(mut self, multiplier: f64) -> Self {
        self.shared_noise = Some(multiplier);
        self
    }

    /// Take part in masked rounds although their operator accepted a weaker guarantee than the product offers.
    #[must_use]
    pub fn allow_weak_guarantee(mut self) -> Self {
        self.weak = true;
        self
    }

    /// Never download a model file of more than this many bytes.
    #[must_use]
    pub fn max_model_bytes(mut self, bytes: u64) -> Self {
        self.model_bytes = bytes;
        self
    }

    /// Take part in at most this many rounds of a session (those with a receipt); then
    /// [`Session::next_round`](crate::Session::next_round) gives `None`. Where the device noises its own updates, every
    /// noise that it drew counts, with a receipt or without: the server may keep an update and never answer, and what is
    /// bounded is what left the device. Across processes that holds if the session is saved between
    /// [`Round::seal`](crate::Round::seal) and [`Sealed::send`](crate::Sealed::send).
    #[must_use]
    pub fn max_rounds(mut self, rounds: u64) -> Self {
        self.rounds = Some(rounds);
        self
    }

    /// Whether a session has done its part with this many receipts, or updates that it noised itself.
    pub(crate) fn is_done(&self, rounds: u64) -> bool {
        self.rounds.is_some_and(|most| rounds >= most)
    }

    /// The server key that was pinned.
    pub(crate) fn pinned_server(&self) -> Option<VerifyingKey> {
        self.server
    }

    /// Fewest members of a group that a masked update is summed in.
    pub(crate) fn least_group(&self) -> usize {
        self.group.unwrap_or(LEAST_GROUP) as usize
    }

    /// Whether an assignment is acceptable, as far as it can be told before the groups are drawn.
    pub(crate) fn check(&self, assignment: &Assignment) -> Result<(), Error> {
        let round = assignment.round;
        let masked = match assignment.masking {
            Masking::None | Masking::Noise => false,
            Masking::Pairwise => true,
            _ => return Err(Error::Policy(format!("round {round} asks for a masking this version does not know"))),
        };
        let group = self.group.unwrap_or(1);
        if !masked && (self.masking || group > 1 || self.names_masked_things()) {
            return Err(Error::Policy(format!(
                "round {round} would show this client's update to the server, but the policy asks for masking{}",
                if group > 1 { format!(" in groups of at least {group}") } else { String::new() }
            )));
        }
        self.check_noise(assignment)?;
        if assignment.model_bytes > self.model_bytes {
            return Err(Error::Policy(format!(
                "the model of round {round} is {} bytes, but the policy allows {}; raise max_model_bytes if the device \
                 can hold it",
                assignment.model_bytes, self.model_bytes
            )));
        }
        Ok(())
    }

    /// Whether an assignment says what this device is to add to its update, if anything, and whether that is enough.
    fn check_noise(&self, assignment: &Assignment) -> Result<(), Error> {
        let round = assignment.round;
        if (assignment.masking == Masking::Noise) != assignment.own_noise.is_some() {
            return Err(Error::ServerMisbehaved(format!(
                "round {round} asks for masking {:?} and {} noise",
                assignment.masking.word(),
                if assignment.own_noise.is_some() { "says how much" } else { "does not say how much" }
            )));
        }
        if self.shared_noise.is_some() && assignment.masking == Masking::Pairwise {
            // The announcement says how much.
            return Ok(());
        }
        let Some(least) = self.local_noise else {
            return match self.shared_noise {
                None => Ok(()),
                Some(least) => Err(Error::Policy(format!(
                    "the policy asks for masked sums with noise of at least {least} times the clip, and round {round} has no \
                     masks; min_shared_noise decides (`testudo join --min-shared-noise`)"
                ))),
            };
        };
        let given = assignment.own_noise.map(|noise| noise.multiplier());
        if given.is_some_and(|given| given >= least) {
            return Ok(());
        }
        let given = given.map_or("none".to_string(), |given| format!("{given} times it"));
        Err(Error::Policy(format!(
            "the policy asks for noise of at least {least} times the clip on this client's own update, and round {round} has \
             {given}; min_local_noise decides (`testudo join --min-local-noise`)"
        )))
    }

    /// Whether the device insists on something that only a masked round has.
    fn names_masked_things(&self) -> bool {
        self.authority.is_some() || self.server.is_some() || !self.plans.is_empty()
    }

    /// Least share of colluders that a sparse group's graph must withstand.
    pub(crate) fn least_colluders(&self) -> f64 {
        self.colluders
    }

    /// Reads what a masked round announces and checks it against the assignment and what the device insists on. `known`
    /// is the server's key, once there is one.
    pub(crate) fn announced(
        &self,
        assignment: &Assignment,
        known: Option<&VerifyingKey>,
    ) -> Result<Announcement, Error> {
        let announcement = Announcement::from_bytes(&assignment.announcement)
            .map_err(|error| Error::ServerMisbehaved(format!("what it announces cannot be: {error}")))?;
        let session = &announcement.session;
        check_consistent(assignment, session)?;
        let round = session.round;
        let refuse = |why: String| Err(Error::Policy(format!("round {round} {why}")));
        if known.is_some_and(|known| *known != session.server) {
            return refuse(format!("is signed by {}, which is not the server's known key", session.server));
        }
        let least = self.least_group();
        if (session.group_size as usize) < least {
            return refuse(format!(
                "sums groups of {0}, but the policy asks for at least {least}; min_group({0}) would allow it \
                 (`testudo join --min-group {0}`)",
                session.group_size
            ));
        }
        let threshold = 2 * session.group_size / 3 + 1;
        if session.threshold < threshold {
            return refuse(format!(
                "opens sums of {} of {} clients; at least {threshold} must answer",
                session.threshold, session.group_size
            ));
        }
        if let Some(multiplier) = self.shared_noise {
            let colluders = (self.colluders * f64::from(session.group_size)).ceil() as u32;
            let given = shares::noise_multiplier(session, colluders);
            let is_enough = given >= multiplier;
            if !is_enough {
                return refuse(format!(
                    "gives sums noise of {given} times what an update is held to, with {colluders} colluders in a group; the policy asks for at \
                     least {multiplier}, min_shared_noise decides (`testudo join --min-shared-noise`)"
                ));
            }
        }
        if let Some(authority) = self.authority.filter(|authority| authority.0 != session.authority) {
            return refuse(format!("does not name the enrolment authority {authority} that the policy asks for"));
        }
        if !self.plans.is_empty() && !self.plans.contains(&session.plan) {
            return refuse(format!("follows the specification {}, which the policy does not list", session.plan));
        }
        if !session.accepted_weakness.is_empty() && !self.weak {
            return refuse(format!(
                "accepts a weak guarantee ({:?}); allow_weak_guarantee() would take part in it",
                session.accepted_weakness
            ));
        }
        Ok(announcement)
    }
}

/// Whether the signed session is about what was assigned.
fn check_consistent(assignment: &Assignment, session: &Session) -> Result<(), Error> {
    for (what, same) in [
        ("task", session.task == assignment.task),
        ("round", session.round == assignment.round),
        ("model", session.model == assignment.model_digest),
        ("dimension", session.dimension == assignment.layout.dimension() as u64),
    ] {
        if !same {
            return Err(Error::ServerMisbehaved(format!("its signed session has another {what} than its assignment")));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fixture;
    use std::time::Duration;
    use testudo_proto::OwnNoise;
    use testudo_protocol::{
        Layout, Nonce, TaskName, Tensor,
        secagg::{DISCRETE_GAUSSIAN, SigningKey},
    };

    pub(crate) fn assignment(masking: Masking, group_size: u32) -> Assignment {
        Assignment {
            task: TaskName::new("task").unwrap(),
            round: 3,
            nonce: Nonce([0; 16]),
            model_digest: Digest([0; 32]),
            model_bytes: 100,
            layout: Layout::new(vec![Tensor { name: "w".into(), shape: vec![1] }]).unwrap(),
            time_left: Duration::from_secs(1),
            chunk_bytes: 64,
            max_examples: 10,
            rule: "mean".into(),
            masking,
            group_size,
            encodings: vec![testudo_protocol::Encoding::F32],
            announcement: bytes::Bytes::new(),
            own_noise: None,
        }
    }

    fn noised(sigma_grid: u64) -> Assignment {
        let own_noise = Some(OwnNoise { clip_l2: 1.0, grid_bits: 20, sigma_grid });
        Assignment { own_noise, ..assignment(Masking::Noise, 1) }
    }

    #[test]
    fn each_demand_is_held_against_the_assignment() {
        let clear = assignment(Masking::None, 1);
        let masked = assignment(Masking::Pairwise, 8);
        assert!(Policy::default().check(&clear).is_ok());
        assert!(Policy::default().require_masking().check(&masked).is_ok());
        for (policy, assignment, part) in [
            (Policy::default().require_masking(), &clear, "asks for masking"),
            (Policy::default().min_group(2), &clear, "groups of at least 2"),
            (Policy::default().max_model_bytes(99), &clear, "max_model_bytes"),
            (Policy::default(), &assignment(Masking::Unknown, 1), "does not know"),
        ] {
            let error = policy.check(assignment).unwrap_err();
            assert!(matches!(error, Error::Policy(_)) && error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn a_device_leaves_rounds_with_less_noise_than_it_insists_on() {
        let policy = Policy::default().min_local_noise(2.5);
        assert!(policy.check(&noised(5 << 19)).is_ok());
        assert!(Policy::default().check(&noised(1)).is_ok());
        for assignment in [noised((5 << 19) - 1), assignment(Masking::None, 1), assignment(Masking::Pairwise, 16)] {
            let error = policy.check(&assignment).unwrap_err();
            assert!(matches!(error, Error::Policy(_)) && error.to_string().contains("at least 2.5"), "{error}");
        }
        // No number is enough for one that is none, and noise hides no update as masks do.
        assert!(Policy::default().min_local_noise(f64::NAN).check(&noised(5 << 19)).is_err());
        assert!(Policy::default().require_masking().check(&noised(5 << 19)).is_err());
        // Noise without figures, and figures without noise.
        for spoilt in [
            Assignment { own_noise: None, ..noised(1) },
            Assignment { masking: Masking::None, ..noised(1) },
            Assignment { masking: Masking::Pairwise, ..noised(1) },
        ] {
            assert!(matches!(Policy::default().check(&spoilt), Err(Error::ServerMisbehaved(_))));
        }
    }

    #[test]
    fn a_session_is_done_after_its_rounds() {
        assert!(!Policy::default().is_done(u64::MAX));
        assert!(!Policy::default().max_rounds(2).is_done(1));
        assert!(Policy::default().max_rounds(2).is_done(2));
    }

    /// A masked assignment, with something changed before it is signed.
    pub(crate) fn announced(change: impl FnOnce(&mut Session)) -> (Assignment, VerifyingKey) {
        let mut assignment = assignment(Masking::Pairwise, 16);
        let mut session = Session {
            task: assignment.task.clone(),
            round: assignment.round,
            model: assignment.model_digest,
            ..fixture::session()
        };
        change(&mut session);
        let key = fixture::server_key();
        assignment.announcement = session.announce(&key).to_bytes().into();
        (assignment, key.verifying_key())
    }

    #[test]
    fn what_is_announced_is_held_against_the_policy_before_anything_leaves() {
        let policy = Policy::default();
        let (good, key) = announced(|_| {});
        assert!(policy.announced(&good, None).is_ok() && policy.announced(&good, Some(&key)).is_ok());
        let other = SigningKey::from_bytes(&[6; 32]).verifying_key();
        assert!(matches!(policy.announced(&good, Some(&other)), Err(Error::Policy(_))));
        for (part, change) in [
            ("groups of 8", (|s| (s.group_size, s.threshold) = (8, 6)) as fn(&mut Session)),
            ("at least 11 must answer", |s| s.threshold = 10),
            ("weak guarantee", |s| s.accepted_weakness = "why not".into()),
        ] {
            let error = policy.announced(&announced(change).0, None).unwrap_err();
            assert!(matches!(error, Error::Policy(_)) && error.to_string().contains(part), "{part}: {error}");
        }
        // What is signed is not what was assigned, or cannot be at all.
        for change in [
            (|s| s.round = 9) as fn(&mut Session),
            |s| s.model = Digest([9; 32]),
            |s| s.dimension = 2,
            |s| s.mechanism = "gaussian".into(),
            |s| s.noise = 5.0,
            |s| noisy(s, 1.0, 9),
            |s| noisy(s, 4e5, 12),
            // Noise that is large on a grid of two steps, and nothing beside the rounding.
            |s| {
                noisy(s, 3.0, 10);
                s.bits = 1;
            },
            |s| {
                noisy(s, 4e5, 9);
                s.bits = 29;
            },
            |s| noisy(s, 4e5, 0),
            |s| {
                noisy(s, 4e5, 9);
                s.max_weight = 5;
            },
            |s| s.step_ms = u64::MAX,
            |s| s.advertise_ms = u64::MAX,
            |s| s.kappa = f64::NAN,
            |s| s.attempt = 5,
            |s| s.threshold = 17,
        ] {
            let error = policy.announced(&announced(change).0, None).unwrap_err();
            assert!(matches!(error, Error::ServerMisbehaved(_)), "{error}");
        }
        let mut bad = good.clone();
        let mut bytes = bad.announcement.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        bad.announcement = bytes.into();
        assert!(matches!(policy.announced(&bad, None), Err(Error::ServerMisbehaved(_))));
        let authority = Policy::default().authority(other);
        assert!(authority.announced(&good, None).unwrap_err().to_string().contains("authority"));
        let plan = Policy::default().allow_plan(Digest([8; 32]));
        assert!(plan.announced(&good, None).unwrap_err().to_string().contains("specification"));
    }

    pub(crate) fn noisy(session: &mut Session, noise: f64, honest: u32) {
        (session.mechanism, session.noise, session.delta, session.honest, session.bits) =
            (DISCRETE_GAUSSIAN.into(), noise, 1e-6, honest, 20);
    }

    #[test]
    fn shares_are_counted_from_the_threshold_and_the_devices_own_colluders() {
        // Nine shares of 2^20/3 and a little: σ is what updates are held to. One colluder of 16 leaves ten of a threshold of 11, and nine are promised.
        let (good, _) = announced(|s| noisy(s, 349_600.0, 9));
        let policy = |multiplier: f64| Policy::default().min_shared_noise(multiplier);
        assert!(policy(1.0).announced(&good, None).is_ok() && policy(1.0).check(&good).is_ok());
        assert!(Policy::default().announced(&good, None).is_ok(), "noise is no reason to leave");
        // A fifth of the group: four colluders leave seven.
        for (policy, given) in [
            (policy(1.1), "noise of 1.0"),
            (policy(1.0).min_colluders(0.2), "noise of 0.88"),
            (policy(f64::NAN), "at least NaN"),
        ] {
            let error = policy.announced(&good, None).unwrap_err();
            assert!(matches!(error, Error::Policy(_)) && error.to_string().contains(given), "{error}");
        }
        let error = policy(1.0).announced(&announced(|_| {}).0, None).unwrap_err();
        assert!(error.to_string().contains("noise of 0 times"), "{error}");
        // Without masks there are no shares; noise of one's own is enough if that is asked for too.
        assert!(policy(1.0).check(&assignment(Masking::None, 1)).unwrap_err().to_string().contains("no masks"));
        assert!(policy(1.0).check(&noised(9 << 20)).is_err());
        assert!(policy(1.0).min_local_noise(9.0).check(&noised(9 << 20)).is_ok());
    }

    #[test]
    fn insisting_on_what_only_masks_have_insists_on_masks() {
        let clear = assignment(Masking::None, 1);
        let key = SigningKey::from_bytes(&[6; 32]).verifying_key();
        for policy in [
            Policy::default().server_key(key),
            Policy::default().authority(key),
            Policy::default().allow_plan(Digest([8; 32])),
        ] {
            assert!(matches!(policy.check(&clear), Err(Error::Policy(_))));
        }
    }
}
