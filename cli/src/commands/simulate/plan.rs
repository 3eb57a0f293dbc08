//! Where a study's text comes from.

use crate::exit::{Exit, Failure};
use std::{
    fs,
    path::{Path, PathBuf},
};
use testudo_simulator::study::preset::{self, Preset};

/// Longest study file, bytes.
const MOST: u64 = 1 << 20;

/// A study's text and where its files are looked for.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) folder: PathBuf,
    preset: Option<&'static Preset>,
}

impl Source {
    /// Reads a file; its data are looked for beside it.
    ///
    /// # Errors
    /// A file that cannot be read, is too long or no text.
    pub(crate) fn file(path: &Path) -> Result<Self, Failure> {
        let failed = |why: String| Failure::new(Exit::Usage, format!("cannot read {}", path.display()), why);
        let length = fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
        if length > MOST {
            return Err(failed(format!("{length} bytes are more than a study may have ({MOST})")));
        }
        let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self { name: path.display().to_string(), text, folder, preset: None })
    }

    /// A preset; its data are looked for in the current folder.
    ///
    /// # Errors
    /// No such preset.
    pub(crate) fn preset(name: &str) -> Result<Self, Failure> {
        let Some(preset) = preset::find(name) else {
            let known: Vec<&str> = preset::PRESETS.iter().map(|preset| preset.name).collect();
            let failure = Failure::new(Exit::NotFound, format!("no preset {name:?}"), "");
            return Err(failure.next(format!("use one of {}", known.join(", "))));
        };
        let text = preset.text.to_owned();
        Ok(Self { name: name.to_owned(), text, folder: PathBuf::new(), preset: Some(preset) })
    }

    /// What a preset lacks here, in a sentence.
    pub(crate) fn missing(&self) -> Option<String> {
        self.preset.and_then(|preset| preset.missing(|file| self.folder.join(file).is_file()))
    }
}
