//! How many colluders, Byzantine clients and dropouts a cohort in groups withstands: exact hypergeometric tails.
//!
//! Probabilities are over the random assignment of clients to groups and, in sparse groups, of neighbours. They are
//! kept as logarithms to base 2: 2^−100 and less matter here.

use super::spoiled;
use crate::masking::Group;
use testudo_protocol::secagg::hypergeometric::Tails;

/// Failure allowed of secrecy against a server that does not choose the groups: 2^−40.
pub(super) const CURIOUS_BITS: f64 = 40.0;
/// Trials a malicious server is charged with, because it can abandon and redraw: 2^60.
const TRIALS_BITS: f64 = 60.0;
/// Failure allowed of robustness per round: 2^−20.
pub(super) const ROBUST_BITS: f64 = 20.0;

/// What the server is assumed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// It follows the protocol and colludes with clients.
    Curious,
    /// It does as it likes and colludes with clients.
    Malicious,
}

/// A cohort of clients in groups.
#[derive(Debug, Clone, PartialEq)]
pub struct Feasibility {
    /// Clients in all groups.
    clients: usize,
    /// Number of groups: rows.
    rows: usize,
    /// The kinds of groups there are.
    kinds: Vec<Group>,
}

impl Feasibility {
    /// A cohort of `clients`, in groups of these kinds; `rows` groups in all.
    pub fn new(clients: usize, rows: usize, kinds: Vec<Group>) -> Self {
        Self { clients, rows, kinds }
    }

    /// Most colluders in the cohort of which no group holds too many, but for a probability of 2^−`bits`; `None` if
    /// not even without colluders.
    ///
    /// Complete graph: at most t−2 in a group, and 2t−n−1 against a malicious server. Sparse: the same among each
    /// client's neighbours, and honest survivors that stay connected (Bell et al. 2020, Theorems 3.8 and 4.4 for one
    /// group; the colluders of a group are charged at the worst number that is not too unlikely).
    pub fn colluders(&self, server: Server, bits: f64, dropout: f64) -> Option<usize> {
        let holds = |colluders: usize| self.withstands(server, bits, dropout, colluders);
        holds(0).then(|| largest(self.clients, holds))
    }

    /// Whether this many colluders are too many for some group with a probability of at most 2^−`bits`.
    pub fn withstands(&self, server: Server, bits: f64, dropout: f64, colluders: usize) -> bool {
        self.secrecy_failure(server, colluders, dropout) <= -bits
    }

    /// Colluders that a group of `size` holds at most, of `colluders` in the cohort, but for a probability of 2^−`bits` over
    /// all rows.
    pub fn most_held(&self, size: usize, colluders: usize, bits: f64) -> usize {
        let (rows, most) = ((self.rows as f64).log2(), colluders.min(size));
        let inside = Tails::hypergeometric(self.clients as u64, colluders as u64, size as u64);
        (0..most).find(|&held| rows + inside.above(held as u64).log2() <= -bits).unwrap_or(most)
    }

    /// Most Byzantine clients in the cohort with which at most `tolerated` rows are spoiled: surely as many, because
    /// each spoils at most one row, and more where Chernoff's bound on the spoiled rows is at most 2^−20.
    pub fn byzantine(&self, tolerated: usize) -> usize {
        if tolerated == 0 {
            return 0;
        }
        if tolerated >= self.rows {
            return self.clients;
        }
        let bound = -ROBUST_BITS * std::f64::consts::LN_2;
        let holds = |bad: usize| {
            let probability = spoiled::row_spoiled(self.clients, bad, self.largest_group());
            spoiled::more_spoiled_ln(self.rows, tolerated, probability) <= bound
        };
        largest(self.clients, holds).max(tolerated)
    }

    /// The probability that the likeliest group to be lost is lost, if every client drops out with this probability.
    /// For a sparse group a bound: some client keeps fewer neighbours than the threshold.
    pub fn group_lost(&self, dropout: f64) -> f64 {
        self.kinds.iter().map(|group| lost(group, dropout)).fold(0.0, f64::max)
    }

    /// The probability that fewer than `needed` groups are left, if every client drops out with this probability.
    pub fn round_lost(&self, dropout: f64, needed: usize) -> f64 {
        let Some(spare) = self.rows.checked_sub(needed) else { return 1.0 };
        Tails::binomial(self.rows as u64, self.group_lost(dropout)).above(spare as u64).value()
    }

    /// Bits of failure that the claim against this server allows. A malicious server may draw the groups again and
    /// again, unless there is nothing to draw: one complete group.
    pub fn secrecy_bits(&self, server: Server) -> f64 {
        let nothing_drawn = self.rows == 1 && self.kinds.iter().all(Group::is_complete);
        match server {
            Server::Malicious if !nothing_drawn => CURIOUS_BITS + TRIALS_BITS,
            Server::Malicious | Server::Curious => CURIOUS_BITS,
        }
    }

    fn largest_group(&self) -> usize {
        self.kinds.iter().map(|group| group.size).max().unwrap_or(0)
    }

    /// The logarithm of a bound on the probability that some group fails: rows times the worst kind's.
    fn secrecy_failure(&self, server: Server, colluders: usize, dropout: f64) -> f64 {
        let worst = self.kinds.iter().map(|group| match group.is_complete() {
            true => self.complete_failure(group, server, colluders),
            false => self.sparse_failure(group, server, colluders, dropout),
        });
        (self.rows as f64).log2() + worst.fold(f64::NEG_INFINITY, f64::max)
    }

    fn complete_failure(&self, group: &Group, server: Server, colluders: usize) -> f64 {
        let Some(most) = most_colluders(group.size, group.threshold, server) else { return 0.0 };
        above(self.clients, colluders, group.size, most)
    }

    fn sparse_failure(&self, group: &Group, server: Server, colluders: usize, dropout: f64) -> f64 {
        // A client's neighbours hold its shares, as the whole group does in a complete graph.
        let Some(most) = most_colluders(group.degree, group.threshold, server) else { return 0.0 };
        // Expected honest clients of the group with too many colluders around them.
        let honest = self.clients.saturating_sub(colluders).max(1) as f64 * group.size as f64 / self.clients as f64;
        let neighbours = above(self.clients - 1, colluders, group.degree, most) + honest.log2();
        // How many colluders to expect in the group is a trade: many are rare, and part the survivors more easily. Any
        // number gives a bound; the best is where both are about as likely.
        let inside = Tails::hypergeometric(self.clients as u64, colluders as u64, group.size as u64);
        let dropouts = (dropout * group.size as f64 + 1e-9).floor() as usize;
        let rare = |held: usize| inside.above(held as u64).log2();
        let apart = |held: usize| disconnected(group, held + dropouts);
        let most = colluders.min(group.size);
        let crossing = largest(most, |held| rare(held) >= apart(held));
        let parted = [crossing, (crossing + 1).min(most)].map(|held| add(rare(held), apart(held)));
        let parted = parted[0].min(parted[1]);
        add(neighbours, parted)
    }
}

/// Most colluders among the `size` holders of a client's shares, with threshold t: t−2, so that two honest clients are in every sum, and against
/// a malicious server 2t−n−1, so that two sets of answers share an honest client.
fn most_colluders(size: usize, threshold: usize, server: Server) -> Option<usize> {
    let curious = threshold.checked_sub(2)?;
    match server {
        Server::Curious => Some(curious),
        Server::Malicious => Some((2 * threshold).checked_sub(size + 1)?.min(curious)),
    }
}

/// log₂ P[more than `most` of `drawn` are marked].
fn above(population: usize, marked: usize, drawn: usize, most: usize) -> f64 {
    Tails::hypergeometric(population as u64, marked as u64, drawn as u64).above(most as u64).log2()
}

/// Bell et al. 2020: n(n−k−1)/2 · C(lost, k)/C(n, k) bounds the probability that a group's survivors fall apart.
fn disconnected(group: &Group, lost: usize) -> f64 {
    let (size, degree) = (group.size, group.degree);
    if lost < degree {
        return f64::NEG_INFINITY;
    }
    let all = (0..degree).map(|taken| ((lost.min(size) - taken) as f64 / (size - taken) as f64).log2()).sum::<f64>();
    (size as f64 * (size - degree - 1) as f64 / 2.0).log2() + all
}

fn lost(group: &Group, dropout: f64) -> f64 {
    if group.is_complete() {
        return match group.size.checked_sub(group.threshold) {
            Some(spare) => Tails::binomial(group.size as u64, dropout).above(spare as u64).value(),
            None => 1.0,
        };
    }
    let spare = group.degree.saturating_sub(group.threshold) as u64;
    (Tails::binomial(group.degree as u64, dropout).above(spare) * group.size as f64).value().min(1.0)
}

/// log₂(2^a + 2^b), at most 0: a probability.
fn add(a: f64, b: f64) -> f64 {
    let (more, less) = if a >= b { (a, b) } else { (b, a) };
    if less == f64::NEG_INFINITY { more } else { more + (1.0 + (less - more).exp2()).log2() }
}

/// The largest number up to `most` that holds, if those that hold come first; 0 if none does.
fn largest(most: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut good, mut bad) = (0, most + 1);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if holds(middle) { good = middle } else { bad = middle }
    }
    good
}

#[cfg(test)]
mod tests;
