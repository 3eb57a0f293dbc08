//! Budgets on disk: crashes between any two steps, and databases that were put back.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};
use testudo_privacy::{
    budget::{Charge, ChargeMechanism, verify},
    sensitivity::Adjacency,
};
use testudo_protocol::{Abandon, Digest, TaskName};
use testudo_server::store::{
    self, Location, NewRound, NewTask, PrivacyPlan, Release, RoundState, Store, StoreError, conformance,
};

async fn open(path: &Path) -> Arc<dyn Store> {
    store::open(&Location::File(path.to_owned())).await.expect("opens")
}

async fn refused(path: &Path) -> String {
    store::open(&Location::File(path.to_owned())).await.expect_err("must not open").to_string()
}

fn charge() -> Charge {
    Charge::new(Adjacency::ZeroOut, ChargeMechanism::Gaussian, 200 << 24, 1 << 24, 1).expect("must succeed")
}

fn task() -> TaskName {
    TaskName::new("task").expect("must succeed")
}

async fn create(store: &dyn Store) -> Result<(), StoreError> {
    let plan = PrivacyPlan {
        population: "phones".into(),
        epsilon: 2.0,
        delta: 1e-6,
        charge: charge(),
        gate: charge().gate(),
        releases: 1000,
        limit: None,
    };
    let model = Digest::of(b"initial");
    store.create_task(NewTask { name: task(), toml: String::new(), model, privacy: Some(plan), at: 1 }).await
}

/// The steps of the next round, with a line printed after each. The model is a function of the seed alone.
async fn step(store: &dyn Store, print: bool) {
    let said = |what: &str| {
        if print {
            println!("\nacknowledged {what}");
        }
    };
    let row = store.task(&task()).await.expect("must succeed");
    let open = store.open_round_of(&task()).await.expect("must succeed");
    let number = open.as_ref().map_or(row.last_round + 1, |round| round.number);
    if open.is_none() {
        let round = NewRound {
            task: task(),
            number,
            base: row.model,
            seed: [0; 32],
            target: 1,
            minimum: 1,
            opened_at: number,
            closes_at: number,
            cohort: vec![],
            reserve: Some(charge()),
            step: None,
            secret: false,
        };
        store.open_round(round).await.expect("must succeed");
        said("open");
    }
    if number % 5 == 0 {
        store.abandon(&task(), number, &Abandon::SpoolLost, &[], number).await.expect("must succeed");
        said("abandon");
        return;
    }
    let mut fresh = [0; 32];
    getrandom::fill(&mut fresh).expect("must succeed");
    let seed = store
        .close_round(&task(), number, &[], Some(fresh.into()), number)
        .await
        .expect("must succeed")
        .expect("must succeed");
    assert_eq!(store.noise_seed(&task(), number).await.expect("must succeed"), Some(seed.clone()));
    if print {
        println!("\nseed {number} {}", hex::encode(*seed));
    }
    said("close");
    store.release(release(number, *seed)).await.expect("must succeed");
    said("release");
}

fn release(number: u64, seed: [u8; 32]) -> Release {
    Release {
        task: task(),
        number,
        model: Digest::of(&seed),
        optimizer: None,
        aggregate_norm: 1.0,
        notes: vec![],
        seats: vec![],
        finishes: false,
        charged: true,
        at: number,
    }
}

/// Every release has its charge, every charge its round, and the chain adds up.
async fn sound(store: &dyn Store) -> u64 {
    store.check().await.expect("must succeed");
    let account = store.accounts().await.expect("must succeed").remove(0);
    let entries = store.entries("phones").await.expect("must succeed");
    assert_eq!(verify(&entries, account.gate, account.head), Ok(account.spent));
    let rounds = store.rounds(&task(), 0, usize::MAX).await.expect("must succeed");
    for round in &rounds {
        let charged: Vec<_> = entries.iter().filter(|entry| entry.round == round.number).collect();
        let expected = match round.state {
            RoundState::Released => vec![round.model.map(|model| model.0)],
            _ => vec![],
        };
        assert_eq!(charged.iter().map(|entry| entry.release).collect::<Vec<_>>(), expected, "round {}", round.number);
    }
    entries.len() as u64
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("must succeed");
    for entry in fs::read_dir(from).expect("must succeed") {
        let entry = entry.expect("must succeed");
        if entry.file_name() != "lock" {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("must succeed");
        }
    }
}

/// The ledger alone, without what lies beside it.
fn copy_ledger(from: &Path, to: &Path) {
    for name in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
        let _ = fs::remove_file(to.join(name));
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).expect("must succeed");
        }
    }
}

fn ledger(directory: &Path) -> PathBuf {
    directory.join("ledger.sqlite")
}

#[tokio::test]
async fn budgets_survive_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let path = ledger(directory.path());
    conformance::budgets_survive_reopening(open(&path).await, |store| {
        drop(store);
        open(&path)
    })
    .await;
}

/// Not a test of its own: the process that the next test kills.
#[tokio::test]
#[ignore = "started by the test that kills it"]
async fn charges_until_it_is_killed() {
    let Ok(path) = std::env::var("TESTUDO_TEST_LEDGER") else { return };
    let store = open(Path::new(&path)).await;
    let _ = create(&*store).await;
    println!("\nacknowledged create");
    loop {
        step(&*store, true).await;
    }
}

#[tokio::test]
async fn kill_nine_between_any_two_steps_neither_loses_nor_repeats_a_charge() {
    let directory = tempfile::tempdir().unwrap();
    let path = ledger(directory.path());
    let (mut charges, mut seeds) = (0, std::collections::BTreeMap::new());
    // After every kind of step, and a few times at whatever moment the signal comes.
    let moments =
        ["create", "open", "close", "release", "abandon", "close", "close", "open", "release", "close", "release"];
    for (run, moment) in moments.into_iter().enumerate() {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "budget::charges_until_it_is_killed", "--ignored", "--nocapture"])
            .env("TESTUDO_TEST_LEDGER", &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut releases = 0;
        for line in BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok) {
            if let Some((number, seed)) = line.strip_prefix("seed ").and_then(|rest| rest.split_once(' ')) {
                // A round that was closed keeps its seed, whoever closes it again.
                assert_eq!(seeds.entry(number.to_owned()).or_insert(seed.to_owned()), seed, "round {number}");
            }
            releases += u64::from(line == "acknowledged release");
            if line == format!("acknowledged {moment}") && (moment == "create" || releases >= run as u64 % 3) {
                break;
            }
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        let store = open(&path).await;
        let now = sound(&*store).await;
        assert!(now >= charges + releases, "run {run}: {now} charges, {releases} acknowledged after {charges}");
        charges = now;
    }
    // The last round, wherever it stands, ends once.
    let store = open(&path).await;
    let before = sound(&*store).await;
    let ends = store.open_round_of(&task()).await.unwrap().is_none_or(|round| round.number % 5 != 0);
    step(&*store, false).await;
    assert!(sound(&*store).await <= before + u64::from(ends));
}

#[tokio::test]
async fn an_older_ledger_is_refused_and_the_newest_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let (live, backup) = (directory.path().join("live"), directory.path().join("backup"));
    let store = open(&ledger(&live)).await;
    create(&*store).await.unwrap();
    step(&*store, false).await;
    store.close().await;
    copy(&live, &backup);
    let store = open(&ledger(&live)).await;
    step(&*store, false).await;
    store.close().await;
    let newest = directory.path().join("newest");
    copy(&live, &newest);

    copy_ledger(&backup, &live);
    let text = refused(&ledger(&live)).await;
    assert!(text.contains("older than") && text.contains("charge number 1 of population \"phones\""), "{text}");
    assert!(text.contains("its newest one is number 0") && text.contains("Put back the newest ledger"), "{text}");
    copy_ledger(&newest, &live);
    let store = open(&ledger(&live)).await;
    assert_eq!(sound(&*store).await, 2);
    store.close().await;

    // A ledger that went its own way from an older state has as many charges, and others.
    let store = open(&ledger(&backup)).await;
    create(&*store).await.unwrap_err();
    step(&*store, false).await;
    store.close().await;
    copy_ledger(&backup, &live);
    assert!(refused(&ledger(&live)).await.contains("charge number 1"));

    // A new, empty ledger is the oldest of all.
    copy_ledger(directory.path(), &live);
    assert!(refused(&ledger(&live)).await.contains("it has none"));
    // Without the file nobody can tell.
    copy_ledger(&newest, &live);
    fs::remove_file(live.join("budget.head")).unwrap();
    assert!(refused(&ledger(&live)).await.contains("is missing"));
    fs::write(live.join("budget.head"), "{}").unwrap();
    assert!(refused(&ledger(&live)).await.contains("cannot read"));
}

#[tokio::test]
async fn a_ledger_ahead_of_its_head_file_is_what_a_crash_leaves() {
    let directory = tempfile::tempdir().unwrap();
    let path = ledger(directory.path());
    let store = open(&path).await;
    create(&*store).await.unwrap();
    step(&*store, false).await;
    let before = fs::read(directory.path().join("budget.head")).unwrap();
    step(&*store, false).await;
    store.close().await;
    let after = fs::read(directory.path().join("budget.head")).unwrap();
    assert_ne!(before, after);
    fs::write(directory.path().join("budget.head"), before).unwrap();
    open(&path).await;
    assert_eq!(fs::read(directory.path().join("budget.head")).unwrap(), after);
}

#[cfg(unix)]
#[tokio::test]
async fn nothing_is_reserved_while_the_head_file_cannot_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = ledger(directory.path());
    let store = open(&path).await;
    create(&*store).await.unwrap();
    // A directory where the new file would be written: it fails for the superuser as well.
    let obstacle = directory.path().join("budget.head.new");
    fs::create_dir(&obstacle).unwrap();
    let row = store.task(&task()).await.unwrap();
    let round = |number, base| NewRound {
        task: task(),
        number,
        base,
        seed: [0; 32],
        target: 1,
        minimum: 1,
        opened_at: 1,
        closes_at: 1,
        cohort: vec![],
        reserve: Some(charge()),
        step: None,
        secret: false,
    };
    store.open_round(round(1, row.model)).await.unwrap();
    store.close_round(&task(), 1, &[], Some([1; 32].into()), 1).await.unwrap();
    let error = store.release(release(1, [1; 32])).await.unwrap_err().to_string();
    assert!(error.contains("cannot write") && error.contains("nothing more is charged"), "{error}");
    store.open_round(round(2, Digest::of(&[1; 32]))).await.unwrap_err();
    fs::remove_dir(&obstacle).unwrap();
    // The caller who never learnt the result calls again.
    store.release(release(1, [1; 32])).await.unwrap();
    store.open_round(round(2, Digest::of(&[1; 32]))).await.unwrap();
    assert_eq!(sound(&*store).await, 1);
}

#[tokio::test]
async fn a_lost_noise_key_leaves_only_to_abandon() {
    let directory = tempfile::tempdir().unwrap();
    let path = ledger(directory.path());
    let store = open(&path).await;
    create(&*store).await.unwrap();
    let base = store.task(&task()).await.unwrap().model;
    let round = NewRound {
        task: task(),
        number: 1,
        base,
        seed: [0; 32],
        target: 1,
        minimum: 1,
        opened_at: 1,
        closes_at: 1,
        cohort: vec![],
        reserve: Some(charge()),
        step: None,
        secret: false,
    };
    store.open_round(round).await.unwrap();
    store.close_round(&task(), 1, &[], Some([1; 32].into()), 1).await.unwrap();
    store.close().await;
    let key = directory.path().join("noise.key");
    let kept = fs::read(&key).unwrap();
    for entry in fs::read_dir(directory.path()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(32).any(|window| window == [1; 32]), "the seed lies open on disk");
    }
    fs::remove_file(&key).unwrap();
    let store = open(&path).await;
    let error = store.noise_seed(&task(), 1).await.unwrap_err().to_string();
    assert!(error.contains("another key"), "{error}");
    store.close_round(&task(), 1, &[], Some([2; 32].into()), 1).await.unwrap_err();
    store.abandon(&task(), 1, &Abandon::Fault { detail: error }, &[], 2).await.unwrap();
    assert_eq!(store.entries("phones").await.unwrap().len(), 1, "it was closing: spent");
    store.close().await;
    assert_ne!(fs::read(&key).unwrap(), kept);
    let before = fs::read(&key).unwrap();
    open(&path).await;
    assert_ne!(fs::read(&key).unwrap(), before, "with no seed sealed the key is drawn anew");
}
