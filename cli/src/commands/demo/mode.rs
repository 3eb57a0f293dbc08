//! The four demos, and what is usual in each.

use testudo_simulator::workload::LocalTraining;

/// Who sees the updates, and who noises them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// The server sees them.
    Plain,
    /// The server sees sums of groups.
    Masked,
    /// The server sees them, and noises what the robust training releases.
    Private,
    /// The robust training alone is masked, and its clients noise the sums of groups.
    Shared,
}

impl Mode {
    pub(super) fn of(secure: bool, dp: bool) -> Self {
        match (secure, dp) {
            (false, false) => Self::Plain,
            (true, false) => Self::Masked,
            (false, true) => Self::Private,
            (true, true) => Self::Shared,
        }
    }

    pub(super) fn is_private(self) -> bool {
        matches!(self, Self::Private | Self::Shared)
    }

    /// Clients.
    pub(super) fn clients(self) -> usize {
        match self {
            Self::Plain => 20,
            Self::Masked => 96,
            Self::Private => 100,
            // Three large groups: what a liar moves a robust rule by is in proportion to a row's noise, and falls with the group.
            Self::Shared => 192,
        }
    }

    /// How many of them are poisoned.
    pub(super) fn poisoned(self, clients: usize) -> usize {
        match self {
            Self::Plain => clients / 5,
            Self::Masked => 3.min(clients / 5),
            Self::Private => clients / 10,
            Self::Shared => 1.min(clients / 5),
        }
    }

    /// Clients of a group.
    pub(super) fn group_size(self) -> usize {
        match self {
            Self::Shared => 64,
            _ => 8,
        }
    }

    /// Honest clients that vanish.
    pub(super) fn dropouts(self) -> usize {
        match self {
            Self::Masked => 6,
            _ => 0,
        }
    }

    /// What poisoned clients do: the fewer they are, the more it takes to do harm.
    pub(super) fn attack(self) -> &'static str {
        match self {
            Self::Plain | Self::Private => "sign_flip:scale=10",
            Self::Masked => "sign_flip:scale=100",
            Self::Shared => "sign_flip:scale=1000",
        }
    }

    /// The robust rule: of those that withstand the attack, the one that loses least against the mean without attackers;
    /// over groups one that uses nearly all of every row; under noise one with a proved sensitivity.
    pub(super) fn rule(self) -> &'static str {
        match self {
            Self::Plain => "multi_krum",
            _ => "trimmed_mean",
        }
    }

    /// Rounds of each training: the accuracy no longer grows then, or the budget holds no more.
    pub(super) fn rounds(self) -> u64 {
        match self {
            Self::Plain | Self::Private => 20,
            Self::Masked => 12,
            Self::Shared => 10,
        }
    }

    /// How every client trains: those with few examples longer, and as far as the clip where noise is to be drowned.
    pub(super) fn training(self) -> LocalTraining {
        let (epochs, learning_rate) = match self {
            Self::Plain | Self::Private => (3, 0.1),
            Self::Masked => (6, 0.15),
            Self::Shared => (5, 1.0),
        };
        LocalTraining { epochs, batch: 8, learning_rate }
    }

    /// L2 norm that private updates are clipped to: that of most honest updates of the first rounds.
    pub(super) fn clip_l2(self) -> f64 {
        if self == Self::Shared { 2.0 } else { 0.5 }
    }

    /// Noise over the clip: on the sum of all, or of a group.
    pub(super) fn noise_multiplier(self) -> f64 {
        if self == Self::Shared { 1.5 } else { 4.0 }
    }

    /// Limit of epsilon: what the usual run needs, rounded up.
    pub(super) fn budget_epsilon(self) -> f64 {
        if self == Self::Shared { 10.0 } else { 5.0 }
    }
}
