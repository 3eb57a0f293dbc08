//! Messages of the federation service as checked types.

use crate::{
    Place, check_layout,
    convert::{digest_from_wire, layout_from_wire, layout_to_wire},
    task::checked_chunk,
    v1,
};
use bytes::Bytes;
use std::time::Duration;
use testudo_protocol::{Digest, Encoding, Layout, Nonce, Reason, Reject, TaskName, UnknownEncoding, limits};

macro_rules! words {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $type {
            $($(#[$variant_doc])* $variant,)*
            /// A word this version does not know.
            Unknown,
        }

        impl $type {
            /// The word on the wire.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* Self::Unknown => "unknown" }
            }

            /// Reads the word on the wire.
            pub fn from_word(word: &str) -> Self {
                match word { $($word => Self::$variant,)* _ => Self::Unknown }
            }
        }
    };
}

words!(
    /// Why there is no place for a client at the moment.
    NotNowWhy {
        /// The next round waits for more clients.
        Filling = "filling",
        /// A round without this client is running.
        Running = "running",
        /// The next round has opened with others.
        NotSelected = "not_selected",
        /// The operator paused the task.
        Paused = "paused",
        /// This client's update of the running round is recorded.
        Served = "served",
        /// This client took part not long enough ago: its task limits how far apart two rounds of one client are.
        TooSoon = "too_soon",
        /// This client took part as often as its task permits, or no round that is left is far enough from its last: it
        /// gets no further place in it.
        LimitReached = "limit_reached",
        /// The task samples from as many clients as have registered, and this one is not among them.
        Full = "full",
    }
);
words!(
    /// Why a task takes no more updates.
    EndedWhy {
        /// All its rounds are done.
        Finished = "finished",
        /// The operator stopped it.
        Stopped = "stopped",
        /// It could not go on.
        Failed = "failed",
    }
);
words!(
    /// Who can see a client's update.
    Masking {
        /// The server sees each row in the clear.
        None = "none",
        /// The server sees only sums of groups.
        Pairwise = "pairwise",
        /// The server sees each row with its client's own noise.
        Noise = "noise",
    }
);

/// What every client adds to its own update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OwnNoise {
    /// The L2 norm that updates are clipped to, 1e-30 to 1e30.
    pub clip_l2: f64,
    /// log₂ of the grid steps within the clip, 1 to 31.
    pub grid_bits: u32,
    /// σ in grid steps, 1 to 2³⁵.
    pub sigma_grid: u64,
}

impl OwnNoise {
    /// z = σ/C.
    pub fn multiplier(&self) -> f64 {
        self.sigma_grid as f64 / (1_u64 << self.grid_bits.min(63)) as f64
    }

    fn to_wire(self) -> v1::OwnNoise {
        let Self { clip_l2, grid_bits, sigma_grid } = self;
        v1::OwnNoise { clip_l2, grid_bits, sigma_grid }
    }

    fn from_wire(noise: &v1::OwnNoise) -> Result<Self, Reject> {
        let v1::OwnNoise { clip_l2, grid_bits, sigma_grid } = *noise;
        for (field, good) in [
            ("clip_l2", (1e-30..=1e30).contains(&clip_l2)),
            ("grid_bits", (1..=31).contains(&grid_bits)),
            ("sigma_grid", (1..=1 << 35).contains(&sigma_grid)),
        ] {
            if !good {
                return Err(Reject::new(Reason::Malformed, format!("field own_noise.{field} is out of range")));
            }
        }
        Ok(Self { clip_l2, grid_bits, sigma_grid })
    }
}

/// A client's place in a round and what to do there.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// Which task.
    pub task: TaskName,
    /// Which round.
    pub round: u64,
    /// Ties the client's calls to this round.
    pub nonce: Nonce,
    /// SHA-256 of the model file the round starts from.
    pub model_digest: Digest,
    /// Length of that file, bytes, at most [`limits::MODEL_BYTES`].
    pub model_bytes: u64,
    /// The update's tensors.
    pub layout: Layout,
    /// Until the round stops taking updates.
    pub time_left: Duration,
    /// Payload bytes per message, 1 to [`limits::CHUNK_BYTES`].
    pub chunk_bytes: usize,
    /// Claims above this are capped.
    pub max_examples: u64,
    /// The rule's name, at most 80 characters.
    pub rule: String,
    /// Who can see the update.
    pub masking: Masking,
    /// Clients whose updates are summed before a rule sees them.
    pub group_size: u32,
    /// Encodings an update may have.
    pub encodings: Vec<Encoding>,
    /// What a masked round announces, signed; empty in clear mode. See `testudo_protocol::secagg::Announcement`.
    pub announcement: Bytes,
    /// What the client adds to its update; with [`Masking::Noise`] alone.
    pub own_noise: Option<OwnNoise>,
}

impl Assignment {
    /// For the wire.
    pub fn to_wire(&self) -> v1::Assignment {
        v1::Assignment {
            task: self.task.to_string(),
            round: self.round,
            nonce: Bytes::copy_from_slice(self.nonce.as_bytes()),
            model_digest: Bytes::copy_from_slice(self.model_digest.as_bytes()),
            model_bytes: self.model_bytes,
            tensors: layout_to_wire(&self.layout),
            time_left_ms: u64::try_from(self.time_left.as_millis()).unwrap_or(u64::MAX),
            chunk_bytes: u32::try_from(self.chunk_bytes).unwrap_or(u32::MAX),
            max_examples: self.max_examples,
            rule: self.rule.clone(),
            masking: self.masking.word().to_owned(),
            group_size: self.group_size,
            encodings: self.encodings.iter().map(|encoding| encoding.word().to_owned()).collect(),
            announcement: self.announcement.clone(),
            own_noise: self.own_noise.map(OwnNoise::to_wire),
        }
    }

    /// Reads an assignment.
    ///
    /// # Errors
    /// [`Reject`]: [`Reason::Malformed`] for names, nonces, digests, chunk sizes or noise that cannot be,
    /// [`Reason::Oversize`] for a model over [`limits::MODEL_BYTES`], and as [`layout_from_wire`].
    pub fn from_wire(assignment: v1::Assignment) -> Result<Self, Reject> {
        let chunk_bytes = assignment.chunk_bytes as usize;
        if !(1..=limits::CHUNK_BYTES).contains(&chunk_bytes) {
            let detail = format!("chunk_bytes is {chunk_bytes}, outside 1 to {}", limits::CHUNK_BYTES);
            return Err(Reject::new(Reason::Malformed, detail));
        }
        if assignment.model_bytes > limits::MODEL_BYTES {
            let detail = format!(
                "the model is {} bytes, more than the limit of {}",
                assignment.model_bytes,
                limits::MODEL_BYTES
            );
            return Err(Reject::new(Reason::Oversize, detail));
        }
        Ok(Self {
            task: task(assignment.task)?,
            round: assignment.round,
            nonce: Nonce::try_from(assignment.nonce.as_ref())
                .map_err(|error| Reject::new(Reason::Malformed, format!("field nonce: {error}")))?,
            model_digest: digest_from_wire(&assignment.model_digest, "model_digest")?,
            model_bytes: assignment.model_bytes,
            layout: layout_from_wire(assignment.tensors)?,
            time_left: Duration::from_millis(assignment.time_left_ms),
            chunk_bytes,
            max_examples: assignment.max_examples,
            rule: assignment.rule.chars().take(80).collect(),
            masking: Masking::from_word(&assignment.masking),
            group_size: assignment.group_size,
            encodings: encodings(&assignment.encodings),
            announcement: assignment.announcement,
            own_noise: assignment.own_noise.as_ref().map(OwnNoise::from_wire).transpose()?,
        })
    }
}

/// The encodings this version knows; f32 is always one of them.
fn encodings(words: &[String]) -> Vec<Encoding> {
    let known = words.iter().take(64).filter_map(|word| Encoding::from_wire(word).ok());
    let all: std::collections::BTreeSet<Encoding> = known.chain([Encoding::F32]).collect();
    all.into_iter().collect()
}

/// How often and how far apart one client takes part in its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeatLimit {
    /// Most rounds of one client.
    pub participations: u32,
    /// Two of them are at least so many rounds apart.
    pub separation: u64,
    /// The first round that this client may get a place in (rounds that are given back put it off); `None` if there is none.
    pub next_round: Option<u64>,
}

impl SeatLimit {
    fn to_wire(self) -> v1::SeatLimit {
        let Self { participations, separation, next_round } = self;
        v1::SeatLimit { participations, separation, next_round: next_round.unwrap_or(0) }
    }

    fn from_wire(limit: v1::SeatLimit) -> Self {
        let v1::SeatLimit { participations, separation, next_round } = limit;
        Self { participations, separation, next_round: (next_round > 0).then_some(next_round) }
    }
}

/// What a check-in is answered with.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// A place in a round.
    Assignment(Box<Assignment>),
    /// Nothing to do yet.
    NotNow {
        /// When to check in again.
        retry_after: Duration,
        /// Why.
        why: NotNowWhy,
        /// What the task permits one client, if that is why.
        limit: Option<SeatLimit>,
    },
    /// The task takes no more updates.
    Ended {
        /// Why.
        why: EndedWhy,
    },
}

impl Answer {
    /// Nothing to do yet, for a reason that is not the client's own.
    pub fn not_now(retry_after: Duration, why: NotNowWhy) -> Self {
        Self::NotNow { retry_after, why, limit: None }
    }

    /// For the wire, with the verdicts the client does not know yet (oldest first, at most 16).
    pub fn to_wire(&self, verdicts: Vec<v1::RoundVerdict>) -> v1::CheckInResponse {
        use v1::check_in_response::Answer as Wire;
        let answer = match self {
            Self::Assignment(assignment) => Wire::Assignment(assignment.to_wire()),
            Self::NotNow { retry_after, why, limit } => Wire::NotNow(v1::NotNow {
                retry_after_ms: u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX),
                why: why.word().to_owned(),
                limit: limit.map(SeatLimit::to_wire),
            }),
            Self::Ended { why } => Wire::Ended(v1::Ended { why: why.word().to_owned() }),
        };
        v1::CheckInResponse { answer: Some(answer), verdicts }
    }

    /// Reads an answer; the verdicts beside it are read with
    /// [`round_verdict_from_wire`](crate::round_verdict_from_wire).
    ///
    /// # Errors
    /// [`Reject`] with [`Reason::Malformed`] if it is missing, and as [`Assignment::from_wire`].
    pub fn from_wire(answer: Option<v1::check_in_response::Answer>) -> Result<Self, Reject> {
        use v1::check_in_response::Answer as Wire;
        Ok(match answer {
            Some(Wire::Assignment(assignment)) => Self::Assignment(Box::new(Assignment::from_wire(assignment)?)),
            Some(Wire::NotNow(not_now)) => Self::NotNow {
                retry_after: Duration::from_millis(not_now.retry_after_ms),
                why: NotNowWhy::from_word(&not_now.why),
                limit: not_now.limit.map(SeatLimit::from_wire),
            },
            Some(Wire::Ended(ended)) => Self::Ended { why: EndedWhy::from_word(&ended.why) },
            None => return Err(Reject::new(Reason::Malformed, "field answer is missing")),
        })
    }
}

/// What precedes the bytes of an upload.
#[derive(Debug, Clone, PartialEq)]
pub struct UploadHeader {
    /// Whose upload, in which round.
    pub place: Place,
    /// SHA-256 of the model file the update was trained from.
    pub model_digest: Digest,
    /// SHA-256 of the whole payload, whatever the offset.
    pub digest: Digest,
    /// Length of the whole payload, bytes.
    pub total_bytes: u64,
    /// Where this stream starts; at most `total_bytes`.
    pub offset: u64,
    /// Examples the client claims to have trained on; not yet checked.
    pub num_examples: i64,
    /// The tensor table as claimed; compare with [`UploadHeader::check_layout`].
    pub tensors: Vec<v1::Tensor>,
    /// What the payload's bytes stand for; not yet checked against the task.
    pub encoding: Encoding,
}

impl UploadHeader {
    /// For the wire.
    pub fn to_wire(self) -> v1::UploadHeader {
        v1::UploadHeader {
            place: Some(self.place.to_wire()),
            model_digest: Bytes::copy_from_slice(self.model_digest.as_bytes()),
            digest: Bytes::copy_from_slice(self.digest.as_bytes()),
            total_bytes: self.total_bytes,
            offset: self.offset,
            num_examples: self.num_examples,
            tensors: self.tensors,
            // The default stays unsaid, as before there were others.
            encoding: if self.encoding == Encoding::F32 { String::new() } else { self.encoding.word().to_owned() },
        }
    }

    /// Reads a header. What depends on the round (length, layout, examples, model) is the round's to check.
    ///
    /// # Errors
    /// [`Reject`]: [`Reason::Malformed`] for a bad place or digest, [`Reason::Oversize`] for a payload over
    /// [`limits::MODEL_BYTES`], [`Reason::WrongOffset`] for a start behind the end.
    pub fn from_wire(header: v1::UploadHeader) -> Result<Self, Reject> {
        let place = Place::from_wire(header.place)?;
        if header.total_bytes > limits::MODEL_BYTES {
            let detail =
                format!("the update is {} bytes, more than the limit of {}", header.total_bytes, limits::MODEL_BYTES);
            return Err(Reject::new(Reason::Oversize, detail));
        }
        if header.tensors.len() > limits::TENSORS {
            let detail = format!("{} tensors, more than the limit of {}", header.tensors.len(), limits::TENSORS);
            return Err(Reject::new(Reason::WrongShape, detail));
        }
        if header.offset > header.total_bytes {
            let detail = format!("offset {} is behind the end at {}", header.offset, header.total_bytes);
            return Err(Reject::new(Reason::WrongOffset, detail));
        }
        Ok(Self {
            place,
            model_digest: digest_from_wire(&header.model_digest, "model_digest")?,
            digest: digest_from_wire(&header.digest, "digest")?,
            total_bytes: header.total_bytes,
            offset: header.offset,
            num_examples: header.num_examples,
            tensors: header.tensors,
            encoding: match header.encoding.as_str() {
                "" => Encoding::F32,
                word => Encoding::from_wire(word).map_err(|error: UnknownEncoding| {
                    Reject::new(Reason::WrongDtype, format!("field encoding: {error}"))
                })?,
            },
        })
    }

    /// Whether the claimed tensors are exactly those of the round.
    ///
    /// # Errors
    /// As [`check_layout`](crate::check_layout).
    pub fn check_layout(&self, layout: &Layout) -> Result<(), Reject> {
        check_layout(&self.tensors, layout)
    }
}

/// One message of an upload.
#[derive(Debug, Clone, PartialEq)]
pub enum UploadPart {
    /// The first message, and only the first.
    Header(Box<UploadHeader>),
    /// A piece of the payload, 1 byte to [`limits::CHUNK_BYTES`].
    Chunk(Bytes),
}

impl UploadPart {
    /// For the wire.
    pub fn to_wire(self) -> v1::UploadRequest {
        use v1::upload_request::Part;
        let part = match self {
            Self::Header(header) => Part::Header(header.to_wire()),
            Self::Chunk(chunk) => Part::Chunk(chunk),
        };
        v1::UploadRequest { part: Some(part) }
    }

    /// Reads one message.
    ///
    /// # Errors
    /// [`Reject`]: [`Reason::Malformed`] for an empty message or chunk, [`Reason::Oversize`] for a chunk over
    /// [`limits::CHUNK_BYTES`], and as [`UploadHeader::from_wire`].
    pub fn from_wire(request: v1::UploadRequest) -> Result<Self, Reject> {
        use v1::upload_request::Part;
        match request.part {
            Some(Part::Header(header)) => UploadHeader::from_wire(header).map(|header| Self::Header(Box::new(header))),
            Some(Part::Chunk(chunk)) => checked_chunk(chunk).map(Self::Chunk),
            None => Err(Reject::new(Reason::Malformed, "a message with neither header nor chunk")),
        }
    }
}

/// What the server signs off once an update is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Which task.
    pub task: TaskName,
    /// Which round.
    pub round: u64,
    /// SHA-256 of the payload.
    pub digest: Digest,
    /// Examples as capped by the task.
    pub num_examples: u64,
    /// Milliseconds since the Unix epoch.
    pub received_at_ms: u64,
}

impl Receipt {
    /// For the wire.
    pub fn to_wire(&self) -> v1::UploadReceipt {
        v1::UploadReceipt {
            task: self.task.to_string(),
            round: self.round,
            digest: Bytes::copy_from_slice(self.digest.as_bytes()),
            num_examples: self.num_examples,
            received_at_ms: self.received_at_ms,
        }
    }

    /// Reads a receipt.
    ///
    /// # Errors
    /// [`Reject`] with [`Reason::Malformed`] for a bad task name or digest.
    pub fn from_wire(receipt: v1::UploadReceipt) -> Result<Self, Reject> {
        Ok(Self {
            task: task(receipt.task)?,
            round: receipt.round,
            digest: digest_from_wire(&receipt.digest, "digest")?,
            num_examples: receipt.num_examples,
            received_at_ms: receipt.received_at_ms,
        })
    }
}

fn task(name: String) -> Result<TaskName, Reject> {
    TaskName::new(name).map_err(|error| Reject::new(Reason::Malformed, format!("field task: {error}")))
}

#[cfg(test)]
mod tests;
