//! The ledger in SQLite: one process, one writer connection, WAL with `synchronous=FULL`.
//!
//! An acknowledged write is on disk: every commit fsyncs the write-ahead log. Writers take `BEGIN IMMEDIATE` on the
//! only connection that may write, so there is nothing to upgrade and nothing to retry; readers are `query_only`. In
//! memory, readers and the writer share the one connection, which is never closed while the ledger lives.

use super::{
    AccountRow, ClientRow, EventRow, Judged, NewRound, NewTask, Participations, Registration, Release, RoundRow,
    RunNoise, Store, StoreError, TaskRow, TaskState, UploadRow,
};
use async_trait::async_trait;
use sqlx::{
    ConnectOptions, Sqlite as Driver, SqlitePool, Transaction,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use testudo_privacy::budget::Entry;
use testudo_protocol::{Abandon, ClientId, Digest, TaskName, Tick, Verdict};
use zeroize::Zeroizing;

mod audit;
mod budget;
mod client;
mod column;
mod head;
mod input;
pub(super) mod offline;
mod round;
mod run;
mod sample;
mod seal;
mod seat;
mod task;
#[cfg(test)]
mod tests;
mod upload;

use round::Noise;
use seal::Place;

static SCHEMA: Migrator = sqlx::migrate!("./migrations");

/// Connections that only read. Reads are short; more would only hold back the checkpoints of the log.
const READERS: u32 = 4;
/// How long a connection waits for another one's lock before it gives up.
const BUSY: Duration = Duration::from_secs(10);
/// The write-ahead log is cut back to this length at a checkpoint, bytes.
const LOG_BYTES: &str = "67108864";

/// A ledger in SQLite.
#[derive(Debug)]
pub(super) struct Sqlite {
    writer: SqlitePool,
    reader: SqlitePool,
    sealer: seal::Sealer,
    heads: Option<Arc<head::HeadFile>>,
    location: Option<PathBuf>,
    /// Held for as long as the ledger is open. The operating system lets go of it if the process dies.
    lock: Mutex<Option<File>>,
}

impl Sqlite {
    /// A ledger that is gone with the process.
    pub(super) async fn in_memory() -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .in_memory(true)
            .foreign_keys(true)
            .synchronous(SqliteSynchronous::Off)
            .disable_statement_logging();
        let pool = pool(1, options).await.map_err(backend)?;
        SCHEMA.run(&pool).await.map_err(|error| schema("in memory", error))?;
        let sealer = seal::Sealer::in_memory()?;
        Ok(Self { writer: pool.clone(), reader: pool, sealer, heads: None, location: None, lock: Mutex::default() })
    }

    /// The ledger in a file, created with its directory if it is not there.
    pub(super) async fn open(path: &Path) -> Result<Self, StoreError> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let lock = lock(&directory)?;
        let shown = path.display().to_string();
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            // What clients said in a masked round is not to be read from free pages afterwards.
            .pragma("secure_delete", "ON")
            .pragma("journal_size_limit", LOG_BYTES)
            .disable_statement_logging();
        let writer = pool(1, options.clone()).await.map_err(|error| unusable(&shown, &error))?;
        SCHEMA.run(&writer).await.map_err(|error| schema(&shown, error))?;
        let mut connection = writer.acquire().await.map_err(backend)?;
        let heads = Some(Arc::new(head::HeadFile::open(&directory, &mut connection).await?));
        drop(connection);
        let sealer = seal::Sealer::open(&directory, !run::any_sealed(&writer).await?)?;
        let reader =
            pool(READERS, options.pragma("query_only", "ON")).await.map_err(|error| unusable(&shown, &error))?;
        // SQLite makes what is in the file durable; the file's own entry in the directory is ours to see to.
        File::open(&directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| StoreError::Backend(format!("cannot sync directory {}: {error}", directory.display())))?;
        Ok(Self { writer, reader, sealer, heads, location: Some(path.to_owned()), lock: Mutex::new(Some(lock)) })
    }

    async fn write(&self) -> Result<Transaction<'static, Driver>, StoreError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(backend)
    }

    /// One snapshot for all statements of a read.
    async fn read(&self) -> Result<Transaction<'static, Driver>, StoreError> {
        self.reader.begin().await.map_err(backend)
    }

    /// Tells the file beside the ledger what was charged. After a failure it is told again before anything is reserved.
    async fn publish(&self) -> Result<(), StoreError> {
        let Some(file) = self.heads.clone() else { return Ok(()) };
        let heads = budget::heads(&mut *self.read().await?).await?;
        let written = tokio::task::spawn_blocking(move || file.publish(heads)).await;
        written.map_err(|error| StoreError::Backend(error.to_string()))?
    }
}

#[async_trait]
impl Store for Sqlite {
    fn describe(&self) -> String {
        match &self.location {
            Some(path) => format!("sqlite {} (WAL, synchronous FULL)", path.display()),
            None => "sqlite in memory (gone with the process)".into(),
        }
    }

    async fn create_task(&self, task: NewTask) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        task::create(&mut transaction, &task, &self.sealer).await?;
        transaction.commit().await.map_err(backend)
    }

    async fn tasks(&self) -> Result<Vec<TaskRow>, StoreError> {
        task::all(&mut *self.read().await?).await
    }

    async fn task(&self, name: &TaskName) -> Result<TaskRow, StoreError> {
        Ok(task::find(&mut *self.read().await?, name).await?.1)
    }

    async fn set_task_state(&self, name: &TaskName, state: TaskState, why: &str, at: Tick) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        task::set_state(&mut transaction, name, state, why, at).await?;
        transaction.commit().await.map_err(backend)
    }

    async fn open_round(&self, round: NewRound) -> Result<(), StoreError> {
        if round.reserve.is_some() {
            self.publish().await?;
        }
        let mut transaction = self.write().await?;
        round::open(&mut transaction, &round).await?;
        transaction.commit().await.map_err(backend)
    }

    async fn open_round_of(&self, task: &TaskName) -> Result<Option<RoundRow>, StoreError> {
        round::open_of(&mut *self.read().await?, task).await
    }

    async fn record_uploads(&self, uploads: Vec<(TaskName, u64, UploadRow)>) -> Vec<Result<(), StoreError>> {
        let recorded = async {
            let mut transaction = self.write().await?;
            let results = upload::record(&mut transaction, &uploads).await?;
            transaction.commit().await.map_err(backend)?;
            Ok(results)
        };
        match recorded.await {
            Ok(results) => results,
            Err(error) => uploads.iter().map(|_| Err(repeat(&error))).collect(),
        }
    }

    async fn record_refusal(
        &self,
        task: &TaskName,
        round: u64,
        client: &ClientId,
        verdict: Verdict,
        detail: &str,
        at: Tick,
    ) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        upload::refuse(&mut transaction, (task, round), client, verdict, detail, at).await?;
        transaction.commit().await.map_err(backend)
    }

    async fn append_inputs(
        &self,
        task: &TaskName,
        round: u64,
        first: u64,
        bodies: &[String],
    ) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        input::append(&mut transaction, (task, round), first, bodies).await?;
        transaction.commit().await.map_err(backend)
    }

    async fn inputs(&self, task: &TaskName, round: u64) -> Result<Vec<String>, StoreError> {
        let mut transaction = self.read().await?;
        input::all(&mut transaction, (task, round)).await
    }

    async fn record_groups(&self, task: &TaskName, round: u64, groups: &str, at: Tick) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        round::record_groups(&mut transaction, (task, round), groups, at).await?;
        transaction.commit().await.map_err(backend)
    }

    async fn close_round(
        &self,
        task: &TaskName,
        round: u64,
        survivors: &[ClientId],
        noise_seed: Option<Zeroizing<[u8; 32]>>,
        at: Tick,
    ) -> Result<Option<Zeroizing<[u8; 32]>>, StoreError> {
        let mut transaction = self.write().await?;
        let seed = match noise_seed {
            Some(seed) => Some(self.sealer.seal(Place::Round(task, round), &seed)?),
            None => None,
        };
        let noise = seed.map_or(Noise::None, Noise::Sealed);
        round::close(&mut transaction, (task, round), survivors, noise, at).await?;
        let sealed = round::noise_seed(&mut transaction, (task, round)).await?;
        let kept = sealed.map(|sealed| self.sealer.open_seed(Place::Round(task, round), &sealed)).transpose()?;
        transaction.commit().await.map_err(backend)?;
        Ok(kept)
    }

    async fn noise_seed(&self, task: &TaskName, round: u64) -> Result<Option<Zeroizing<[u8; 32]>>, StoreError> {
        let sealed = round::noise_seed(&mut *self.read().await?, (task, round)).await?;
        sealed.map(|sealed| self.sealer.open_seed(Place::Round(task, round), &sealed)).transpose()
    }

    async fn close_step(
        &self,
        task: &TaskName,
        round: u64,
        survivors: &[ClientId],
        manifest: [u8; 32],
        at: Tick,
    ) -> Result<RunNoise, StoreError> {
        let mut transaction = self.write().await?;
        round::close(&mut transaction, (task, round), survivors, Noise::Step(manifest), at).await?;
        let noise = run::noise(&mut transaction, (task, round), &self.sealer).await?;
        let noise = noise.ok_or_else(|| StoreError::KeyLost { what: Place::Run(task).to_string() })?;
        transaction.commit().await.map_err(backend)?;
        Ok(noise)
    }

    async fn step_noise(&self, task: &TaskName, round: u64) -> Result<Option<RunNoise>, StoreError> {
        run::noise(&mut *self.read().await?, (task, round), &self.sealer).await
    }

    async fn participations(&self, task: &TaskName) -> Result<Option<Participations>, StoreError> {
        run::participations(&mut *self.read().await?, task, &self.sealer).await
    }

    async fn survivors(&self, task: &TaskName, round: u64) -> Result<Vec<ClientId>, StoreError> {
        let mut transaction = self.read().await?;
        let head = round::find(&mut transaction, (task, round)).await?;
        seat::survivors(&mut transaction, head.id).await
    }

    async fn release(&self, release: Release) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        round::release(&mut transaction, &release).await?;
        transaction.commit().await.map_err(backend)?;
        self.publish().await
    }

    async fn abandon(
        &self,
        task: &TaskName,
        round: u64,
        why: &Abandon,
        seats: &[Judged],
        at: Tick,
    ) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        round::abandon(&mut transaction, (task, round), why, seats, at).await?;
        transaction.commit().await.map_err(backend)?;
        self.publish().await
    }

    async fn rounds(&self, task: &TaskName, before: u64, limit: usize) -> Result<Vec<RoundRow>, StoreError> {
        round::list(&mut *self.read().await?, task, before, limit).await
    }

    async fn round(&self, task: &TaskName, number: u64) -> Result<RoundRow, StoreError> {
        round::one(&mut *self.read().await?, task, number).await
    }

    async fn register(
        &self,
        task: &TaskName,
        clients: &[ClientId],
        most: u64,
        at: Tick,
    ) -> Result<Vec<Registration>, StoreError> {
        let mut transaction = self.write().await?;
        let answers = sample::register(&mut transaction, task, clients, most, at).await?;
        transaction.commit().await.map_err(backend)?;
        Ok(answers)
    }

    async fn registered(&self, task: &TaskName) -> Result<Vec<ClientId>, StoreError> {
        sample::registered(&mut *self.read().await?, task).await
    }

    async fn seen(&self, clients: &[(ClientId, Tick)]) -> Result<(), StoreError> {
        if clients.is_empty() {
            return Ok(());
        }
        let mut transaction = self.write().await?;
        client::seen(&mut transaction, clients).await?;
        transaction.commit().await.map_err(backend)
    }

    async fn clients(&self, task: Option<&TaskName>, limit: usize) -> Result<Vec<ClientRow>, StoreError> {
        client::list(&mut *self.read().await?, task, limit).await
    }

    async fn verdicts_after(
        &self,
        task: &TaskName,
        client: &ClientId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Verdict)>, StoreError> {
        client::verdicts_after(&mut *self.read().await?, task, client, after, limit).await
    }

    async fn events(&self, after: u64, limit: usize) -> Result<Vec<EventRow>, StoreError> {
        audit::list(&mut *self.read().await?, after, limit).await
    }

    async fn refers(&self, blob: &Digest, keep: u64) -> Result<bool, StoreError> {
        task::refers(&mut *self.read().await?, blob, keep).await
    }

    async fn accounts(&self) -> Result<Vec<AccountRow>, StoreError> {
        budget::accounts(&mut *self.read().await?).await
    }

    async fn entries(&self, population: &str) -> Result<Vec<Entry>, StoreError> {
        budget::entries(&mut *self.read().await?, population).await
    }

    async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    async fn check(&self) -> Result<(), StoreError> {
        audit::check(&mut *self.read().await?).await
    }
}

/// Takes the lock that keeps a second server off the directory, creating the directory if needed.
fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join("lock");
    let failed = |error: io::Error| StoreError::Backend(format!("cannot lock {}: {error}", path.display()));
    crate::spool::create_private(directory)
        .map_err(|error| StoreError::Backend(format!("cannot create {}: {error}", directory.display())))?;
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Backend(format!(
            "{} is in use by another server: it holds the lock {}. Stop that server, or give this one a directory of its own",
            directory.display(),
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// A pool whose connections never age: an in-memory ledger lives in its connection.
async fn pool(connections: u32, options: SqliteConnectOptions) -> Result<SqlitePool, sqlx::Error> {
    SqlitePoolOptions::new()
        .min_connections(1)
        .max_connections(connections)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .acquire_timeout(Duration::from_secs(60))
        .connect_with(options)
        .await
}

fn backend(error: sqlx::Error) -> StoreError {
    StoreError::Backend(error.to_string())
}

fn unusable(shown: &str, error: &sqlx::Error) -> StoreError {
    StoreError::Backend(format!(
        "{shown} cannot be used as a ledger: {error}. Check that it is the server's own SQLite file, or restore it from a backup"
    ))
}

fn schema(shown: &str, error: MigrateError) -> StoreError {
    let known = SCHEMA.iter().map(|migration| migration.version).max().unwrap_or(0);
    match error {
        MigrateError::VersionMissing(found) => StoreError::Backend(format!(
            "{shown} has schema {found}, newer than schema {known} of this program: use the newer program, or restore a backup from before the upgrade"
        )),
        MigrateError::VersionMismatch(found) => StoreError::Backend(format!(
            "{shown} was written with another schema {found} than this program's: use the program that wrote it"
        )),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => unusable(shown, &error),
        other => StoreError::Backend(format!("{shown}: {other}")),
    }
}

/// The error of a batch, once per row.
fn repeat(error: &StoreError) -> StoreError {
    match error {
        StoreError::Backend(text) => StoreError::Backend(text.clone()),
        other => StoreError::Backend(other.to_string()),
    }
}
