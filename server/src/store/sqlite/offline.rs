//! Budgets of a ledger that no server of ours has open, or that another one has: read, never changed.

use super::{
    super::{AccountRow, Heads, StoreError},
    backend, budget, head, unusable,
};
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use std::path::Path;
use testudo_privacy::budget::Entry;

/// Every budget of a ledger's file with its charges, and what `budget.head` beside it says.
pub(in super::super) async fn read(path: &Path) -> Result<(Vec<(AccountRow, Vec<Entry>)>, Option<Heads>), StoreError> {
    let shown = path.display().to_string();
    let published = head::read(&path.with_file_name(head::FILE))?;
    let options = SqliteConnectOptions::new().filename(path).read_only(true).disable_statement_logging();
    let mut connection = options.connect().await.map_err(|error| unusable(&shown, &error))?;
    let mut transaction = connection.begin().await.map_err(backend)?;
    let known: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'account')")
            .fetch_one(&mut *transaction)
            .await
            .map_err(|error| unusable(&shown, &error))?;
    let mut budgets = Vec::new();
    if known {
        for account in budget::accounts(&mut transaction).await? {
            let entries = budget::entries(&mut transaction, &account.population).await?;
            budgets.push((account, entries));
        }
    }
    drop(transaction);
    connection.close().await.map_err(backend)?;
    Ok((budgets, published))
}
