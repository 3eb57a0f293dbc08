//! Examples, split and divided: loaded once, shared by all runs that use them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::WorldError;
use super::adversary;
use super::partition_file::{self, MadeFor, PartitionFile};
use crate::data::{DataError, Dataset, Limits, Split, csv, digits, idx, npz};
use crate::scenario::{Plan, Source, SourceData};

/// A data set as loaded, with its digest.
#[derive(Clone, Debug)]
pub struct WorldData {
    /// The examples.
    pub examples: Arc<Dataset>,
    /// SHA-256 over shape, labels and features.
    pub digest: String,
    /// Who holds what, where the study says so.
    partition: Option<Arc<PartitionFile>>,
}

impl WorldData {
    /// What a run's id takes for its data: their digest, or that of data and division.
    pub fn identity(&self) -> String {
        self.partition.as_ref().map_or_else(|| self.digest.clone(), |file| file.identity())
    }

    /// Who holds what, where the study says so.
    pub(crate) fn partition(&self) -> Option<&PartitionFile> {
        self.partition.as_deref()
    }
}

/// Examples of one run: of each client, and the test part.
#[derive(Debug)]
pub struct Prepared {
    clients: Vec<Dataset>,
    /// The numbers of each client's examples in the training part.
    parts: Vec<Vec<usize>>,
    /// Digest of the numbers of the training examples.
    train: String,
    test: Dataset,
    by_class: Vec<Dataset>,
    nothing: Dataset,
}

/// Data sets and divisions already made.
#[derive(Debug, Default)]
pub struct Library {
    folder: PathBuf,
    partitions: Option<PathBuf>,
    loaded: Mutex<BTreeMap<String, WorldData>>,
    prepared: Mutex<BTreeMap<String, Arc<Prepared>>>,
}

impl Library {
    /// Files are looked for relative to `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), ..Self::default() }
    }

    /// Divisions are looked for in the folder of a study's results first.
    pub fn with_results(self, folder: &Path) -> Self {
        Self { partitions: Some(folder.to_owned()), ..self }
    }

    fn partition_path(&self, name: &str) -> PathBuf {
        let kept = self.partitions.as_ref().map(|folder| folder.join(name));
        kept.filter(|path| path.is_file()).unwrap_or_else(|| self.folder.join(name))
    }

    /// The data set of a source.
    ///
    /// # Errors
    /// A missing key, or what the importer says.
    pub fn load(&self, source: &SourceData) -> Result<WorldData, WorldError> {
        let SourceData { source: kind, path, labels, features, task, task_seed, partition, .. } = source;
        let key = format!("{kind:?} {path:?} {labels:?} {features:?} {task:?} {task_seed} {partition:?}");
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(data) = loaded.get(&key) {
            return Ok(data.clone());
        }
        let examples = Arc::new(self.read(source)?);
        let file = partition
            .as_ref()
            .map(|path| PartitionFile::read(&self.partition_path(path)))
            .transpose()
            .map_err(of_partition)?;
        let data = WorldData { digest: examples.digest(), examples, partition: file.map(Arc::new) };
        loaded.insert(key, data.clone());
        Ok(data)
    }

    /// The divided examples of a plan.
    ///
    /// # Errors
    /// As [`Library::load`], and divisions that cannot be.
    pub fn prepare(&self, plan: &Plan) -> Result<Arc<Prepared>, WorldError> {
        let data = self.load(&plan.data)?;
        let holders =
            plan.population.clients - if plan.adversary.holds_nothing() { plan.adversary.colluders } else { 0 };
        let without = if plan.adversary.holds_nothing() { adversary::colluders(plan) } else { Vec::new() };
        let split_seed = plan.data.split_seed.unwrap_or(plan.seed);
        let partition_seed = plan.data.partition_seed.unwrap_or(plan.seed);
        let key = format!(
            "{} {} {split_seed} {} {holders} {without:?} {:?}",
            data.identity(),
            plan.data.test,
            partition_seed,
            plan.data.heterogeneity
        );
        if let Some(prepared) = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Arc::clone(prepared));
        }
        let split = Split::stratified(&data.examples, plan.data.test, split_seed)?;
        let (train, test) = split.apply(&data.examples);
        let train_digest = partition_file::digest_of(&split.train);
        let is_without = |client: usize| without.binary_search(&client).is_ok();
        let parts: Vec<Vec<usize>> = match &data.partition {
            Some(file) => {
                let made_for = MadeFor { data: &data.digest, train: &train_digest, examples: train.len() };
                let parts = file.fitting(plan, &made_for).map_err(of_partition)?.iter().enumerate();
                parts.map(|(client, rows)| if is_without(client) { Vec::new() } else { rows.clone() }).collect()
            }
            None => {
                let mut held = plan.data.heterogeneity.divide(&train, holders, partition_seed)?.into_iter();
                let part = |client| if is_without(client) { Vec::new() } else { held.next().unwrap_or_default() };
                (0..plan.population.clients).map(part).collect()
            }
        };
        let clients = parts.iter().map(|rows| train.subset(rows)).collect();
        let of_class = |class| (0..test.len()).filter(|&row| test.label(row) == class).collect::<Vec<_>>();
        let by_class = (0..test.classes()).map(|class| test.subset(&of_class(class))).collect();
        let nothing = train.subset(&[]);
        let prepared = Arc::new(Prepared { clients, parts, train: train_digest, test, by_class, nothing });
        let mut all = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(all.entry(key).or_insert(prepared)))
    }

    /// Forgets divisions: called between studies, or when memory matters.
    pub fn forget(&self) {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn read(&self, source: &SourceData) -> Result<Dataset, WorldError> {
        let wrong = |key: &'static str| move |source| WorldError::Data { key, source };
        let needed = |key: &'static str| {
            let fix = "write it beside data.source".to_owned();
            wrong(key)(DataError::Invalid { problem: "is missing".to_owned(), fix })
        };
        let file = |key: &'static str, path: &Option<String>| {
            path.as_ref().map(|path| self.folder.join(path)).ok_or_else(|| needed(key))
        };
        let path = || file("data.path", &source.path);
        match source.source {
            Source::Digits => Ok(digits::load()),
            Source::Csv => {
                let label = source.labels.clone().map_or(csv::LabelColumn::Last, csv::LabelColumn::Named);
                let options = csv::Options { label, ..csv::Options::default() };
                csv::load(&path()?, &options).map_err(wrong("data.path"))
            }
            Source::Idx => {
                let labels = file("data.labels", &source.labels)?;
                idx::load(&path()?, &labels, &Limits::default()).map_err(|error| {
                    let key = if error.is_about(&labels) { "data.labels" } else { "data.path" };
                    wrong(key)(error)
                })
            }
            Source::Npz => {
                let (features, labels) = (source.features.clone(), source.labels.clone());
                let options = npz::Options { features, labels, ..npz::Options::default() };
                npz::load(&path()?, &options).map_err(wrong("data.path"))
            }
            Source::Synthetic => {
                let task = source.task.ok_or_else(|| needed("data.task"))?;
                task.generate(source.task_seed).map_err(wrong("data.task"))
            }
        }
    }
}

fn of_partition(source: DataError) -> WorldError {
    WorldError::Data { key: "data.partition", source }
}

impl Prepared {
    /// The training examples of a client.
    pub fn of(&self, client: usize) -> &Dataset {
        self.clients.get(client).unwrap_or(&self.nothing)
    }

    /// The training examples of all these clients together.
    pub(super) fn joint(&self, clients: &[usize]) -> Dataset {
        let mut all = self.nothing.clone();
        clients.iter().for_each(|&client| all.append(self.of(client)));
        all
    }

    /// The held-out examples.
    pub fn test(&self) -> &Dataset {
        &self.test
    }

    /// The numbers of each client's examples in the training part.
    pub fn parts(&self) -> &[Vec<usize>] {
        &self.parts
    }

    /// The same as a file, for data of this digest.
    pub fn partition_file(&self, data: String) -> PartitionFile {
        PartitionFile { data, train: self.train.clone(), clients: self.parts.clone() }
    }

    pub(super) fn test_by_class(&self) -> &[Dataset] {
        &self.by_class
    }

    pub(super) fn train_width(&self) -> usize {
        self.test.width()
    }

    pub(super) fn classes(&self) -> usize {
        self.test.classes()
    }
}
