//! Explicit limits, checked before anything is allocated. Both sides use these.

/// Most bytes of payload in one wire message.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Bytes of one wire message beyond its payload (field tags, the upload header's tensor table).
/// The largest legal tensor table is about 1.5 MB.
pub const MESSAGE_OVERHEAD_BYTES: usize = 1 << 20;
/// Largest model file and largest update, bytes.
pub const MODEL_BYTES: u64 = 4 << 30;
/// Largest safetensors header, bytes.
pub const MODEL_HEADER_BYTES: usize = 1 << 20;
/// Most tensors in a model.
pub const TENSORS: usize = 4096;
/// Most dimensions of one tensor.
pub const TENSOR_RANK: usize = 8;
/// Longest tensor name, bytes.
pub const TENSOR_NAME_BYTES: usize = 256;
/// Largest number of examples a client may claim; a larger claim is refused, not capped.
pub const CLAIMED_EXAMPLES: u64 = 1_000_000_000;
/// Largest cohort, over-selection included.
pub const COHORT: usize = 100_000;
/// Most clients that one task registers to sample from.
pub const REGISTERED: u64 = 1_000_000;
/// Longest time a check-in may be held open, milliseconds.
pub const CHECK_IN_WAIT_MS: u64 = 60_000;
/// Longest task configuration, bytes.
pub const TASK_TOML_BYTES: usize = 256 << 10;
