//! The terms of one group: what both sides derive from the session and the rosters.

use super::{
    assignment,
    bitmap::Bitmap,
    graph::{Adversary, Graph, Parameters, complete_threshold},
    session::Session,
    transcript::Writer,
};
use crate::Digest;

/// Groups of at most this many members use the complete graph.
pub const COMPLETE: usize = 100;

/// A group that no session has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no group of {members} clients: {detail}")]
pub struct Impossible {
    /// Its members.
    pub members: usize,
    /// What stands against it.
    pub detail: String,
}

/// The draw of the groups, as both sides repeat it.
#[derive(Debug, Clone)]
pub struct Draw {
    /// Clients that advertised keys.
    pub advertised: u32,
    /// Root of the tree over their entries, sorted by client.
    pub root: Digest,
    /// The server's part of the randomness.
    pub randomness: [u8; 32],
}

/// What a group's members share with the server.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The digest τ that every key, box and signature of the group depends on.
    pub tau: Digest,
    /// The group's number.
    pub group: u32,
    /// Its members.
    pub members: usize,
    /// Fewest survivors.
    pub threshold: usize,
    /// Who masks with whom.
    pub graph: Graph,
    /// Whether the graph is complete.
    pub complete: bool,
}

impl Draw {
    /// The seed of the assignment.
    pub fn seed(&self, session: &Digest) -> [u8; 32] {
        assignment::seed(session, &self.randomness, &self.root, self.advertised)
    }
}

/// SHA-256 of the server's randomness, as a session commits to it.
pub fn commitment(randomness: &[u8; 32]) -> Digest {
    Writer::new("testudo/randomness/v1").fixed(randomness).digest()
}

impl Terms {
    /// The terms of group number `group`, whose entries have the root `roster`.
    ///
    /// # Errors
    /// [`Impossible`] if no threshold protects a group of this size.
    pub fn new(
        session: &Session,
        session_digest: &Digest,
        draw: &Draw,
        group: u32,
        members: usize,
        roster: &Digest,
    ) -> Result<Self, Impossible> {
        let (group_size, configured) = (session.group_size as usize, session.threshold as usize);
        let complete = members <= COMPLETE;
        let (degree, threshold, graph) = match complete {
            true => {
                let threshold = complete_threshold(members, group_size, Some(configured));
                (members - 1, threshold, Graph::complete(members))
            }
            false => {
                let found = Parameters::find(members, session.colluders, session.dropout, Adversary::Malicious)
                    .map_err(|error| Impossible { members, detail: error.to_string() })?;
                let graph = Graph::harary(members, found.degree);
                (found.degree, found.threshold, graph)
            }
        };
        let tau = Writer::new("testudo/group/v1")
            .fixed(session_digest.as_bytes())
            .fixed(draw.root.as_bytes())
            .u32(draw.advertised)
            .fixed(&draw.randomness)
            .u32(group)
            .u32(members as u32)
            .u32(threshold as u32)
            .u32(degree as u32)
            .fixed(roster.as_bytes())
            .digest();
        Ok(Self { tau, group, members, threshold, graph, complete })
    }

    /// Members that hold shares of this member's secrets: in a complete graph everybody, itself included; else its
    /// neighbours. Ascending.
    pub fn holders(&self, member: usize) -> Vec<usize> {
        match self.complete {
            true => (0..self.members).collect(),
            false => self.graph.neighbours(member),
        }
    }

    /// Whether enough of a member's share holders are in a set for its secrets to be rebuilt.
    pub fn is_recoverable(&self, member: usize, set: &Bitmap) -> bool {
        self.holders(member).iter().filter(|&&holder| set.contains(holder)).count() >= self.threshold
    }

    /// Whether a set of survivors can be unmasked: enough of them, and for each member that shared enough holders.
    pub fn is_enough(&self, shared: &Bitmap, survivors: &Bitmap) -> bool {
        survivors.count() >= self.threshold
            && (self.complete || shared.iter().all(|member| self.is_recoverable(member, survivors)))
    }
}
