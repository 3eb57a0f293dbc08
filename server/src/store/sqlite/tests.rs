use super::*;
use testudo_protocol::Digest;

async fn on_file() -> (tempfile::TempDir, PathBuf, Sqlite) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state/ledger.sqlite");
    let store = Sqlite::open(&path).await.unwrap();
    (directory, path, store)
}

async fn pragma(pool: &SqlitePool, statement: &'static str) -> String {
    let row = sqlx::query(statement).fetch_one(pool).await.unwrap();
    use sqlx::Row as _;
    row.try_get::<String, _>(0).unwrap_or_else(|_| row.get::<i64, _>(0).to_string())
}

#[tokio::test]
async fn writes_are_synced_at_every_commit_and_readers_cannot_write() {
    let (_directory, _, store) = on_file().await;
    for (statement, expected) in [
        ("PRAGMA journal_mode", "wal"),
        ("PRAGMA synchronous", "2"),
        ("PRAGMA foreign_keys", "1"),
        ("PRAGMA busy_timeout", "10000"),
    ] {
        assert_eq!(pragma(&store.writer, statement).await, expected, "{statement}");
    }
    assert_eq!(pragma(&store.reader, "PRAGMA query_only").await, "1");
    let error = sqlx::query("DELETE FROM task").execute(&store.reader).await.unwrap_err().to_string();
    assert!(error.contains("readonly"), "{error}");
}

#[tokio::test]
async fn audit_events_can_be_neither_changed_nor_deleted() {
    let (_directory, _, store) = on_file().await;
    let name = TaskName::new("task").unwrap();
    store
        .create_task(NewTask { name, toml: String::new(), model: Digest::of(b""), privacy: None, at: 1 })
        .await
        .unwrap();
    for statement in ["UPDATE audit_event SET at = 2", "DELETE FROM audit_event"] {
        let error = sqlx::query(statement).execute(&store.writer).await.unwrap_err().to_string();
        assert!(error.contains("audit events are never"), "{error}");
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_both_numbers() {
    let (_directory, path, store) = on_file().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (4711, 'from the future', 1, x'00', 0)",
    )
    .execute(&store.writer)
    .await
    .unwrap();
    drop(store);
    let error = Sqlite::open(&path).await.unwrap_err().to_string();
    let known = SCHEMA.iter().map(|migration| migration.version).max().unwrap();
    assert!(error.contains(&format!("has schema 4711, newer than schema {known} of this program")), "{error}");
}

#[tokio::test]
async fn the_check_names_what_does_not_add_up() {
    for (statement, expected) in [
        ("UPDATE round SET received = 7", "round 1 of task task does not match its seats"),
        ("UPDATE task SET released = 7", "task task does not match its rounds"),
        ("UPDATE task SET model = zeroblob(32)", "task task does not have the model of its newest release"),
        ("INSERT INTO audit_event VALUES (99, 1, 'x', '', '{}')", "audit events have gaps"),
    ] {
        let (_directory, _, store) = on_file().await;
        let name = TaskName::new("task").unwrap();
        let model = Digest::of(b"");
        store
            .create_task(NewTask { name: name.clone(), toml: String::new(), model, privacy: None, at: 1 })
            .await
            .unwrap();
        let round = NewRound {
            task: name,
            number: 1,
            base: model,
            seed: [0; 32],
            target: 1,
            minimum: 1,
            opened_at: 2,
            closes_at: 3,
            cohort: vec![],
            reserve: None,
            step: None,
            secret: false,
        };
        store.open_round(round).await.unwrap();
        store.check().await.unwrap();
        sqlx::query(statement).execute(&store.writer).await.unwrap();
        let error = store.check().await.unwrap_err().to_string();
        assert!(error.contains(expected), "{statement}: {error}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_enter_a_directory_we_made() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_directory, path, _store) = on_file().await;
    let mode = std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_given_up_halfway_leaves_nothing_behind() {
    let store = Sqlite::in_memory().await.unwrap();
    for index in 0..40 {
        let name = TaskName::new(format!("task-{index}")).unwrap();
        let task = NewTask { name, toml: String::new(), model: Digest::of(b""), privacy: None, at: 1 };
        // Polled a few times and dropped, as a call whose client hung up.
        let mut write = Box::pin(store.create_task(task));
        for _ in 0..index % 8 {
            if futures::poll!(&mut write).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    let (tasks, events) = (store.tasks().await.unwrap(), store.events(0, 99).await.unwrap());
    assert_eq!(tasks.len(), events.len(), "a task without its event, or the reverse");
    store.check().await.unwrap();
}
