//! The terms of one group: what both sides derive from the session and the rosters.

use super::{
    assignment,
    bitmap::Bitmap,
    graph::{Adversary, COMPLETE_LIMIT, Graph, Parameters, complete_threshold},
    session::Session,
    transcript::Writer,
};
use crate::Digest;

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
    pub fn seed(&self, session: &Digest) -> Digest {
        assignment::seed(session, &self.randomness, &self.root, self.advertised)
    }
}

impl Terms {
    /// The terms of group number `group`, whose entries have the root `roster`.
    ///
    /// # Errors
    /// [`Impossible`] if the session has no group so small, or no threshold protects it.
    pub fn new(
        session: &Session,
        session_digest: &Digest,
        draw: &Draw,
        group: u32,
        members: usize,
        roster: &Digest,
    ) -> Result<Self, Impossible> {
        let impossible = |error: &dyn std::fmt::Display| Impossible { members, detail: error.to_string() };
        let least = session.group_size.max(2);
        if members < least as usize {
            return Err(impossible(&format_args!("a group of this session has at least {least}")));
        }
        let count = members as u32;
        let complete = count <= COMPLETE_LIMIT;
        let (threshold, graph) = match complete {
            true => {
                let threshold = complete_threshold(count, session.group_size, Some(session.threshold))
                    .map_err(|error| impossible(&error))?;
                (threshold, Graph::complete(count))
            }
            false => {
                let found = Parameters::find(count, session.colluders, session.dropout, Adversary::Malicious)
                    .map_err(|error| impossible(&error))?;
                (found.threshold, Graph::harary(count, found.degree).map_err(|error| impossible(&error))?)
            }
        };
        let tau = Writer::new("testudo/group/v1")
            .fixed(session_digest.as_bytes())
            .fixed(draw.root.as_bytes())
            .u32(draw.advertised)
            .fixed(&draw.randomness)
            .u32(group)
            .u32(count)
            .u32(threshold)
            .u32(graph.degree())
            .fixed(roster.as_bytes())
            .digest();
        Ok(Self { tau, group, members, threshold: threshold as usize, graph, complete })
    }

    /// A member's neighbours, ascending.
    pub fn neighbours(&self, member: usize) -> Vec<usize> {
        self.graph.neighbours(member as u32).into_iter().map(|neighbour| neighbour as usize).collect()
    }

    /// Members that hold shares of this member's secrets: in a complete graph everybody, itself included; else its
    /// neighbours. Ascending.
    pub fn holders(&self, member: usize) -> Vec<usize> {
        match self.complete {
            true => (0..self.members).collect(),
            false => self.neighbours(member),
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
