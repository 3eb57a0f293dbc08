//! What a client sends in each step.

use super::{
    bitmap::Bitmap,
    identity::{Certificate, Signature, SigningKey, VerifyingKey},
    reply::list,
    shamir::{SHARE_BYTES, Share},
    transcript::{Malformed, Reader, Writer},
};
use crate::{ClientId, Digest};
use std::fmt;

/// Longest encoded message, bytes: boxes for [`NEIGHBOURS`] neighbours.
pub const MESSAGE_BYTES: usize = 128 << 10;
/// Most neighbours of a client: their boxes fit one message, their entries and paths one reply.
pub const NEIGHBOURS: usize = 1_022;
/// A sealed pair of shares.
pub const BOX_BYTES: usize = 2 * SHARE_BYTES + 16;

/// Steps of a masked round in which a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Step {
    /// Offers its keys.
    AdvertiseKeys,
    /// Hands out shares of its secrets.
    ShareKeys,
    /// Says which masked input it uploaded.
    MaskedInput,
    /// Signs the survivors it was shown.
    Consistency,
    /// Gives one share per neighbour.
    Unmask,
}

/// One message of a client.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Message {
    /// [`Step::AdvertiseKeys`].
    Advertise(Advertise),
    /// [`Step::ShareKeys`].
    Shares(Shares),
    /// [`Step::MaskedInput`].
    Input(Input),
    /// [`Step::Consistency`].
    Consistency(Consistency),
    /// [`Step::Unmask`].
    Unmask(Unmask),
}

/// A client's keys for one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertise {
    /// Who, with the long-lived key and who vouches for it.
    pub certificate: Certificate,
    /// X25519 key that boxes are sealed with.
    pub box_key: [u8; 32],
    /// X25519 key that pairwise masks come from.
    pub mask_key: [u8; 32],
    /// The client's part of the randomness that assigns groups.
    pub nonce: [u8; 32],
    /// Whether AES-256 is fast here.
    pub aes: bool,
    /// Over τ₀ and all of the above.
    pub signature: Signature,
}

/// Sealed shares for the neighbours.
#[derive(Clone, PartialEq, Eq)]
pub struct Shares {
    /// SHA-256 over the self-mask's seed.
    pub commitment: Digest,
    /// The neighbour's index in the group and its box, ascending.
    pub boxes: Vec<(u32, [u8; BOX_BYTES])>,
    /// Over τ and all of the above.
    pub signature: Signature,
}

/// The masked input that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// SHA-256 of the uploaded payload.
    pub upload: Digest,
    /// Over τ, the members that shared, and the payload's digest.
    pub signature: Signature,
}

/// A signature over the survivors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consistency {
    /// Over τ, the members that shared, and the survivors.
    pub signature: Signature,
}

/// One share per neighbour. Which of the two kinds follows from the survivors alone.
#[derive(Clone, PartialEq)]
pub struct Unmask {
    /// The neighbour's index in the group and the share, ascending.
    pub shares: Vec<(u32, Share)>,
    /// Over τ, the survivors, and the shares.
    pub signature: Signature,
}

impl Message {
    /// Which step it belongs to.
    pub fn step(&self) -> Step {
        match self {
            Self::Advertise(_) => Step::AdvertiseKeys,
            Self::Shares(_) => Step::ShareKeys,
            Self::Input(_) => Step::MaskedInput,
            Self::Consistency(_) => Step::Consistency,
            Self::Unmask(_) => Step::Unmask,
        }
    }

    /// The message's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new("testudo/message/v1");
        writer = writer.u8(self.step() as u8);
        match self {
            Self::Advertise(message) => writer = message.write(writer),
            Self::Shares(message) => {
                writer = message.write(writer);
                writer = writer.fixed(&message.signature.0);
            }
            Self::Input(message) => {
                writer = writer.fixed(message.upload.as_bytes()).fixed(&message.signature.0);
            }
            Self::Consistency(message) => writer = writer.fixed(&message.signature.0),
            Self::Unmask(message) => {
                writer = message.write(writer);
                writer = writer.fixed(&message.signature.0);
            }
        }
        writer.finish()
    }

    /// Reads a message; there is one encoding of each.
    ///
    /// # Errors
    /// [`Malformed`] names the first field that is not as it must be.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MESSAGE_BYTES {
            return Err(Malformed::value("message", "is out of range"));
        }
        let mut reader = Reader::new(bytes);
        reader.label("testudo/message/v1")?;
        let message = match reader.u8("step")? {
            0 => Self::Advertise(Advertise::read(&mut reader)?),
            1 => Self::Shares(Shares::read(&mut reader)?),
            2 => {
                let upload = Digest(reader.array("upload")?);
                Self::Input(Input { upload, signature: Signature(reader.array("signature")?) })
            }
            3 => Self::Consistency(Consistency { signature: Signature(reader.array("signature")?) }),
            4 => Self::Unmask(Unmask::read(&mut reader)?),
            _ => return Err(Malformed::value("step", "is out of range")),
        };
        reader.end()?;
        Ok(message)
    }
}

impl Advertise {
    /// Signs the keys for a session.
    pub(super) fn sign(mut self, session: &Digest, key: &SigningKey) -> Self {
        self.signature = key.sign(&self.statement(session));
        self
    }

    /// Whether the certified key signed this for the session. The certificate itself is checked apart.
    pub fn is_signed(&self, session: &Digest) -> bool {
        self.certificate.key.verify(&self.statement(session), &self.signature).is_ok()
    }

    /// Who advertises.
    pub fn client(&self) -> &ClientId {
        &self.certificate.client
    }

    fn statement(&self, session: &Digest) -> Writer {
        let mut writer = Writer::new("testudo/advertise/v1");
        writer = writer.fixed(session.as_bytes());
        writer = self.write_unsigned(writer);
        writer
    }

    /// The entry's bytes, as leaves of the rosters hold them.
    pub(crate) fn leaf(&self) -> Vec<u8> {
        let mut writer = Writer::new("testudo/entry/v1");
        writer = self.write(writer);
        writer.finish()
    }

    fn write_unsigned(&self, mut writer: Writer) -> Writer {
        writer = writer
            .text(self.certificate.client.as_str())
            .fixed(&self.certificate.key.0)
            .fixed(&self.certificate.signature.0)
            .fixed(&self.box_key)
            .fixed(&self.mask_key)
            .fixed(&self.nonce)
            .u8(u8::from(self.aes));
        writer
    }

    pub(super) fn write(&self, mut writer: Writer) -> Writer {
        writer = self.write_unsigned(writer);
        writer = writer.fixed(&self.signature.0);
        writer
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let client =
            ClientId::new(reader.text("client", 64)?).map_err(|_| Malformed::value("client", "is out of range"))?;
        let key = VerifyingKey(reader.array("identity")?);
        let signature = Signature(reader.array("certificate")?);
        Ok(Self {
            certificate: Certificate { client, key, signature },
            box_key: reader.array("box_key")?,
            mask_key: reader.array("mask_key")?,
            nonce: reader.array("nonce")?,
            aes: match reader.u8("aes")? {
                0 => false,
                1 => true,
                _ => return Err(Malformed::value("aes", "is out of range")),
            },
            signature: Signature(reader.array("signature")?),
        })
    }
}

impl Shares {
    /// What is signed.
    pub(crate) fn statement(&self, tau: &Digest, index: u32) -> Writer {
        let mut writer = Writer::new("testudo/shares/v1");
        writer = writer.fixed(tau.as_bytes()).u32(index);
        writer = self.write(writer);
        writer
    }

    fn write(&self, mut writer: Writer) -> Writer {
        writer = writer.fixed(self.commitment.as_bytes()).u32(self.boxes.len() as u32);
        for (index, sealed) in &self.boxes {
            writer = writer.u32(*index).fixed(sealed);
        }
        writer
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let commitment = Digest(reader.array("commitment")?);
        let boxes = list(reader, "boxes", |reader| reader.array("boxes"))?;
        Ok(Self { commitment, boxes, signature: Signature(reader.array("signature")?) })
    }
}

impl Input {
    pub(crate) fn statement(tau: &Digest, index: u32, shared: &Bitmap, upload: &Digest) -> Writer {
        let mut writer = Writer::new("testudo/input/v1");
        writer = writer.fixed(tau.as_bytes()).u32(index);
        writer = shared.write(writer);
        writer = writer.fixed(upload.as_bytes());
        writer
    }
}

impl Consistency {
    pub(crate) fn statement(tau: &Digest, index: u32, shared: &Bitmap, survivors: &Bitmap) -> Writer {
        let mut writer = Writer::new("testudo/consistency/v1");
        writer = writer.fixed(tau.as_bytes()).u32(index);
        writer = shared.write(writer);
        writer = survivors.write(writer);
        writer
    }
}

impl Unmask {
    pub(crate) fn statement(&self, tau: &Digest, index: u32, survivors: &Bitmap) -> Writer {
        let mut writer = Writer::new("testudo/unmask/v1");
        writer = writer.fixed(tau.as_bytes()).u32(index);
        writer = survivors.write(writer);
        writer = self.write(writer);
        writer
    }

    fn write(&self, mut writer: Writer) -> Writer {
        writer = writer.u32(self.shares.len() as u32);
        for (index, share) in &self.shares {
            writer = writer.u32(*index).fixed(&share.to_bytes()[..]);
        }
        writer
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let shares = list(reader, "shares", |reader| {
            Share::from_bytes(reader.fixed("shares", SHARE_BYTES)?)
                .map_err(|_| Malformed::value("shares", "is out of range"))
        })?;
        Ok(Self { shares, signature: Signature(reader.array("signature")?) })
    }
}

impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shares({} boxes)", self.boxes.len())
    }
}

impl fmt::Debug for Unmask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unmask({} shares)", self.shares.len())
    }
}
