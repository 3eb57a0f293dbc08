//! The ledger's contract, for every backend, and what a file on disk adds to it.

use std::{path::Path, sync::Arc};
use testudo_protocol::{Digest, TaskName};
use testudo_server::store::{self, Location, NewTask, Store, StoreError, conformance};

async fn open(path: &Path) -> Arc<dyn Store> {
    store::open(&Location::File(path.to_owned())).await.expect("opens")
}

fn new_task(name: &str) -> NewTask {
    NewTask {
        name: TaskName::new(name).expect("a valid name"),
        toml: String::new(),
        model: Digest::of(b"model"),
        privacy: None,
        at: 1,
    }
}

fn message(result: Result<Arc<dyn Store>, StoreError>) -> String {
    result.expect_err("must not open").to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_in_memory_keeps_the_contract() {
    conformance::run(|| async { store::open(&Location::Memory).await.expect("opens") }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_on_file_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let next = std::sync::atomic::AtomicUsize::new(0);
    conformance::run(|| async {
        let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        open(&directory.path().join(number.to_string()).join("ledger.sqlite")).await
    })
    .await;
}

#[tokio::test]
async fn sqlite_on_file_survives_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.sqlite");
    conformance::survives_reopening(open(&path).await, |store| {
        drop(store);
        open(&path)
    })
    .await;
}

#[tokio::test]
async fn a_copy_taken_while_the_server_runs_holds_everything_acknowledged() {
    // What a crash leaves behind: the files as they are at that moment, with nothing closed or checkpointed.
    let directory = tempfile::tempdir().unwrap();
    let live = directory.path().join("live/ledger.sqlite");
    let store = open(&live).await;
    for index in 0..50 {
        store.create_task(new_task(&format!("task-{index}"))).await.unwrap();
    }
    let crashed = directory.path().join("crashed");
    std::fs::create_dir(&crashed).unwrap();
    for name in ["ledger.sqlite", "ledger.sqlite-wal"] {
        std::fs::copy(live.with_file_name(name), crashed.join(name)).unwrap();
    }
    let copy = open(&crashed.join("ledger.sqlite")).await;
    assert_eq!(copy.tasks().await.unwrap(), store.tasks().await.unwrap());
    assert_eq!(copy.tasks().await.unwrap().len(), 50);
    copy.check().await.unwrap();
}

/// Not a test of its own: the process that the next test kills.
#[tokio::test]
#[ignore = "started by the test that kills it"]
async fn writes_until_it_is_killed() {
    let Ok(path) = std::env::var("TESTUDO_TEST_LEDGER") else { return };
    let store = open(Path::new(&path)).await;
    for index in 0.. {
        store.create_task(new_task(&format!("task-{index}"))).await.unwrap();
        println!("\nacknowledged {index}");
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_nine_and_the_lock_does_not() {
    use std::io::{BufRead as _, BufReader};
    let directory = tempfile::tempdir().unwrap();
    for (name, acknowledged) in [("first.sqlite", 20), ("second.sqlite", 5)] {
        let path = directory.path().join(name);
        let mut writer = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::writes_until_it_is_killed", "--ignored", "--nocapture"])
            .env("TESTUDO_TEST_LEDGER", &path)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok);
        let last = lines.filter(|line| line.starts_with("acknowledged ")).nth(acknowledged).unwrap();
        writer.kill().unwrap();
        writer.wait().unwrap();
        let last: usize = last.trim_start_matches("acknowledged ").parse().unwrap();
        let store = open(&path).await;
        let tasks = store.tasks().await.unwrap();
        assert!(tasks.len() > last, "{} tasks, although number {last} was acknowledged", tasks.len());
        assert_eq!(store.events(0, usize::MAX).await.unwrap().len(), tasks.len());
        store.check().await.unwrap();
    }
}

#[tokio::test]
async fn a_log_torn_in_its_last_write_loses_that_write_whole() {
    let directory = tempfile::tempdir().unwrap();
    let live = directory.path().join("live/ledger.sqlite");
    let store = open(&live).await;
    store.create_task(new_task("first")).await.unwrap();
    let before = std::fs::metadata(live.with_file_name("ledger.sqlite-wal")).unwrap().len();
    store.create_task(new_task("second")).await.unwrap();
    let crashed = directory.path().join("crashed");
    std::fs::create_dir(&crashed).unwrap();
    for name in ["ledger.sqlite", "ledger.sqlite-wal"] {
        std::fs::copy(live.with_file_name(name), crashed.join(name)).unwrap();
    }
    let log = std::fs::File::options().write(true).open(crashed.join("ledger.sqlite-wal")).unwrap();
    log.set_len(before + 100).unwrap();
    let copy = open(&crashed.join("ledger.sqlite")).await;
    assert_eq!(copy.tasks().await.unwrap().len(), 1);
    assert_eq!(copy.events(0, 9).await.unwrap().len(), 1);
    copy.check().await.unwrap();
}

#[tokio::test]
async fn a_second_server_on_the_same_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.sqlite");
    let store = open(&path).await;
    let text = message(store::open(&Location::File(path.clone())).await);
    assert!(text.contains("in use by another server"), "{text}");
    assert!(text.contains(&directory.path().join("lock").display().to_string()), "{text}");
    store.create_task(new_task("unharmed")).await.unwrap();
    drop(store);
    assert_eq!(open(&path).await.tasks().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_file_that_is_no_ledger_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.sqlite");
    let garbage = b"certainly not a database, but long enough to have a header".repeat(100);
    std::fs::write(&path, &garbage).unwrap();
    let text = message(store::open(&Location::File(path.clone())).await);
    assert!(text.contains(&path.display().to_string()), "{text}");
    assert!(text.contains("not a database") && text.contains("restore it from a backup"), "{text}");
    assert_eq!(std::fs::read(&path).unwrap(), garbage);
}

#[tokio::test]
async fn damaged_pages_are_found_by_the_check() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.sqlite");
    let store = open(&path).await;
    for index in 0..400 {
        store.create_task(NewTask { toml: "x".repeat(3000), ..new_task(&format!("task-{index}")) }).await.unwrap();
    }
    store.check().await.unwrap();
    let copy = directory.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for name in ["ledger.sqlite", "ledger.sqlite-wal"] {
        std::fs::copy(path.with_file_name(name), copy.join(name)).unwrap();
    }
    let mut bytes = std::fs::read(copy.join("ledger.sqlite")).unwrap();
    assert!(bytes.len() > 100 * 4096, "the log was checkpointed into the file");
    for page in 40..80 {
        bytes[page * 4096..page * 4096 + 64].fill(0xff);
    }
    std::fs::write(copy.join("ledger.sqlite"), bytes).unwrap();
    let damaged = open(&copy.join("ledger.sqlite")).await;
    let text = damaged.check().await.unwrap_err().to_string();
    assert!(text.contains("consistency check failed") && text.contains("restore a backup"), "{text}");
}

#[tokio::test]
async fn a_directory_in_place_of_the_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let text = message(store::open(&Location::File(directory.path().to_owned())).await);
    assert!(text.contains("cannot be used as a ledger"), "{text}");
}

#[tokio::test]
async fn a_closed_ledger_may_be_opened_at_once_though_handles_to_it_remain() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.sqlite");
    let store = open(&path).await;
    store.create_task(new_task("kept")).await.unwrap();
    store.close().await;
    assert!(matches!(store.tasks().await, Err(StoreError::Backend(_))));
    let again = open(&path).await;
    assert_eq!(again.tasks().await.unwrap().len(), 1);
}
