//! Takes part in a task by hand: `cargo run -p testudo-client --example quickstart -- http://127.0.0.1:8443 task name`.

use testudo_client::{Client, Identity, Update};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(task), Some(name)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: quickstart <url> <task> <name>".into());
    };
    let client = Client::builder(url).identity(Identity::named(name)?).connect().await?;
    let mut session = client.join(task).await?;
    while let Some(round) = session.next_round().await? {
        // This device's "training" moves every parameter a tenth of the way to zero.
        let delta = round.model().parameters().iter().map(|value| -0.1 * value).collect();
        let receipt = round.submit(Update::delta(delta).examples(1)).await?;
        println!("round {}: {}", receipt.round, receipt.verdict);
    }
    println!("verdicts: {:?}", session.take_verdicts());
    Ok(())
}
