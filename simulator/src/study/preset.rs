//! Published protocols as study files.

/// A named study.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// Name on the command line.
    pub name: &'static str,
    /// What it is, in one sentence.
    pub summary: &'static str,
    /// The study file; empty where the protocol cannot run at all.
    pub text: &'static str,
    /// Files it needs that are not part of the program.
    pub files: &'static [Needed],
    /// What the protocol asks for that this version does not have.
    pub lacks: &'static [&'static str],
}

/// A file to put beside a study.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needed {
    /// Where it is looked for.
    pub path: &'static str,
    /// What it is.
    pub what: &'static str,
}

impl Preset {
    /// What is missing where `exists` says which files there are, in a sentence; `None` if the study can run.
    pub fn missing(&self, exists: impl Fn(&str) -> bool) -> Option<String> {
        let absent: Vec<&str> = self.files.iter().filter(|file| !exists(file.path)).map(|file| file.path).collect();
        let mut parts = Vec::new();
        if !absent.is_empty() {
            let wanted: Vec<String> = self
                .files
                .iter()
                .filter(|file| absent.contains(&file.path))
                .map(|file| format!("{} ({})", file.path, file.what))
                .collect();
            parts.push(format!("put {} into the current folder", wanted.join(", ")));
        }
        parts.extend(self.lacks.iter().map(|lack| (*lack).to_owned()));
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// All of them.
pub const PRESETS: &[Preset] = &[Preset {
    name: "digits-quick",
    summary: "Six rules against five attacks on the embedded digits: a first look in seconds",
    text: include_str!("preset/digits-quick.toml"),
    files: &[],
    lacks: &[],
}];

/// The preset of that name.
pub fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}
