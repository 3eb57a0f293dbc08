use super::*;
use crate::store::TaskState;
use testudo_protocol::TaskName;

fn charge(mechanism: ChargeMechanism) -> Charge {
    Charge::new(Adjacency::ZeroOut, mechanism, 20 << 24, 1 << 24, 1).unwrap()
}

/// An account with three released rounds and one abandoned too late.
fn budget() -> (AccountRow, Vec<Entry>) {
    let mut account = Account::new("phones", Gate::Rho, 2.0, 1e-6).unwrap();
    let charge = charge(ChargeMechanism::Gaussian);
    account.plan("a", &charge, 10).unwrap();
    let mut entries = Vec::new();
    for round in 1..=4 {
        account.reserve("a", round, charge).unwrap();
        account.finalising("a", round).unwrap();
        entries.push(match round {
            3 => account.abandon("a", 3, testudo_privacy::budget::Outcome::MayDependOnUpdates).unwrap().unwrap(),
            _ => account.commit("a", round, [round as u8; 32]).unwrap(),
        });
    }
    let (limit, spent, reserved, planned) = account.units();
    let plan = PlanRow {
        task: TaskName::new("a").unwrap(),
        state: TaskState::Running,
        clip: Some(0.5),
        grid_bits: None,
        adaptive_clip: false,
        mechanism: "gaussian".into(),
        charge,
        releases: 10,
        charged: 4,
        released: 3,
        reserved: 0,
        most_updates: None,
    };
    let row = AccountRow {
        population: "phones".into(),
        gate: Gate::Rho,
        epsilon: 2.0,
        delta: 1e-6,
        limit,
        spent,
        reserved,
        planned,
        spent_epsilon: Gate::Rho.epsilon(spent, 1e-6),
        promised_epsilon: Gate::Rho.epsilon(spent + planned, 1e-6),
        head: account.head(),
        plans: vec![plan],
        created_at: 7,
    };
    (row, entries)
}

#[test]
fn a_statement_reads_back_from_json_and_from_the_wire_and_verifies() {
    let (account, entries) = budget();
    let statement = Statement::new(&account, Some(&entries));
    statement.verify(account.head).unwrap();
    let text = serde_json::to_string(&statement).unwrap();
    assert_eq!(serde_json::from_str::<Statement>(&text).unwrap(), statement);
    assert_eq!(from_wire(to_wire(&account, &entries)).unwrap(), (account.clone(), entries));
    let task = &statement.tasks[0];
    assert_eq!((task.noise_multiplier, task.sigma, task.rounds_left), (20.0, Some(10.0), 6));
    assert_eq!(statement.epsilon_unamplified, Some(statement.epsilon_spent));
    assert!(!statement.not_covered.is_empty() && statement.warnings.is_empty());
    assert_eq!(Statement::new(&account, None).verify(None), Err(StatementError::NoHistory));
}

#[test]
fn every_mechanism_and_gate_travels() {
    let (mut account, mut entries) = budget();
    account.gate = Gate::Renyi { order: 8 };
    account.spent_epsilon = account.gate.epsilon(account.spent, account.delta);
    account.promised_epsilon = account.gate.epsilon(account.spent + account.planned, account.delta);
    entries[0].charge = charge(ChargeMechanism::PoissonGaussian { rate: 0.1 });
    entries[1].charge = charge(ChargeMechanism::Correlated { rounds: 9, participations: 2, separation: 3 });
    assert_eq!(from_wire(to_wire(&account, &entries)).unwrap(), (account.clone(), entries.clone()));
    let statement = Statement::new(&account, Some(&entries));
    assert!(statement.epsilon_unamplified.is_some());
    assert_eq!(Statement::new(&account, None).epsilon_unamplified, None, "the charges tell");
    account.gate = Gate::Zcdp;
    account.spent_epsilon = account.gate.epsilon(account.spent, account.delta);
    account.promised_epsilon = account.gate.epsilon(account.spent + account.planned, account.delta);
    entries[0].charge = Charge { adjacency: Adjacency::ReplaceOne, ..charge(ChargeMechanism::Local) };
    entries[1].charge = charge(ChargeMechanism::Shares { honest: 9, coordinates: 1 << 30 });
    account.plans[0].charge = entries[1].charge;
    account.plans[0].most_updates = Some(4);
    assert_eq!(from_wire(to_wire(&account, &entries)).unwrap(), (account.clone(), entries.clone()));
    let statement = Statement::new(&account, Some(&entries));
    assert_eq!(
        (statement.epsilon_unamplified, statement.trust_model.as_str()),
        (Some(account.spent_epsilon), "distributed")
    );
    let task = &statement.tasks[0];
    assert_eq!((task.noise_multiplier, task.trust.as_str()), (3.0 * 20.0, "distributed"));
    let four = account.gate.epsilon(4 * entries[1].charge.rho_units().unwrap(), account.delta);
    assert_eq!(task.epsilon_of_most, Some(four));
}

#[test]
fn whatever_was_changed_in_a_statement_is_found() {
    let (account, entries) = budget();
    let sound = Statement::new(&account, Some(&entries));
    let found = |change: fn(&mut Statement)| {
        let mut statement = sound.clone();
        change(&mut statement);
        statement.verify(account.head).unwrap_err()
    };
    assert_eq!(found(|s| s.history.as_mut().unwrap()[1].round = 9), StatementError::Chain(VerifyError::Content(1)));
    assert_eq!(found(|s| s.population = "x".into()), StatementError::Chain(VerifyError::Content(0)));
    assert!(matches!(found(|s| drop(s.history.as_mut().unwrap().pop())), StatementError::Chain(VerifyError::Head)));
    assert_eq!(found(|s| s.history.as_mut().unwrap()[0].release = Some("xy".into())), StatementError::Release(0));
    assert!(matches!(found(|s| s.units.spent -= 1), StatementError::Spent { .. }));
    assert!(matches!(found(|s| s.units.limit += 1), StatementError::Limit { .. }));
    assert!(matches!(found(|s| s.epsilon_limit = 3.0), StatementError::Limit { .. }));
    assert!(matches!(found(|s| s.units.planned = s.units.limit), StatementError::Overdrawn { .. }));
    assert!(matches!(found(|s| s.epsilon_spent /= 2.0), StatementError::Epsilon { .. }));
    assert_eq!(sound.verify(Some((7, [0; 32]))), Err(StatementError::Older(7)));
    let published = Heads::from([("phones".into(), (3, [0; 32])), ("tablets".into(), (0, [0; 32]))]);
    assert_eq!(missing(&published, &[sound]), ["tablets"]);
}

#[test]
fn answers_that_no_server_of_ours_sends_are_refused() {
    let (account, entries) = budget();
    let refused = |change: fn(&mut testudo_proto::v1::Budget)| {
        let mut budget = to_wire(&account, &entries);
        change(&mut budget);
        from_wire(budget).unwrap_err().to_string()
    };
    for (text, expected) in [
        (refused(|budget| budget.delta = f64::NAN), "limit"),
        (refused(|budget| budget.order = 5000), "limit"),
        (refused(|budget| budget.planned_units = -1), "total"),
        (refused(|budget| budget.head_hash.truncate(31)), "head_hash"),
        (refused(|budget| budget.plans[0].state = "asleep".into()), "state"),
        (refused(|budget| budget.plans[0].task = "../x".into()), "task"),
        (refused(|budget| budget.plans[0].charge = None), "charge"),
        (refused(|budget| budget.charges[0].hash.truncate(3)), "hash"),
        (refused(|budget| budget.charges[0].charge.as_mut().unwrap().sigma_grid = 0), "charge"),
        (refused(|budget| budget.charges[0].charge.as_mut().unwrap().mechanism = None), "mechanism"),
        (refused(|budget| budget.charges[0].charge.as_mut().unwrap().adjacency.clear()), "adjacency"),
    ] {
        assert!(text.ends_with(expected), "{text}: {expected}");
    }
}
