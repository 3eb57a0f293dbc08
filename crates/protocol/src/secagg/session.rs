//! What one attempt at a masked round is about: everything both sides must agree on, and its digest τ₀.

use super::{
    identity::{Signature, SigningKey, VerifyingKey},
    transcript::{Malformed, Reader, Writer},
};
use crate::{Digest, TaskName, limits};
use std::ops::RangeInclusive;

/// The suite of this version.
pub const SUITE: &str = "pairwise/1";
/// Attempts at one round that a client takes part in.
pub const ATTEMPTS: u32 = 4;
/// The mechanism of this version: rotated updates with a discrete Gaussian share of each client.
pub const DISCRETE_GAUSSIAN: &str = "discrete_gaussian/1";
/// Coordinates of a block that is rotated; updates with noise shares fill whole ones.
pub const ROTATION_BLOCK: u64 = 4096;
/// Largest standard deviation of a share, grid steps.
const LARGEST_SHARE: f64 = 68_719_476_736.0;
/// Smallest: a sum of smaller shares is not close to one discrete Gaussian.
const LEAST_SHARE: f64 = 2.0;
/// Bits with shares: on coarser grids rounding alone raises the norm that is hidden, on finer ones not even two clients fit
/// the ring.
pub const SHARE_BITS: RangeInclusive<u32> = 16..=28;
/// Longest a step may take, milliseconds: 7 days.
const LONGEST_STEP_MS: u64 = 7 * 24 * 3600 * 1000;
/// Longest text of a rule or an override in a session.
const TEXT: usize = 1 << 10;
/// Longest encoded announcement.
pub const ANNOUNCEMENT_BYTES: usize = 8 << 10;

/// One attempt at a masked round, as the server announces it. Every key, box and signature of the attempt depends on
/// its digest, so clients that were told different things have nothing in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// The task.
    pub task: TaskName,
    /// 32 random bytes, new for each attempt.
    pub id: [u8; 32],
    /// The round.
    pub round: u64,
    /// Which attempt at the round this is, from 1 to [`ATTEMPTS`].
    pub attempt: u32,
    /// SHA-256 of the model file that updates start from.
    pub model: Digest,
    /// SHA-256 of the task's specification.
    pub plan: Digest,
    /// Coordinates of an update.
    pub dimension: u64,
    /// Bits of a quantised coordinate; with a noise mechanism log₂ of the grid steps within `clip_l2`.
    pub bits: u32,
    /// Every coordinate is clamped to ±κ; nothing is with a noise mechanism.
    pub kappa: f64,
    /// Largest L2 norm of an update; a client clips a longer one.
    pub clip_l2: f64,
    /// Largest weight of a client; 0 when all weigh the same.
    pub max_weight: u64,
    /// Fewest clients that must advertise keys for the round to go on.
    pub smallest_cohort: u32,
    /// Clients of a group; a group may have more, never fewer.
    pub group_size: u32,
    /// Fewest survivors of a group of `group_size`; groups scale it.
    pub threshold: u32,
    /// The share of corrupt clients that sparse graphs are drawn for.
    pub colluders: f64,
    /// The share of dropouts that sparse graphs are drawn for.
    pub dropout: f64,
    /// The noise mechanism, [`DISCRETE_GAUSSIAN`]; empty without differential privacy.
    pub mechanism: String,
    /// Standard deviation of one client's noise share, grid steps.
    pub noise: f64,
    /// δ of the privacy guarantee.
    pub delta: f64,
    /// Honest survivors of a group that the noise was calibrated to.
    pub honest: u32,
    /// The aggregation rule with its parameters, as people read it.
    pub rule: String,
    /// Why the operator accepts a guarantee weaker than the product offers; empty if it does not.
    pub accepted_weakness: String,
    /// How long keys may be advertised from now on, milliseconds.
    pub advertise_ms: u64,
    /// How long each later step may take, milliseconds.
    pub step_ms: u64,
    /// The server's key: it signs this announcement and every set of members.
    pub server: VerifyingKey,
    /// The enrolment authority that certifies clients' keys; zero when the server vouches for them itself.
    pub authority: [u8; 32],
    /// SHA-256 of the selected clients' names.
    pub cohort: Digest,
    /// SHA-256 of the server's part of the randomness that assigns groups.
    pub commitment: Digest,
}

/// A session with the server's signature.
#[derive(Debug, Clone, PartialEq)]
pub struct Announcement {
    /// What is announced.
    pub session: Session,
    /// The server's signature over τ₀.
    pub signature: Signature,
}

impl Session {
    /// τ₀: the digest that everything of the attempt is bound to.
    pub fn digest(&self) -> Digest {
        self.write(Writer::new("testudo/round/v1")).digest()
    }

    /// Whether an enrolment authority other than the server certifies the clients.
    pub fn has_authority(&self) -> bool {
        self.authority != [0; 32]
    }

    /// Coordinates of a masked input: one more than the update's when clients have weights, whole blocks when they add
    /// shares of noise.
    pub fn ring_dimension(&self) -> u64 {
        match self.has_shares() {
            true => self.dimension.next_multiple_of(ROTATION_BLOCK),
            false => self.dimension + u64::from(self.max_weight > 0),
        }
    }

    /// Whether every client adds a share of the noise.
    pub fn has_shares(&self) -> bool {
        !self.mechanism.is_empty()
    }

    /// Shares that a group's sum is certain to have: those of the announced honest survivors, and no more than its
    /// threshold without `colluders` of a group of `group_size`; 0 without shares.
    pub fn honest_shares(&self, colluders: u32) -> u32 {
        self.honest.min(self.threshold.saturating_sub(colluders))
    }

    /// Signs the session.
    pub fn announce(self, key: &SigningKey) -> Announcement {
        let signature = key.sign(&Self::statement(&self.digest()));
        Announcement { session: self, signature }
    }

    fn statement(digest: &Digest) -> Writer {
        Writer::new("testudo/announced/v1").fixed(digest.as_bytes())
    }

    fn write(&self, mut writer: Writer) -> Writer {
        writer = writer
            .text(SUITE)
            .text(self.task.as_str())
            .fixed(&self.id)
            .u64(self.round)
            .u32(self.attempt)
            .fixed(self.model.as_bytes())
            .fixed(self.plan.as_bytes())
            .u64(self.dimension)
            .u32(self.bits)
            .f64(self.kappa)
            .f64(self.clip_l2)
            .u64(self.max_weight)
            .u32(self.smallest_cohort)
            .u32(self.group_size)
            .u32(self.threshold)
            .f64(self.colluders)
            .f64(self.dropout)
            .text(&self.mechanism)
            .f64(self.noise)
            .f64(self.delta)
            .u32(self.honest)
            .text(&self.rule)
            .text(&self.accepted_weakness)
            .u64(self.advertise_ms)
            .u64(self.step_ms)
            .fixed(&self.server.0)
            .fixed(&self.authority)
            .fixed(self.cohort.as_bytes())
            .fixed(self.commitment.as_bytes());
        writer
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        if reader.text("suite", TEXT)? != SUITE {
            return Err(Malformed::value("suite", "is out of range"));
        }
        let task =
            TaskName::new(reader.text("task", TEXT)?).map_err(|_| Malformed::value("task", "is out of range"))?;
        let session = Self {
            task,
            id: reader.array("id")?,
            round: reader.u64("round")?,
            attempt: reader.u32("attempt")?,
            model: Digest(reader.array("model")?),
            plan: Digest(reader.array("plan")?),
            dimension: reader.u64("dimension")?,
            bits: reader.u32("bits")?,
            kappa: reader.f64("kappa")?,
            clip_l2: reader.f64("clip_l2")?,
            max_weight: reader.u64("max_weight")?,
            smallest_cohort: reader.u32("smallest_cohort")?,
            group_size: reader.u32("group_size")?,
            threshold: reader.u32("threshold")?,
            colluders: reader.f64("colluders")?,
            dropout: reader.f64("dropout")?,
            mechanism: reader.text("mechanism", TEXT)?.to_string(),
            noise: reader.f64("noise")?,
            delta: reader.f64("delta")?,
            honest: reader.u32("honest")?,
            rule: reader.text("rule", TEXT)?.to_string(),
            accepted_weakness: reader.text("accepted_weakness", TEXT)?.to_string(),
            advertise_ms: reader.u64("advertise_ms")?,
            step_ms: reader.u64("step_ms")?,
            server: VerifyingKey(reader.array("server")?),
            authority: reader.array("authority")?,
            cohort: Digest(reader.array("cohort")?),
            commitment: Digest(reader.array("commitment")?),
        };
        session.check()?;
        Ok(session)
    }

    /// Numbers that no session has, whoever signed it.
    fn check(&self) -> Result<(), Malformed> {
        let finite = |value: f64| value.is_finite() && value >= 0.0;
        let share = |value: f64| (0.0..1.0).contains(&value);
        let is_share = |value: f64| (LEAST_SHARE..LARGEST_SHARE).contains(&value);
        for (field, good) in [
            ("attempt", (1..=ATTEMPTS).contains(&self.attempt)),
            ("dimension", (1..=limits::MODEL_BYTES / 4).contains(&self.dimension)),
            ("bits", if self.has_shares() { SHARE_BITS } else { 1..=31 }.contains(&self.bits)),
            ("kappa", finite(self.kappa) && self.kappa > 0.0),
            ("clip_l2", finite(self.clip_l2) && self.clip_l2 > 0.0),
            ("smallest_cohort", (1..=limits::COHORT).contains(&(self.smallest_cohort as usize))),
            ("group_size", (2..=limits::COHORT).contains(&(self.group_size as usize))),
            ("threshold", (1..=self.group_size).contains(&self.threshold)),
            ("colluders", share(self.colluders)),
            ("dropout", share(self.dropout)),
            ("advertise_ms", self.advertise_ms <= LONGEST_STEP_MS),
            ("step_ms", (1..=LONGEST_STEP_MS).contains(&self.step_ms)),
            ("delta", share(self.delta)),
            ("mechanism", ["", DISCRETE_GAUSSIAN].contains(&self.mechanism.as_str())),
            ("noise", if self.has_shares() { is_share(self.noise) } else { self.noise == 0.0 }),
            ("honest", if self.has_shares() { (1..=self.threshold).contains(&self.honest) } else { self.honest == 0 }),
            ("max_weight", !self.has_shares() || self.max_weight == 0),
        ] {
            if !good {
                return Err(Malformed::value(field, "is out of range"));
            }
        }
        Ok(())
    }
}

impl Announcement {
    /// The announcement's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new("testudo/announcement/v1");
        writer = self.session.write(writer);
        writer = writer.fixed(&self.signature.0);
        writer.finish()
    }

    /// Reads an announcement and verifies its signature by the key it names. Whether that is the right key is the
    /// policy's to say.
    ///
    /// # Errors
    /// [`Malformed`] names the first field that is not as it must be; `signature` if it does not fit.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > ANNOUNCEMENT_BYTES {
            return Err(Malformed::value("announcement", "is out of range"));
        }
        let mut reader = Reader::new(bytes);
        reader.label("testudo/announcement/v1")?;
        let session = Session::read(&mut reader)?;
        let signature = Signature(reader.array("signature")?);
        reader.end()?;
        if session.server.verify(&Session::statement(&session.digest()), &signature).is_err() {
            return Err(Malformed::value("signature", "is out of range"));
        }
        Ok(Self { session, signature })
    }
}
