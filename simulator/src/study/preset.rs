//! Published protocols as study files.

/// A named study.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// Name on the command line.
    pub name: &'static str,
    /// What it is, in one sentence.
    pub summary: &'static str,
    /// The study file; only a comment on the protocol where this version lacks something it cannot do without.
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
            parts.push(format!("needs {} in the current folder", wanted.join(", ")));
        }
        parts.extend(self.lacks.iter().map(|lack| format!("lacks {lack}")));
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// All of them.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "digits-quick",
        summary: "Six rules against five attacks on the embedded digits: a first look in seconds",
        text: include_str!("preset/digits-quick.toml"),
        files: &[],
        lacks: &[],
    },
    Preset {
        name: "digits-grid",
        summary: "19 rules on the embedded digits, evenly divided: reference accuracies are known for every cell",
        text: include_str!("preset/digits-grid.toml"),
        files: &[],
        lacks: &[],
    },
    Preset {
        name: "digits-grid-dirichlet",
        summary: "The same with unevenly divided classes (Dirichlet 0.5)",
        text: include_str!("preset/digits-grid-dirichlet.toml"),
        files: &[],
        lacks: &[],
    },
    Preset {
        name: "digits-backdoor",
        summary: "Backdoors on the embedded digits: planted, boosted and distributed, against seven rules",
        text: include_str!("preset/digits-backdoor.toml"),
        files: &[],
        lacks: &[],
    },
    Preset {
        name: "digits-declared-f",
        summary: "What declaring too few or too many attackers costs, on unevenly divided digits",
        text: include_str!("preset/digits-declared-f.toml"),
        files: &[],
        lacks: &[],
    },
    Preset {
        name: "digits-detection",
        summary: "Who a detector finds, how soon, and whom it accuses wrongly: 30 clean rounds, then an attack",
        text: include_str!("preset/digits-detection.toml"),
        files: &[],
        lacks: &[],
    },
    Preset {
        name: "byzfl-mnist",
        summary: "ByzFL's default grid on MNIST: worst of three attacks by heterogeneity and number of attackers",
        text: include_str!("preset/byzfl-mnist.toml"),
        files: &[
            Needed { path: "train-images-idx3-ubyte.gz", what: "60,000 images in IDX format" },
            Needed { path: "train-labels-idx1-ubyte.gz", what: "their labels" },
        ],
        lacks: &["its convolutional network, which this version does not train"],
    },
    Preset {
        name: "epfml-mnist",
        summary: "Karimireddy et al. 2022: bucketing on long-tailed, sorted MNIST",
        text: include_str!("preset/epfml-mnist.toml"),
        files: &[
            Needed { path: "train-images-idx3-ubyte.gz", what: "60,000 images in IDX format" },
            Needed { path: "train-labels-idx1-ubyte.gz", what: "their labels" },
        ],
        lacks: &["its convolutional network, which this version does not train", "its long-tailed partition"],
    },
    Preset {
        name: "blades-fmnist",
        summary: "Blades: 60 clients, 2,000 rounds on Fashion-MNIST",
        text: include_str!("preset/blades-fmnist.toml"),
        files: &[
            Needed { path: "train-images-idx3-ubyte.gz", what: "60,000 images in IDX format" },
            Needed { path: "train-labels-idx1-ubyte.gz", what: "their labels" },
        ],
        lacks: &["its convolutional network, which this version does not train", "a rate that changes during a run"],
    },
    Preset {
        name: "blades-cifar10",
        summary: "Blades: the same on CIFAR-10",
        text: include_str!("preset/blades-cifar10.toml"),
        files: &[],
        lacks: &["CIFAR-10 and an importer for it", "its residual network, which this version does not train"],
    },
    Preset {
        name: "ndss21",
        summary: "Shejwalkar and Houmansadr 2021: impact on the largest accuracy, CIFAR-10",
        text: include_str!("preset/ndss21.toml"),
        files: &[],
        lacks: &["CIFAR-10 and an importer for it", "AlexNet, which this version does not train"],
    },
    Preset {
        name: "fang",
        summary: "Fang et al. 2020: local model poisoning, 100 clients",
        text: include_str!("preset/fang.toml"),
        files: &[
            Needed { path: "train-images-idx3-ubyte.gz", what: "60,000 images in IDX format" },
            Needed { path: "train-labels-idx1-ubyte.gz", what: "their labels" },
        ],
        lacks: &["its partition by label groups"],
    },
    Preset {
        name: "dba",
        summary: "Xie et al. 2020: distributed backdoors, 100 clients of which 10 take part",
        text: include_str!("preset/dba.toml"),
        files: &[],
        lacks: &["its residual networks, which this version does not train", "CIFAR-10 and an importer for it"],
    },
    Preset {
        name: "neurotoxin",
        summary: "Zhang et al. 2022: durable backdoors, Dirichlet 0.9",
        text: include_str!("preset/neurotoxin.toml"),
        files: &[],
        lacks: &["its residual networks, which this version does not train", "CIFAR-10 and an importer for it"],
    },
];

/// The preset of that name.
pub fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}
