//! `testudo completion`.

use crate::{exit::Failure, output::Output};
use clap::Args;
use clap_complete::{Shell, generate};
use serde_json::json;

/// `testudo completion`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  testudo completion bash > ~/.local/share/bash-completion/completions/testudo
  testudo completion zsh > ~/.zfunc/_testudo
  testudo completion fish > ~/.config/fish/completions/testudo.fish")]
pub(crate) struct Completion {
    /// Which shell
    shell: Shell,
}

impl Completion {
    /// Prints the script.
    ///
    /// # Errors
    /// Output that cannot be written.
    pub(crate) async fn run(self, output: &Output) -> Result<(), Failure> {
        let mut script = Vec::new();
        generate(self.shell, &mut crate::cli::command(), "testudo", &mut script);
        let script = String::from_utf8_lossy(&script).trim_end().to_owned();
        output.result(json!({ "shell": self.shell.to_string(), "script": script }), |_| script.clone())
    }
}
