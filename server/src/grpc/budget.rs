//! Privacy budgets for operators.

use super::status;
use crate::{statement, store::Store};
use testudo_proto::v1::{GetBudgetRequest, GetBudgetResponse};
use testudo_protocol::{Reason, Reject};
use tonic::Status;

/// Charges in one answer if the request does not say.
const PAGE: u32 = 1000;
/// Most charges in one answer.
const MOST: u32 = 10_000;

/// Every budget without charges, or one with a page of them.
pub(super) async fn get(store: &dyn Store, request: &GetBudgetRequest) -> Result<GetBudgetResponse, Status> {
    if request.population.is_empty() {
        let accounts = store.accounts().await.map_err(status::store)?;
        let budgets = accounts.iter().map(|account| statement::to_wire(account, &[])).collect();
        return Ok(GetBudgetResponse { budgets });
    }
    let accounts = store.accounts().await.map_err(status::store)?;
    let account = accounts.into_iter().find(|account| account.population == request.population).ok_or_else(|| {
        let detail = format!("no privacy budget of population {:?}", request.population);
        status::rejected(Reject::new(Reason::NotFound, detail))
    })?;
    let mut entries = store.entries(&request.population).await.map_err(status::store)?;
    // What was charged between the two reads belongs to a later answer.
    entries.truncate(account.head.map_or(0, |(index, _)| usize::try_from(index + 1).unwrap_or(usize::MAX)));
    let limit = if request.limit == 0 { PAGE } else { request.limit.min(MOST) };
    let from = usize::try_from(request.from).unwrap_or(usize::MAX).min(entries.len());
    let until = from.saturating_add(limit as usize).min(entries.len());
    Ok(GetBudgetResponse { budgets: vec![statement::to_wire(&account, &entries[from..until])] })
}
