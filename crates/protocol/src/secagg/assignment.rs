//! Which client goes into which group: a shuffle that neither side picks.
//!
//! The seed depends on a value r_S the server committed to before it saw the clients' nonces, and on those nonces
//! through the root over all advertisements. Anybody who knows the seed and the number of clients recomputes every
//! place.

use crate::{Digest, limits, secagg::transcript::Writer};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};

/// Where the seed of an assignment comes from. Its name enters the session digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Assignment {
    /// The server commits to its contribution in the announcement, clients contribute nonces. A server that
    /// controls some entries may try again offline, limited by hashing.
    #[default]
    ServerCommits,
}

impl Assignment {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServerCommits => "server_commits",
        }
    }
}

/// Why clients cannot be assigned to groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAssignment {
    /// No client, or more than the limit.
    #[error("{count} clients: between 1 and {} can be assigned to groups", limits::COHORT)]
    Count {
        /// Clients.
        count: u32,
    },
    /// Groups of nobody.
    #[error("the group size must be at least 1")]
    GroupSize,
    /// A place beyond the last client.
    #[error("place {position} is beyond the last of {count} clients")]
    Position {
        /// The place asked for.
        position: u32,
        /// Clients.
        count: u32,
    },
}

/// Where a client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// Its group, from 0.
    pub group: u32,
    /// Its place in the group's roster, from 0.
    pub index: u32,
    /// Clients in the group.
    pub group_len: u32,
}

/// SHA-256("testudo/assign" ‖ τ₀ ‖ r_S ‖ root over the advertisements ‖ |U1|).
pub fn seed(session: &Digest, server_random: &[u8; 32], advertise_root: &Digest, count: u32) -> Digest {
    Writer::new("testudo/assign")
        .fixed(session.as_bytes())
        .fixed(server_random)
        .fixed(advertise_root.as_bytes())
        .u32(count)
        .digest()
}

/// The commitment to the server's contribution that goes into the announcement.
pub fn commitment(server_random: &[u8; 32]) -> Digest {
    Digest::of(server_random)
}

/// Assigns `count` clients, ordered by id, to groups: for each group the positions of its clients in that order,
/// which is also the order of the group's roster. There are ⌊count / group_size⌋ groups, at least one, and their
/// lengths differ by at most one, the longer groups first.
///
/// # Errors
/// [`BadAssignment`] without clients, with more than the limit, or with groups of nobody.
pub fn assign(seed: &Digest, count: u32, group_size: u32) -> Result<Vec<Vec<u32>>, BadAssignment> {
    let groups = Groups::new(count, group_size)?;
    let order = shuffle(seed, count);
    let mut rest = &order[..];
    Ok((0..groups.number)
        .map(|group| {
            let (roster, others) = rest.split_at(groups.length(group) as usize);
            rest = others;
            roster.to_vec()
        })
        .collect())
}

/// The place of one client, the same as [`assign`] gives it.
///
/// # Errors
/// [`BadAssignment`] as for [`assign`], and beyond the last client.
pub fn place(seed: &Digest, count: u32, group_size: u32, position: u32) -> Result<Place, BadAssignment> {
    let groups = Groups::new(count, group_size)?;
    if position >= count {
        return Err(BadAssignment::Position { position, count });
    }
    let order = shuffle(seed, count);
    let rank = order.iter().position(|&client| client == position).expect("a shuffle holds every position");
    Ok(groups.place(u32::try_from(rank).expect("ranks are below the number of clients")))
}

/// How many groups there are and how long they are.
struct Groups {
    number: u32,
    /// Length of the shorter groups.
    length: u32,
    /// Groups that are longer by one; they come first.
    longer: u32,
}

impl Groups {
    fn new(count: u32, group_size: u32) -> Result<Self, BadAssignment> {
        if count == 0 || count as usize > limits::COHORT {
            return Err(BadAssignment::Count { count });
        }
        if group_size == 0 {
            return Err(BadAssignment::GroupSize);
        }
        let number = (count / group_size).max(1);
        Ok(Self { number, length: count / number, longer: count % number })
    }

    fn length(&self, group: u32) -> u32 {
        self.length + u32::from(group < self.longer)
    }

    /// The place of the client that the shuffle put at a rank.
    fn place(&self, rank: u32) -> Place {
        let in_longer = self.longer * (self.length + 1);
        let (group, index) = if rank < in_longer {
            (rank / (self.length + 1), rank % (self.length + 1))
        } else {
            let rank = rank - in_longer;
            (self.longer + rank / self.length, rank % self.length)
        };
        Place { group, index, group_len: self.length(group) }
    }
}

/// Fisher–Yates from the last position down, fed by the ChaCha20 stream of the seed (zero nonce, counter 0) read as
/// little-endian words of four bytes.
fn shuffle(seed: &Digest, count: u32) -> Vec<u32> {
    let mut stream = ChaCha20Rng::from_seed(seed.0);
    let mut order: Vec<u32> = (0..count).collect();
    for last in (1..count).rev() {
        let other = below(&mut stream, last + 1);
        order.swap(last as usize, other as usize);
    }
    order
}

/// A uniform number below a positive bound: words at or above the largest multiple of the bound are skipped.
fn below(stream: &mut impl Rng, bound: u32) -> u32 {
    let excess = (u32::MAX % bound + 1) % bound;
    loop {
        let word = stream.next_u32();
        if word <= u32::MAX - excess {
            return word % bound;
        }
    }
}

#[cfg(test)]
mod tests;
