//! Who plays the rounds of a study: by default the engine in this process, on a virtual clock.

use std::fmt::Debug;

use crate::world::{World, WorldError};

/// Plays runs somewhere else, such as on a real server.
pub trait Driver: Debug + Sync {
    /// Begins the run `id`, whose world is before its first round.
    ///
    /// # Errors
    /// A run that cannot be played there.
    fn open(&self, id: &str, world: &World) -> Result<Box<dyn Course>, WorldError>;
}

/// One run under way.
pub trait Course: Debug {
    /// Plays one round: the world is [prepared](World::prepare) and [closed](World::close).
    ///
    /// # Errors
    /// Whatever keeps the run from going on.
    fn step(&mut self, world: &mut World) -> Result<(), WorldError>;

    /// Takes everything down after the last round, or after a stop.
    fn finish(&mut self);
}
