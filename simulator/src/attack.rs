//! What an attack is: an honest client with one thing changed.
//!
//! It may change the client's data (`poison`), its training (`train`), its update (`forge`) or its messages (`tamper`).
//! What it may look at while forging is declared as [`Knowledge`], and [`View`] hands over exactly that. An attack has no
//! state of its own: what it carries from round to round is a vector that the driver keeps (`remember`), so a study can
//! stop and resume anywhere.

use std::fmt::Debug;

use crate::data::{Dataset, Trigger};
use crate::random::Stream;
use crate::workload::{LocalTraining, Workload};

pub use error::{AttackError, Info, Parameter};
pub use knowledge::{Colluder, Knowledge};
pub use realism::Realism;
pub use tamper::{Replayed, Step, Tamper};
pub use view::{Crowd, Deployed, Observation, View};

pub(crate) use error::check_range;

mod error;
pub(crate) mod estimate;
mod knowledge;
mod realism;
pub(crate) mod response;
mod tamper;
mod view;

/// An attack, run by one poisoned client. The defaults change nothing.
///
/// A driver poisons the client's data once before the first round, trains honestly (or lets the attack train), forges,
/// tampers, sends. [`Wishes`] says which of the less usual steps an attack takes.
pub trait Attack: Debug + Send + Sync {
    /// The most this attack looks at.
    fn knowledge(&self) -> Knowledge;

    /// Which steps beyond `poison`, `forge` and `tamper` the driver should take for it.
    fn wishes(&self) -> Wishes {
        Wishes::default()
    }

    /// Changes the client's training data, once before the first round.
    ///
    /// # Errors
    /// If the attack's parameters do not fit the data.
    fn poison(&self, data: &mut Dataset, stream: &mut Stream) -> Result<(), AttackError> {
        let _ = (data, stream);
        Ok(())
    }

    /// As [`poison`](Self::poison), for one colluder of several: attacks that divide the work look at its number.
    ///
    /// # Errors
    /// As [`poison`](Self::poison).
    fn poison_as(&self, colluder: Colluder, data: &mut Dataset, stream: &mut Stream) -> Result<(), AttackError> {
        let _ = colluder;
        self.poison(data, stream)
    }

    /// Changes the client's own data for this round alone; asked when `wishes().poison_each_round`. `data` starts as the
    /// client's unpoisoned data, `stream` as that of `poison`, so that repeating a choice repeats it exactly.
    ///
    /// # Errors
    /// As [`poison`](Self::poison).
    fn poison_round(
        &self,
        colluder: Colluder,
        lesson: &Lesson<'_>,
        data: &mut Dataset,
        stream: &mut Stream,
    ) -> Result<(), AttackError> {
        let _ = (colluder, lesson, data, stream);
        Ok(())
    }

    /// Trains in the client's place, on its poisoned data; asked when `wishes().train`. `None`: train honestly.
    fn train(&self, lesson: &Lesson<'_>, view: &View<'_>, stream: &mut Stream) -> Option<Vec<f32>> {
        let _ = (lesson, view, stream);
        None
    }

    /// Changes the trained `update` into what is sent. Its length stays.
    fn forge(&self, view: &View<'_>, update: &mut [f32], stream: &mut Stream) {
        let _ = (view, update, stream);
    }

    /// What to hand over as [`View::memory`] in the next round, given this round's view and trained update; asked when
    /// `wishes().memory`, after `forge`.
    fn remember(&self, view: &View<'_>, update: &[f32]) -> Vec<f32> {
        let _ = (view, update);
        Vec::new()
    }

    /// Changes the client's messages.
    fn tamper(&self) -> Tamper {
        Tamper::None
    }

    /// As [`tamper`](Self::tamper), in `round` (from 1).
    fn tamper_in(&self, round: u64) -> Tamper {
        let _ = round;
        self.tamper()
    }

    /// The trigger whose success is measured, for attacks that plant a backdoor.
    fn backdoor(&self) -> Option<Trigger> {
        None
    }

    /// Whether every parameter is in its range.
    ///
    /// # Errors
    /// Naming the parameter, the value and the range.
    fn check(&self) -> Result<(), AttackError> {
        Ok(())
    }
}

/// Steps that cost a driver time or memory, so that it takes them only when asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Fill [`Observation::flipped`].
    pub flipped: bool,
    /// Call [`Attack::poison_round`] before training.
    pub poison_each_round: bool,
    /// Call [`Attack::train`] instead of training honestly.
    pub train: bool,
    /// Call [`Attack::remember`] and hand its answer back in the next round.
    pub memory: bool,
    /// All colluders send the same, so forging once is enough.
    pub shared: bool,
}

/// What a client trains with in a round.
#[derive(Clone, Copy, Debug)]
pub struct Lesson<'a> {
    /// Round number, from 1.
    pub round: u64,
    /// What is trained.
    pub workload: &'a dyn Workload,
    /// The released model.
    pub model: &'a [f32],
    /// The client's data, poisoned.
    pub data: &'a Dataset,
    /// How honest clients train.
    pub training: LocalTraining,
}
