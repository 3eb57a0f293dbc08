//! What operators do to a task: pause, resume, stop.

use super::{Control, Driver, driver::ended};
use crate::{clock, store::TaskState};
use std::time::Duration;
use testudo_engine::EngineInput;
use testudo_protocol::{Reason, Reject};

impl Driver {
    pub(super) async fn control(&mut self, control: Control) -> Result<(), Reject> {
        let (state, why) = match control {
            Control::Pause => (TaskState::Paused, "paused by the operator"),
            Control::Resume => (TaskState::Running, ""),
            Control::Stop => (TaskState::Stopped, "stopped by the operator"),
        };
        if self.row.state == state {
            return Ok(());
        }
        if ended(self.row.state).is_some() {
            let detail = format!("the task is {}", self.row.state.word());
            return Err(Reject::new(Reason::WrongState, detail));
        }
        if control == Control::Stop && self.current.is_some() {
            let actions = self.tell(EngineInput::Stop)?;
            self.act(actions).await;
        }
        let store = self.services.store.clone();
        store
            .set_task_state(&self.row.name, state, why, clock::now())
            .await
            .map_err(|error| Reject::retry(Reason::Overloaded, error.to_string(), Duration::from_secs(1)))?;
        self.row.state = state;
        self.row.why = why.into();
        tracing::info!(task = %self.row.name, state = state.word(), "task state changed");
        self.send_home();
        Ok(())
    }
}
