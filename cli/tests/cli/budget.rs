//! `testudo privacy show` and `verify-ledger`.

use crate::common::{expect, json, testudo, text};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::Stdio,
};
use testudo_privacy::{
    budget::{Charge, ChargeMechanism},
    sensitivity::Adjacency,
};
use testudo_protocol::{Abandon, Digest, TaskName};
use testudo_server::store::{self, Location, NewRound, NewTask, PrivacyPlan, Release};

/// A ledger whose population "phones" released rounds 1 and 3, and abandoned round 2 too late.
fn ledger(directory: &Path) {
    let charge = Charge::new(Adjacency::ZeroOut, ChargeMechanism::Gaussian, 20 << 24, 1 << 24, 1).unwrap();
    let task = TaskName::new("digits").unwrap();
    let privacy = PrivacyPlan {
        population: "phones".into(),
        epsilon: 2.0,
        delta: 1e-6,
        charge,
        gate: charge.gate(),
        releases: 10,
        limit: None,
    };
    let toml = "[encoding]\nclip_l2 = 0.5\n".to_owned();
    let mut model = Digest::of(b"initial");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = store::open(&Location::File(directory.join("ledger.sqlite"))).await.unwrap();
        store.create_task(NewTask { name: task.clone(), toml, model, privacy: Some(privacy), at: 1 }).await.unwrap();
        for number in 1..=3 {
            let round = NewRound {
                task: task.clone(),
                number,
                base: model,
                seed: [0; 32],
                target: 1,
                minimum: 1,
                opened_at: number,
                closes_at: number,
                cohort: vec![],
                reserve: Some(charge),
                step: None,
                secret: false,
            };
            store.open_round(round).await.unwrap();
            store.close_round(&task, number, &[], Some([number as u8; 32].into()), number).await.unwrap();
            if number == 2 {
                store.abandon(&task, 2, &Abandon::Stopped, &[], 2).await.unwrap();
                continue;
            }
            model = Digest::of(&[number as u8]);
            let release = Release {
                task: task.clone(),
                number,
                model,
                optimizer: None,
                aggregate_norm: 1.0,
                notes: vec![],
                seats: vec![],
                finishes: false,
                charged: true,
                at: number,
            };
            store.release(release).await.unwrap();
        }
        store.close().await;
    });
}

fn check(object: &Value) {
    let budget = &object["budgets"][0];
    assert_eq!(object["budgets"].as_array().unwrap().len(), 1);
    assert_eq!((&budget["population"], &budget["privacy_unit"]), (&"phones".into(), &"client".into()));
    assert_eq!((&budget["epsilon_limit"], &budget["delta"]), (&2.0.into(), &1e-6.into()));
    // Three releases with z = 20 are one with z = 20/√3.
    let spent = budget["epsilon_spent"].as_f64().unwrap();
    let expected = testudo_privacy::accountant::gaussian::epsilon(3_f64.sqrt() / 20.0, 1e-6);
    assert!((spent / expected - 1.0).abs() < 1e-6 && spent >= expected, "{spent} {expected}");
    assert_eq!(budget["epsilon_unamplified"], budget["epsilon_spent"]);
    assert!((budget["rho_spent"].as_f64().unwrap() - 3.0 / 800.0).abs() < 1e-9);
    let task = &budget["tasks"][0];
    assert_eq!((&task["task"], &task["adjacency"]), (&"digits".into(), &"zero_out".into()));
    for (key, value) in [("noise_multiplier", 20.0), ("sigma", 10.0), ("clip", 0.5)] {
        assert_eq!(task[key], value, "{key}");
    }
    for (key, value) in [
        ("rounds_planned", 10),
        ("rounds_charged", 3),
        ("rounds_released", 2),
        ("rounds_reserved", 0),
        ("rounds_left", 7),
    ] {
        assert_eq!(task[key], value, "{key}");
    }
    let history = budget["history"].as_array().unwrap();
    assert_eq!(history.iter().map(|line| line["round"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(history[0]["release"], Digest::of(&[1]).to_string());
    assert_eq!(history[1]["release"], Value::Null);
    assert_eq!(history[2]["previous"], history[1]["hash"]);
    assert_eq!(budget["head"]["hash"], history[2]["hash"]);
    assert!(budget["not_covered"].as_array().unwrap().len() > 3);
}

#[test]
fn budgets_are_shown_and_verified_offline_and_by_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    ledger(&data);
    let offline = json(0, &["privacy", "show", "--data-dir", text(&data)]);
    check(&offline);
    let verified = json(0, &["privacy", "verify-ledger", "--data-dir", text(&data)]);
    assert_eq!((&verified["verified"], &verified["head_file"]), (&true.into(), &true.into()));
    assert_eq!(verified["budgets"][0]["charges"], 3);

    let arguments = ["serve", "--listen", "127.0.0.1:0", "--web", "off", "--data-dir", text(&data), "--json"];
    let mut server = testudo(&arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    let url = format!("http://{}", ready["address"].as_str().unwrap());
    let asked = json(0, &["privacy", "show", "--server", &url]);
    assert_eq!(asked, offline, "one struct, whoever is asked");
    assert_eq!(json(0, &["privacy", "show", "--server", &url, "--population", "phones"]), offline);
    assert_eq!(json(6, &["privacy", "show", "--server", &url, "--population", "x"])["error"]["exit"], 6);
    // The ledger may be read beside a server that has it open.
    check(&json(0, &["privacy", "show", "--data-dir", text(&data), "--population", "phones"]));
    json(0, &["privacy", "verify-ledger", "--data-dir", text(&data)]);
    server.kill().unwrap();
    server.wait().unwrap();

    let export = folder.path().join("budgets.json");
    fs::write(&export, asked.to_string()).unwrap();
    let verified = json(0, &["privacy", "verify-ledger", text(&export)]);
    assert_eq!(verified["head_file"], false);
    let (said, _) = expect(0, &["privacy", "verify-ledger", text(&export)]);
    assert!(said.contains("no budget.head beside it") && !said.contains("sound"), "{said}");
    json(0, &["privacy", "verify-ledger", text(&data.join("ledger.sqlite"))]);
    json(6, &["privacy", "show", "--data-dir", text(&data), "--population", "tablets"]);
    let (shown, _) = expect(0, &["privacy", "show", "--data-dir", text(&data)]);
    for part in [
        "reserved",
        "worst-case bound",
        "of 2 at δ = 1e-6",
        "without any claim for sampling",
        "not covered",
        "abandoned too late",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn what_does_not_add_up_is_named_and_exits_with_7() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    ledger(&data);
    let export = json(0, &["privacy", "show", "--data-dir", text(&data)]);
    let file = folder.path().join("budgets.json");
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut changed = export.clone();
        change(&mut changed["budgets"][0]);
        fs::write(&file, changed.to_string()).unwrap();
        let error = json(7, &["privacy", "verify-ledger", text(&file)])["error"].clone();
        error["why"].as_str().unwrap().to_owned()
    };
    let why = refused(&|budget| budget["history"][1]["charge"]["sigma_grid"] = 1.into());
    assert!(why.contains("phones") && why.contains("entry 1: its content was changed"), "{why}");
    let why = refused(&|budget| drop(budget["history"].as_array_mut().unwrap().pop()));
    assert!(why.contains("ends at another entry"), "{why}");
    let why = refused(&|budget| budget["units"]["spent"] = 0.into());
    assert!(why.contains("add up to"), "{why}");
    fs::write(&file, "{}").unwrap();
    json(2, &["privacy", "verify-ledger", text(&file)]);
    json(6, &["privacy", "verify-ledger", text(&folder.path().join("none"))]);
    json(2, &["privacy", "verify-ledger"]);

    // A head that knows more than the ledger.
    let head = fs::read_to_string(data.join("budget.head")).unwrap();
    fs::write(data.join("budget.head"), head.replace("\"index\": 2", "\"index\": 5")).unwrap();
    let error = json(7, &["privacy", "verify-ledger", "--data-dir", text(&data)])["error"].clone();
    assert!(error["why"].as_str().unwrap().contains("older ledger"), "{error}");
    fs::remove_file(data.join("budget.head")).unwrap();
    let error = json(7, &["privacy", "verify-ledger", "--data-dir", text(&data)])["error"].clone();
    assert!(error["why"].as_str().unwrap().contains("budget.head is missing"), "{error}");
    assert!(error["next"].as_str().unwrap().contains("verify-ledger"), "{error}");
    json(0, &["privacy", "verify-ledger", text(&data.join("ledger.sqlite"))]);
    fs::write(data.join("budget.head"), head.replace("phones", "tablets")).unwrap();
    let error = json(7, &["privacy", "verify-ledger", "--data-dir", text(&data)])["error"].clone();
    assert!(error["why"].as_str().unwrap().contains("tablets"), "{error}");
}
