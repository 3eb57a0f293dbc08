//! Takes part in a masked task with a policy of its own:
//! `cargo run -p testudo-client --example masked -- http://127.0.0.1:8443 task device-7 SERVER-KEY`.
//!
//! SERVER-KEY is what `testudo task show` prints for the task. The signing key of this example is gone with the process;
//! a device keeps its own in a file (`testudo identity new`) and has it certified.

use std::sync::Arc;
use testudo_client::{Client, Error, FileAnswers, Identity, Policy, Reason, Update};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, task, name, server_key] = &arguments[..] else {
        return Err("usage: masked <url> <task> <name> <server-key>".into());
    };
    // Checked on this device, before anything leaves it.
    let policy = Policy::default().require_masking().min_group(16).server_key(server_key.parse()?);
    let answers = FileAnswers::open(format!("{name}.answers"))?;
    let client = Client::builder(url)
        .identity(Identity::named(name)?)
        .policy(policy)
        .answers(Arc::new(answers))
        .connect()
        .await?;
    let mut session = client.join(task).await?;
    while let Some(round) = session.next_round().await? {
        let (number, group) = (round.number(), round.group_size().unwrap_or(1));
        let delta = round.model().parameters().iter().map(|value| -0.1 * value).collect();
        match round.submit(Update::delta(delta)).await {
            Ok(_) => println!("round {number}: in the sum of a group of at least {group}"),
            Err(Error::Rejected(reject)) if reject.reason == Reason::GroupLost => {
                println!("round {number}: too many of the group vanished, and the update counts nowhere");
            }
            Err(error) => return Err(error.into()),
        }
    }
    let traffic = client.traffic();
    println!("verdicts: {:?}; {} bytes sent, {} received", session.take_verdicts(), traffic.up, traffic.down);
    Ok(())
}
