//! What the server answers to each step.

use super::{
    bitmap::Bitmap,
    identity::{Signature, SigningKey},
    message::{Advertise, BOX_BYTES},
    transcript::{Malformed, Reader, Writer},
};
use crate::{Digest, limits};
use std::fmt;

/// Longest encoded reply, bytes.
pub const REPLY_BYTES: usize = 3 << 20;
/// Longest path in a tree over a cohort.
const PATH: u32 = 32;

/// Answer to advertised keys: the neighbours, and everything the caller needs to find its own place again.
#[derive(Debug, Clone, PartialEq)]
pub struct Roster {
    /// The server's part of the randomness, committed to in the session.
    pub randomness: [u8; 32],
    /// Clients that advertised keys.
    pub advertised: u32,
    /// Root of the tree over all their entries, sorted by client.
    pub root: Digest,
    /// The caller's group.
    pub group: u32,
    /// Root of the tree over the group's entries, in the group's order.
    pub group_root: Digest,
    /// The caller and its neighbours, by their index in the group; in a complete graph that is the whole group.
    pub members: Vec<Member>,
}

/// One entry with its proofs.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its index in the group.
    pub index: u32,
    /// Its position among all clients that advertised, sorted.
    pub position: u32,
    /// Its keys.
    pub entry: Advertise,
    /// From the entry to [`Roster::root`].
    pub path: Vec<Digest>,
    /// From the entry to [`Roster::group_root`]; empty in a complete graph, where the caller sees every entry.
    pub group_path: Vec<Digest>,
}

/// Answer to shares: who shared, and the boxes for the caller.
#[derive(Clone, PartialEq, Eq)]
pub struct Shared {
    /// Members whose shares the server holds (U2).
    pub members: Bitmap,
    /// The server's signature over them.
    pub signature: Signature,
    /// The sender's index and its box for the caller, ascending.
    pub boxes: Vec<(u32, [u8; BOX_BYTES])>,
}

/// Answer to a masked input: the survivors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivors {
    /// Members whose masked input is in the sum (U3).
    pub members: Bitmap,
    /// The server's signature over them.
    pub signature: Signature,
}

/// Answer to a consistency signature: everybody's, to be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// The member's index and its signature over the survivors, ascending.
    pub signatures: Vec<(u32, Signature)>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Reply {
    /// To advertised keys.
    Roster(Box<Roster>),
    /// To shares.
    Shared(Shared),
    /// To a masked input.
    Survivors(Survivors),
    /// To a consistency signature.
    Confirmed(Confirmed),
    /// The shares arrived: the client's part is done.
    Done,
}

impl Shared {
    /// Signs who shared.
    pub(crate) fn statement(tau: &Digest, members: &Bitmap) -> Writer {
        let mut writer = Writer::new("testudo/shared/v1");
        writer = writer.fixed(tau.as_bytes());
        writer = members.write(writer);
        writer
    }
}

impl Survivors {
    /// Signs the survivors.
    pub fn sign(tau: &Digest, shared: &Bitmap, members: Bitmap, key: &SigningKey) -> Self {
        let signature = key.sign(&Self::statement(tau, shared, &members));
        Self { members, signature }
    }

    pub(crate) fn statement(tau: &Digest, shared: &Bitmap, members: &Bitmap) -> Writer {
        let mut writer = Writer::new("testudo/survivors/v1");
        writer = writer.fixed(tau.as_bytes());
        writer = shared.write(writer);
        writer = members.write(writer);
        writer
    }
}

impl Reply {
    /// The reply's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new("testudo/reply/v1");
        match self {
            Self::Roster(roster) => {
                writer = writer.u8(0);
                writer = roster.write(writer);
            }
            Self::Shared(shared) => {
                writer = writer.u8(1);
                writer = shared.members.write(writer);
                writer = writer.fixed(&shared.signature.0).u32(shared.boxes.len() as u32);
                for (index, sealed) in &shared.boxes {
                    writer = writer.u32(*index).fixed(sealed);
                }
            }
            Self::Survivors(survivors) => {
                writer = writer.u8(2);
                writer = survivors.members.write(writer);
                writer = writer.fixed(&survivors.signature.0);
            }
            Self::Confirmed(confirmed) => {
                writer = writer.u8(3).u32(confirmed.signatures.len() as u32);
                for (index, signature) in &confirmed.signatures {
                    writer = writer.u32(*index).fixed(&signature.0);
                }
            }
            Self::Done => writer = writer.u8(4),
        }
        writer.finish()
    }

    /// Reads a reply to a member of a group with this many members (0 before the groups are known).
    ///
    /// # Errors
    /// [`Malformed`] names the first field that is not as it must be.
    pub fn from_bytes(bytes: &[u8], members: usize) -> Result<Self, Malformed> {
        if bytes.len() > REPLY_BYTES {
            return Err(Malformed::value("reply", "is out of range"));
        }
        let mut reader = Reader::new(bytes);
        reader.label("testudo/reply/v1")?;
        let reply = match reader.u8("reply")? {
            0 => Self::Roster(Box::new(Roster::read(&mut reader)?)),
            1 => Self::Shared(Shared {
                members: Bitmap::read(&mut reader, "members", members)?,
                signature: Signature(reader.array("signature")?),
                boxes: list(&mut reader, "boxes", |reader| reader.array("boxes"))?,
            }),
            2 => Self::Survivors(Survivors {
                members: Bitmap::read(&mut reader, "members", members)?,
                signature: Signature(reader.array("signature")?),
            }),
            3 => Self::Confirmed(Confirmed {
                signatures: list(&mut reader, "signatures", |reader| Ok(Signature(reader.array("signatures")?)))?,
            }),
            4 => Self::Done,
            _ => return Err(Malformed::value("reply", "is out of range")),
        };
        reader.end()?;
        Ok(reply)
    }
}

impl Roster {
    fn write(&self, mut writer: Writer) -> Writer {
        writer = writer
            .fixed(&self.randomness)
            .u32(self.advertised)
            .fixed(self.root.as_bytes())
            .u32(self.group)
            .fixed(self.group_root.as_bytes())
            .u32(self.members.len() as u32);
        for member in &self.members {
            writer = writer.u32(member.index).u32(member.position);
            writer = member.entry.write(writer);
            for path in [&member.path, &member.group_path] {
                writer = writer.u32(path.len() as u32);
                for digest in path {
                    writer = writer.fixed(digest.as_bytes());
                }
            }
        }
        writer
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let randomness = reader.array("randomness")?;
        let advertised = reader.u32("advertised")?;
        if !(1..=limits::COHORT).contains(&(advertised as usize)) {
            return Err(Malformed::value("advertised", "is out of range"));
        }
        let root = Digest(reader.array("root")?);
        let group = reader.u32("group")?;
        let group_root = Digest(reader.array("group_root")?);
        let members = list(reader, "members", |reader| {
            let position = reader.u32("position")?;
            let entry = Advertise::read(reader)?;
            let path = path(reader)?;
            Ok((position, entry, path, self::path(reader)?))
        })?;
        let member = |(index, (position, entry, path, group_path))| Member { index, position, entry, path, group_path };
        Ok(Self { randomness, advertised, root, group, group_root, members: members.into_iter().map(member).collect() })
    }
}

fn path(reader: &mut Reader<'_>) -> Result<Vec<Digest>, Malformed> {
    let length = reader.u32("path")?;
    if length > PATH {
        return Err(Malformed::value("path", "is out of range"));
    }
    (0..length).map(|_| reader.array("path").map(Digest)).collect()
}

/// Items with the members' indices, each once, in order. As many as the bytes hold, whatever the count claims.
pub(super) fn list<T>(
    reader: &mut Reader<'_>,
    field: &'static str,
    mut item: impl FnMut(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<Vec<(u32, T)>, Malformed> {
    let count = reader.u32(field)?;
    let mut items: Vec<(u32, T)> = Vec::new();
    for _ in 0..count {
        let index = reader.u32(field)?;
        if items.last().is_some_and(|(last, _)| *last >= index) {
            return Err(Malformed::value(field, "is out of range"));
        }
        items.push((index, item(reader)?));
    }
    Ok(items)
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({:?}, {} boxes)", self.members, self.boxes.len())
    }
}
