//! `testudo init`.

use crate::{
    exit::{Exit, Failure},
    file,
    output::Output,
};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::{fs, path::PathBuf};
use testudo_protocol::{Model, ModelError, Tensor};

/// A commented `task.toml` that can be created as it is.
const TASK: &str = include_str!("../../samples/task.toml");
/// The same under pairwise masking.
const MASKED_TASK: &str = include_str!("../../samples/task-masked.toml");
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
  testudo init --masking pairwise
  testudo init --force")]
pub(crate) struct Init {
    /// Where to write them; made if it is not there
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Overwrite files that are there
    #[arg(long)]
    force: bool,
    /// The task that is written: "none" lets the server see every update, "pairwise" only sums over groups
    #[arg(long, value_enum, value_name = "MODE", default_value_t)]
    masking: Masking,
}

/// What hides the updates from the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Masking {
    /// Nothing.
    #[default]
    None,
    /// Masks that cancel in the sum of a group.
    Pairwise,
}

impl Init {
    /// Writes the three files, or none if one of them is there already.
    ///
    /// # Errors
    /// A file that is there already, or a folder that cannot be written.
    pub(crate) async fn run(self, output: &Output) -> Result<(), Failure> {
        let model = starter_model()
            .map_err(|error| Failure::new(Exit::Internal, "cannot make the first model", error.to_string()))?;
        let (task, clients) = match self.masking {
            Masking::None => (TASK, 4),
            // Some to spare: a round opens when as many wait as it selects.
            Masking::Pairwise => (MASKED_TASK, 72),
        };
        let files = [
            ("server.toml", testudo_server::config::SAMPLE.as_bytes().to_vec()),
            ("task.toml", task.as_bytes().to_vec()),
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
            format!(
                "for share in $(seq 0 {}); do testudo join --task digits --clients {clients} --index $share & done",
                clients - 1
            ),
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

    /// What the commands of `next` rely on.
    #[test]
    fn the_samples_are_accepted_as_they_are() {
        for (text, size) in [(TASK, 4), (MASKED_TASK, 64)] {
            let spec = TaskSpec::new("task.toml", text).unwrap();
            assert_eq!((spec.name.as_str(), spec.initial_model.as_str()), ("digits", "model.safetensors"));
            assert_eq!(spec.cohort.size, size);
        }
        Config::from_toml("server.toml", testudo_server::config::SAMPLE).unwrap();
    }

    /// A commented-out key that is misspelt or has another default would mislead.
    #[test]
    fn every_commented_key_of_the_task_samples_exists_and_shows_its_default() {
        // These have no default, need a section of their own, or have no effect unless something else is asked for.
        let skipped = ["max_l2", "client", "authority", "accept_weak_guarantee", "byzantine", "threshold", "max"];
        for (text, keys) in [(TASK, 8), (MASKED_TASK, 8)] {
            let key_of = |line: &str| {
                let (key, _) = line.split_once(" = ")?;
                let is_key = key.chars().all(|letter| letter.is_ascii_lowercase() || "_0123456789".contains(letter));
                is_key.then(|| key.to_string())
            };
            let mut shown_keys = 0;
            let shown: Vec<&str> = text
                .lines()
                .map(|line| match line.strip_prefix("# ").map(|bare| (bare, key_of(bare))) {
                    Some((bare, Some(key))) if key == "max" && text == TASK || !skipped.contains(&key.as_str()) => {
                        shown_keys += 1;
                        bare
                    }
                    _ => line,
                })
                .collect();
            assert!(shown_keys >= keys, "{shown_keys}");
            let (plain, shown) = (TaskSpec::new("a", text).unwrap(), TaskSpec::new("b", &shown.join("\n")).unwrap());
            assert_eq!(format!("{plain:?}"), format!("{shown:?}"));
        }
    }

    /// The section as a whole has no default: its lines are indented, and shown here by their keys.
    #[test]
    fn the_privacy_section_of_the_sample_is_accepted_key_by_key() {
        let section = &TASK[TASK.find("# [privacy]").unwrap()..];
        let lines: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("#   ")).collect();
        assert_eq!(lines.len(), 20, "{lines:?}");
        let common = [
            "trust",
            "population",
            "clients",
            "budget_epsilon",
            "delta",
            "noise_multiplier",
            "adjacency",
            "sampler",
            "grid_bits",
            "accept_large_sensitivity",
            "sampling",
            "release_step_s",
        ];
        for (mechanism, keys) in [
            ("gaussian", vec!["adaptive_clip"]),
            ("tree", vec!["participations", "separation"]),
            ("matrix", vec!["participations", "separation", "bands"]),
            ("matrix", vec!["participations", "separation", "coefficients"]),
        ] {
            let shown = |key: &&str| {
                let line = lines.iter().find(|line| line.starts_with(&format!("{key} = ")));
                (*line.unwrap_or_else(|| panic!("{key}"))).to_owned()
            };
            let shown: Vec<String> = common.iter().chain(&keys).map(shown).collect();
            let rule =
                if mechanism == "gaussian" { "kind = \"trimmed_mean\"\nbyzantine = 1" } else { "kind = \"mean\"" };
            let text = format!(
                "name = \"a\"\nrounds = 100\n[model]\ninitial = \"m\"\n[cohort]\nsize = 100\n[encoding]\nclip_l2 = 0.1\n\
                 [rule]\n{rule}\n[privacy]\nmechanism = {mechanism:?}\n{}\n",
                shown.join("\n")
            );
            let spec = TaskSpec::new("task.toml", &text).unwrap_or_else(|error| panic!("{error}"));
            let privacy = spec.privacy.unwrap();
            assert_eq!(privacy.adaptive.is_some(), mechanism == "gaussian");
            assert_eq!(privacy.correlated.map_or("gaussian", |run| run.kind.word()), mechanism);
        }
        let honest = lines.iter().find(|line| line.starts_with("honest = ")).unwrap();
        let text = format!(
            "name = \"a\"\nrounds = 10\n[model]\ninitial = \"m\"\n[cohort]\nsize = 96\nminimum = 96\n[visibility]\nmasking = \
             \"pairwise\"\ngroup_size = 32\ncolluders = 0.02\n[encoding]\nclip_l2 = 0.1\n[rule]\nkind = \"mean\"\n[privacy]\n\
             mechanism = \"gaussian\"\ntrust = \"distributed\"\npopulation = \"phones\"\nclients = 100000\nbudget_epsilon = 5.0\n\
             noise_multiplier = 8.0\n{honest}\n"
        );
        let spec = TaskSpec::new("task.toml", &text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(spec.shares.map(|shares| format!("honest = {}", shares.honest())).as_deref(), Some(*honest));
    }

    #[test]
    fn keys_of_the_masked_sample_without_a_default_exist() {
        for key in ["authority = \"…\"", "byzantine = 0.01", "threshold = 13", "max = 10000"] {
            let key = key.split(" = ").next().unwrap();
            assert!(MASKED_TASK.lines().any(|line| line.starts_with(&format!("# {key} = "))), "{key}");
        }
        let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let text = MASKED_TASK
            .replace("# threshold = ", "threshold = ")
            .replace("# byzantine = ", "byzantine = ")
            .replace("# weighted = false\n", "weighted = true\n")
            .replace("# max = ", "max = ")
            .replace("# authority = \"64 hexadecimal digits\"", &format!("authority = \"{key}\"\ncolluders = 0.02"));
        let spec = TaskSpec::new("task.toml", &text.replace("kind = \"trimmed_mean\"", "kind = \"median\""));
        let masking = spec.unwrap_or_else(|error| panic!("{error}")).masking.unwrap();
        assert!(masking.authority.is_some() && masking.threshold.is_some() && masking.max_weight.is_some());
    }

    #[test]
    fn the_first_model_fits_the_digits() {
        let model = starter_model().unwrap();
        assert_eq!(model.layout().dimension(), 650);
        assert_eq!(Model::from_safetensors(&model.to_safetensors()).unwrap(), model);
    }
}
