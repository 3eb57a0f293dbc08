//! `testudo init`.

use crate::{
    exit::{Exit, Failure},
    file,
    output::Output,
};
use clap::Args;
use serde_json::json;
use std::{fs, path::PathBuf};
use testudo_protocol::{Model, ModelError, Tensor};

/// A commented `task.toml` that can be created as it is.
const TASK: &str = include_str!("../../samples/task.toml");
/// Pixels of a digit's image.
const PIXELS: usize = 64;
/// Digits.
const CLASSES: usize = 10;

/// Options of `testudo init`.
#[derive(Debug, Args)]
#[command(after_help = "Writes server.toml, task.toml and model.safetensors.

Examples:
  testudo init
  testudo init --dir /etc/testudo
  testudo init --force")]
pub(crate) struct Init {
    /// Where to write them; made if it is not there
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Overwrite files that are there
    #[arg(long)]
    force: bool,
}

impl Init {
    /// Writes the three files, or none if one of them is there already.
    ///
    /// # Errors
    /// A file that is there already, or a folder that cannot be written.
    pub(crate) async fn run(self, output: &Output) -> Result<(), Failure> {
        let model = starter_model()
            .map_err(|error| Failure::new(Exit::Internal, "cannot make the first model", error.to_string()))?;
        let files = [
            ("server.toml", testudo_server::config::SAMPLE.as_bytes().to_vec()),
            ("task.toml", TASK.as_bytes().to_vec()),
            ("model.safetensors", model.to_safetensors()),
        ];
        fs::create_dir_all(&self.dir).map_err(|error| file::unwritable(&self.dir, &error))?;
        let mut drafts = Vec::new();
        for (name, bytes) in &files {
            let mut draft = file::Draft::begin(&self.dir.join(name), self.force)?;
            draft.write(bytes)?;
            drafts.push(draft);
        }
        for draft in drafts {
            draft.finish()?;
        }
        let paths: Vec<String> = files.iter().map(|(name, _)| self.dir.join(name).display().to_string()).collect();
        let next = [
            format!("testudo serve --config {}", paths[0]),
            format!("testudo task create {}", paths[1]),
            "for share in 0 1 2 3; do testudo join --task digits --clients 4 --index $share & done".to_string(),
        ];
        output.result(json!({ "files": paths, "next": next }), |_| {
            format!(
                "wrote {}\n\nnext, the last two in another terminal:\n  {}\n\n`testudo round watch digits` shows the rounds",
                paths.join(", "),
                next.join("\n  ")
            )
        })
    }
}

/// Softmax regression on the embedded digits, all zero.
fn starter_model() -> Result<Model, ModelError> {
    let tensor = |name: &str, shape: &[usize]| Tensor {
        name: name.into(),
        shape: shape.iter().map(|&length| length as u64).collect(),
    };
    let tensors = vec![tensor("weight", &[PIXELS, CLASSES]), tensor("bias", &[CLASSES])];
    Model::new(tensors, vec![0.0; (PIXELS + 1) * CLASSES])
}

#[cfg(test)]
mod tests {
    use super::*;
    use testudo_engine::TaskSpec;
    use testudo_server::Config;

    #[test]
    fn the_samples_are_accepted_as_they_are() {
        let spec = TaskSpec::new("task.toml", TASK).unwrap();
        assert_eq!((spec.name.as_str(), spec.initial_model.as_str()), ("digits", "model.safetensors"));
        Config::from_toml("server.toml", testudo_server::config::SAMPLE).unwrap();
    }

    /// A commented-out key that is misspelt or has another default would mislead.
    #[test]
    fn every_commented_key_of_the_task_sample_exists_and_shows_its_default() {
        let is_key = |line: &str| {
            line.split(" = ").next().is_some_and(|key| {
                line.contains(" = ")
                    && key.chars().all(|letter| letter.is_ascii_lowercase() || "_0123456789".contains(letter))
            })
        };
        let shown: String = TASK
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                // These have no default, or a section of their own.
                Some(key) if is_key(key) && !key.starts_with("max_l2") && !key.starts_with("client") => {
                    format!("{key}\n")
                }
                _ => format!("{line}\n"),
            })
            .collect();
        assert!(
            shown.matches(" = ").count()
                >= TASK.lines().filter(|line| !line.starts_with('#') && line.contains(" = ")).count() + 7
        );
        let (plain, shown) = (TaskSpec::new("a", TASK).unwrap(), TaskSpec::new("b", &shown).unwrap());
        assert_eq!(format!("{plain:?}"), format!("{shown:?}"));
    }

    #[test]
    fn the_first_model_fits_the_digits() {
        let model = starter_model().unwrap();
        assert_eq!(model.layout().dimension(), 650);
        assert_eq!(Model::from_safetensors(&model.to_safetensors()).unwrap(), model);
    }
}
