//! The server's last step for a group: from the survivors' shares to the masks that are still in their sum.

use super::{
    agreement::{self, Ends, PublicKey, SecretKey},
    bitmap::Bitmap,
    group::Terms,
    masks::{pair_mask, self_mask},
    shamir::{self, Share},
};
use crate::{ClientId, Digest};
use std::{collections::BTreeMap, fmt};
use testudo_aggregate::{Mask, Sign};

/// All that is needed to unmask one group's sum.
#[derive(Clone)]
pub struct Opening {
    /// The group's terms.
    pub terms: Terms,
    /// Its members, by index.
    pub members: Vec<OpeningMember>,
    /// Members that shared.
    pub shared: Bitmap,
    /// Members whose masked input is in the sum.
    pub survivors: Bitmap,
    /// The shares each answering member gave, by its index.
    pub answers: BTreeMap<u32, Vec<(u32, Share)>>,
}

/// What the server knows of one member.
#[derive(Debug, Clone)]
pub struct OpeningMember {
    /// Who.
    pub client: ClientId,
    /// Its X25519 key for masks.
    pub mask_key: PublicKey,
    /// Whether it signed that AES-256 is fast.
    pub aes: bool,
    /// Its commitment to its self-mask's seed; zero if it never shared.
    pub commitment: Digest,
}

/// What unmasks a group's sum.
#[derive(Clone)]
pub struct Opened {
    /// Whose inputs are in the sum, in the group's order.
    pub survivors: Vec<ClientId>,
    /// What to add to the sum of the inputs.
    pub masks: Vec<Mask>,
    /// Shares that do not fit.
    pub misfits: Vec<Misfit>,
}

/// A share that does not fit its owner's secret. Its owner may have dealt it so, or its holder may have changed it: which
/// of the two cannot be told, so it stands against the pair.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Misfit {
    /// Whose secret was shared.
    pub owner: ClientId,
    /// Who gave the share.
    pub holder: ClientId,
}

/// Why a group's sum stays masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Whose secret cannot be rebuilt, if that is the cause.
    pub client: Option<ClientId>,
    /// Why.
    pub detail: String,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.client {
            Some(client) => write!(f, "the secret of {client} cannot be rebuilt: {}", self.detail),
            None => write!(f, "the sum cannot be unmasked: {}", self.detail),
        }
    }
}

impl std::error::Error for Lost {}

impl Opening {
    /// Rebuilds the survivors' self-masks and the dropouts' pairwise masks, and checks each against what its owner
    /// published. Wrong shares are corrected as long as they are few.
    ///
    /// # Errors
    /// [`Lost`]: nothing is then known of the sum, and nothing may be released of it.
    pub fn open(&self) -> Result<Opened, Lost> {
        let tau = &self.terms.tau;
        let sizes = [self.members.len(), self.shared.members(), self.survivors.members()];
        if sizes != [self.terms.members; 3] || !self.survivors.is_within(&self.shared) {
            return Err(Lost { client: None, detail: "the sets are not of one group".into() });
        }
        if !self.terms.is_enough(&self.shared, &self.survivors) {
            let (count, threshold) = (self.survivors.count(), self.terms.threshold);
            return Err(Lost { client: None, detail: format!("{count} survivors are fewer than {threshold}") });
        }
        let (mut masks, mut misfits) = (Vec::new(), Vec::new());
        for member in self.survivors.iter() {
            let owner = &self.members[member];
            let fits = |seed: &[u8; 32]| agreement::seed_commitment(seed, tau, member as u32) == owner.commitment;
            let seed = self.rebuild(member, &fits, &mut misfits)?;
            masks.push(self_mask(&seed, tau, member as u32, owner.aes, Sign::Subtract));
        }
        for member in self.shared.iter().filter(|&member| !self.survivors.contains(member)) {
            let owner = &self.members[member];
            let fits = |secret: &[u8; 32]| SecretKey::from_bytes(secret).public() == owner.mask_key;
            let secret = SecretKey::from_bytes(&*self.rebuild(member, &fits, &mut misfits)?);
            for other in self.terms.neighbours(member).into_iter().filter(|&other| self.survivors.contains(other)) {
                let (aes, ends) =
                    (owner.aes && self.members[other].aes, Ends::Pair { ours: member as u32, theirs: other as u32 });
                // The survivor added the mask if the dropout comes after it, so it is taken away here, and so on.
                let sign = if member > other { Sign::Subtract } else { Sign::Add };
                let mask = pair_mask(&secret, &self.members[other].mask_key, tau, ends, aes, sign);
                masks.push(mask.map_err(|error| self.lost(member, error.to_string()))?);
            }
        }
        let name = |member: usize| self.members[member].client.clone();
        Ok(Opened { survivors: self.survivors.iter().map(name).collect(), masks, misfits })
    }

    /// The survivors, in the group's order.
    pub fn clients(&self) -> impl Iterator<Item = ClientId> + '_ {
        self.survivors.iter().map(|member| self.members[member].client.clone())
    }

    fn rebuild(
        &self,
        member: usize,
        fits: &dyn Fn(&[u8; 32]) -> bool,
        misfits: &mut Vec<Misfit>,
    ) -> Result<zeroize::Zeroizing<[u8; 32]>, Lost> {
        let shares: Vec<(u32, Share)> = self
            .answers
            .iter()
            .filter_map(|(holder, shares)| {
                let at = shares.binary_search_by_key(&(member as u32), |(index, _)| *index).ok()?;
                Some((*holder, shares[at].1.clone()))
            })
            .collect();
        let decoded = shamir::decode(&shares, self.terms.threshold as u32, fits)
            .map_err(|error| self.lost(member, error.to_string()))?;
        let name = |member: usize| self.members[member].client.clone();
        misfits.extend(decoded.bad.iter().map(|&bad| Misfit { owner: name(member), holder: name(bad as usize) }));
        Ok(decoded.secret)
    }

    fn lost(&self, member: usize, detail: String) -> Lost {
        Lost { client: Some(self.members[member].client.clone()), detail }
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answers = self.answers.len();
        write!(f, "Opening(group {}, {:?}, {answers} answers)", self.terms.group, self.survivors)
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opened({} survivors, {} masks)", self.survivors.len(), self.masks.len())
    }
}
