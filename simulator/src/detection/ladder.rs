//! Where a client stands: down fast, up slowly.

use serde::{Deserialize, Serialize};

use super::evidence::e_bh;
use super::{Detection, Dossier};

/// Evidence from which a client is watched.
pub const WATCHED: f64 = 10.0;
/// Strikes from which a client is quarantined.
const STRIKES: u64 = 3;

/// A client's standing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing speaks against it.
    #[default]
    Normal,
    /// One evidence is at 10 or more.
    Watch,
    /// Back from quarantine after clean rounds.
    Probation,
    /// Both evidences speak against it, or a proof does.
    Suspect,
    /// In shadow: collected, never counted.
    Quarantine,
}

/// How many clients automatic quarantine may take. Without such a bound, an attacker that imitates honest clients could
/// have them expelled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caps {
    /// Never more than the rule reckons with.
    pub(super) most: usize,
    /// Never so many that fewer than this are left.
    pub(super) least: usize,
    pub(super) clients: usize,
}

/// Moves every client after a round.
pub(super) fn climb(dossiers: &mut [Dossier], settings: &Detection, round: u64, caps: Caps) {
    let past: Vec<_> = dossiers.iter().map(|dossier| dossier.by_past).collect();
    let rejected = e_bh(&past, settings.q);
    let severe = dossiers.len() as f64 / settings.alpha;
    let in_quarantine = dossiers.iter().filter(|dossier| dossier.level == Level::Quarantine).count();
    let mut room = caps.most.min(caps.clients.saturating_sub(caps.least)).saturating_sub(in_quarantine);
    for (dossier, by_past) in dossiers.iter_mut().zip(rejected) {
        let by_rank = dossier.by_rank.is_at_least(1.0 / settings.alpha);
        let accused = (by_rank && by_past) || dossier.strikes > 0;
        let proven = dossier.strikes >= STRIKES
            || (accused && dossier.by_rank.is_at_least(severe) && dossier.by_past.is_at_least(severe));
        let watched = dossier.by_rank.is_at_least(WATCHED) || dossier.by_past.is_at_least(WATCHED);
        if accused {
            dossier.flagged.get_or_insert(round);
        }
        dossier.level = match dossier.level {
            Level::Quarantine if watched || dossier.strikes > 0 => {
                // Strikes are worked off, one in so many clean rounds.
                dossier.clean = if watched { 0 } else { dossier.clean + 1 };
                if dossier.clean >= settings.clean {
                    (dossier.clean, dossier.strikes) = (0, dossier.strikes.saturating_sub(1));
                }
                Level::Quarantine
            }
            Level::Quarantine => {
                dossier.clean += 1;
                if dossier.clean >= settings.clean { Level::Probation } else { Level::Quarantine }
            }
            _ if proven && room > 0 => {
                (room, dossier.clean) = (room - 1, 0);
                Level::Quarantine
            }
            _ if accused => Level::Suspect,
            // Suspicion ends only when the evidence is gone.
            Level::Suspect if watched => Level::Suspect,
            Level::Probation if dossier.clean < 2 * settings.clean => {
                dossier.clean += 1;
                Level::Probation
            }
            _ if watched => Level::Watch,
            _ => Level::Normal,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::signals::COUNT;
    use super::*;

    const CAPS: Caps = Caps { most: 2, least: 3, clients: 8 };

    fn accused(rounds: usize) -> Dossier {
        let mut dossier = Dossier::default();
        for _ in 0..rounds {
            dossier.by_rank.add(&[0.003; COUNT], 1.0);
            dossier.by_past.add(&[0.003; COUNT], 1.0);
        }
        dossier
    }

    fn levels(dossiers: &[Dossier]) -> Vec<Level> {
        dossiers.iter().map(|dossier| dossier.level).collect()
    }

    #[test]
    fn both_evidences_are_needed() {
        let mut dossiers = vec![Dossier::default(); 8];
        dossiers[0] = Dossier { by_past: Default::default(), ..accused(9) };
        dossiers[1] = Dossier { by_rank: Default::default(), ..accused(9) };
        dossiers[2] = accused(9);
        climb(&mut dossiers, &Detection::default(), 5, CAPS);
        assert_eq!(levels(&dossiers)[..4], [Level::Watch, Level::Watch, Level::Quarantine, Level::Normal]);
        assert_eq!((dossiers[0].flagged, dossiers[2].flagged), (None, Some(5)));
    }

    #[test]
    fn quarantine_never_takes_more_than_the_rule_reckons_with_nor_too_many() {
        let mut dossiers = vec![accused(9); 8];
        climb(&mut dossiers, &Detection::default(), 1, CAPS);
        let count = |dossiers: &[Dossier]| levels(dossiers).iter().filter(|level| **level == Level::Quarantine).count();
        assert_eq!(count(&dossiers), 2);
        climb(&mut dossiers, &Detection::default(), 2, CAPS);
        assert_eq!(count(&dossiers), 2);
        let mut few = vec![accused(9); 8];
        climb(&mut few, &Detection::default(), 1, Caps { least: 7, ..CAPS });
        assert_eq!(count(&few), 1);
    }

    #[test]
    fn a_client_comes_back_by_way_of_probation() {
        let settings = Detection { clean: 3, ..Detection::default() };
        let mut dossiers = vec![Dossier::default(); 8];
        dossiers[0] = accused(9);
        climb(&mut dossiers, &settings, 1, CAPS);
        (dossiers[0].by_rank, dossiers[0].by_past) = Default::default();
        let mut seen = Vec::new();
        for round in 2..12 {
            climb(&mut dossiers, &settings, round, CAPS);
            seen.push(dossiers[0].level);
        }
        assert_eq!(seen[..2], [Level::Quarantine; 2]);
        assert_eq!(seen[2], Level::Probation);
        assert_eq!(seen[9], Level::Normal);
    }
}
