//! One noun per file. A command is added with its module and one line in the table below.

pub(crate) mod aggregate;
pub(crate) mod calibrate;
pub(crate) mod client;
pub(crate) mod completion;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod hostile;
pub(crate) mod identity;
pub(crate) mod init;
pub(crate) mod join;
pub(crate) mod load;
pub(crate) mod model;
pub(crate) mod privacy;
pub(crate) mod round;
pub(crate) mod rules;
pub(crate) mod serve;
pub(crate) mod simulate;
pub(crate) mod study;
pub(crate) mod task;

use crate::{exit::Failure, output::Output};
use clap::Subcommand;

macro_rules! commands {
    ($($(#[$doc:meta])* $command:ident($module:ident),)+) => {
        /// What `testudo` can do, in the order of its help.
        #[derive(Debug, Subcommand)]
        pub(crate) enum Command {
            $($(#[$doc])* $command(Box<$module::$command>),)+
        }

        impl Command {
            /// Does it.
            ///
            /// # Errors
            /// What could not be done, why, and what to do next.
            pub(crate) async fn run(self, output: &Output) -> Result<(), Failure> {
                match self {
                    $(Self::$command(command) => command.run(output).await,)+
                }
            }
        }
    };
}

commands! {
    /// Shows poisoned clients failing against a robust rule, in seconds
    Demo(demo),
    /// Runs a server
    Serve(serve),
    /// Creates, checks, shows, pauses, resumes and stops tasks
    Task(task),
    /// Lists, shows and watches rounds
    Round(round),
    /// Lists clients
    Client(client),
    /// Fetches released models
    Model(model),
    /// Says what a private run costs and how much noise it needs; shows and verifies budgets
    Privacy(privacy),
    /// Lists and explains the aggregation rules
    Rules(rules),
    /// Applies a rule to a file of updates, without a server
    Aggregate(aggregate),
    /// Runs a study of poisoned clients from a file, and reports it
    Simulate(simulate),
    /// Compares and verifies finished studies
    Study(study),
    /// Measures how often a detector accuses honest clients
    Calibrate(calibrate),
    /// Takes part in a task as an example client
    Join(join),
    /// Makes, shows and certifies the keys that sign in masked rounds
    Identity(identity),
    /// Measures a server with many clients
    Load(load),
    /// Writes commented configuration files and a first model
    Init(init),
    /// Looks for whatever keeps a server from working, and says how to mend it
    Doctor(doctor),
    /// Prints what a shell needs to complete commands and options
    Completion(completion),
}

impl Command {
    /// Whether SIGINT and SIGTERM are the command's own business: it stops gracefully, or computes without ever
    /// waiting, so that the operating system had better end it.
    pub(crate) fn handles_signals(&self) -> bool {
        matches!(
            self,
            Self::Serve(_)
                | Self::Aggregate(_)
                | Self::Privacy(_)
                | Self::Simulate(_)
                | Self::Study(_)
                | Self::Calibrate(_)
        )
    }
}
