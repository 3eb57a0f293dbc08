//! One client of the demo: an honest device, or a poisoned one.

use super::{
    plan::Plan,
    secure::{Secure, Witness},
};
use crate::{
    commands::load::sdk,
    exit::{Exit, Failure},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use testudo_client::{Client, Error, Identity, Layout, Model, Policy, Retry, Round, Update};
use testudo_simulator::{
    attack::{Attack as _, Observation, View},
    attacks::AttackConfig,
    data::Dataset,
    random::{Purpose, stream as random},
    workload::{LocalTraining, Workload},
};
use tokio::sync::Semaphore;

/// How long a client waits for a server that went away; it is in the same process.
const GIVE_UP: Duration = Duration::from_secs(30);

/// A client with its data. Clones share everything.
#[derive(Debug, Clone)]
pub(super) struct Learner {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    number: usize,
    client: Client,
    honest: Dataset,
    poisoned: Dataset,
    attack: Option<AttackConfig>,
    workload: Arc<dyn Workload<f32>>,
    training: LocalTraining,
    seed: u64,
    secure: Option<Secure>,
    rounds: u64,
    /// As many clients compute at the same time as there are processors.
    processors: Arc<Semaphore>,
}

impl Learner {
    /// Every client of the plan, each on a connection of its own.
    ///
    /// # Errors
    /// The first that cannot connect.
    pub(super) async fn connect_all(plan: &Plan, url: &str) -> Result<Vec<Self>, Failure> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let processors = Arc::new(Semaphore::new(processors));
        let connect = |number| Self::connect(plan, url, number, processors.clone());
        stream::iter(0..plan.clients).map(connect).buffered(32).try_collect().await
    }

    async fn connect(plan: &Plan, url: &str, number: usize, processors: Arc<Semaphore>) -> Result<Self, Failure> {
        let name = plan.name(number);
        let broken = |error: &Error| sdk::failure(format!("{name} cannot connect"), error);
        let policy = match &plan.secure {
            None => Policy::default(),
            Some(secure) => Policy::default().require_masking().min_group(secure.group_size as u32),
        };
        let client = Client::builder(url)
            .identity(Identity::named(&name).map_err(|error| broken(&error))?)
            .policy(policy)
            .retry(Retry::default().give_up_after(GIVE_UP))
            .connect()
            .await
            .map_err(|error| broken(&error))?;
        let inner = Inner {
            number,
            client,
            honest: plan.parts[number].clone(),
            poisoned: plan.poisoned_part(number)?,
            attack: plan.population.attack(number).cloned(),
            workload: plan.workload.clone(),
            training: plan.training,
            seed: plan.seed,
            secure: plan.secure.clone(),
            rounds: plan.rounds,
            processors,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Trains in every round until the task ends; a poisoned client attacks if `attacked`. `stopped` says that the
    /// task is being stopped, and refusals are to be expected. The witness sees what leaves honest devices in the last
    /// masked round.
    ///
    /// # Errors
    /// Whatever keeps an honest client from taking part.
    pub(super) async fn take_part(
        self,
        (name_of_training, task): (&'static str, String),
        attacked: bool,
        stopped: Arc<AtomicBool>,
        witness: Arc<Witness>,
    ) -> Result<(), Failure> {
        let name = self.inner.client.name().clone();
        let broken = |error: &Error| sdk::failure(format!("{name} failed in {task}"), error);
        let mut session = self.inner.client.join(task.as_str()).await.map_err(|error| broken(&error))?;
        while let Some(round) = session.next_round().await.map_err(|error| broken(&error))? {
            let update = self.compute(&round, attacked).await?;
            let attacker = attacked && self.inner.attack.is_some();
            let number = round.number();
            let leaves = self.inner.secure.as_ref();
            let leaves = leaves.and_then(|secure| secure.leaves(name_of_training, number, self.inner.number));
            let result = match update {
                Some(update) if attacker => {
                    let update = hostile(update, round.layout());
                    round.submit(update).await.map(|_| ())
                }
                Some(update) => match round.seal(Update::delta(update.clone())) {
                    Err(error) => Err(error),
                    Ok(sealed) => {
                        let sealed = match leaves {
                            Some(step) => sealed.leaving_before(step),
                            None => sealed,
                        };
                        let sealed = match number == self.inner.rounds {
                            true => {
                                let witness = witness.clone();
                                sealed.witnessed(move |sent| witness.note(&update, sent))
                            }
                            false => sealed,
                        };
                        sealed.send().await.map(|_| ())
                    }
                },
                None => round.withdraw().await,
            };
            match result {
                Ok(()) => {}
                // What an attacker sends is meant to be refused.
                Err(Error::Rejected(_)) if attacker || stopped.load(Ordering::Relaxed) => {}
                // An attacker whose update is no vector of numbers cannot mask it.
                Err(Error::Update(_)) if attacker && self.inner.secure.is_some() => {}
                // It vanished as it was told to.
                Err(_) if leaves.is_some() => {}
                Err(error) if self.inner.secure.is_some() && Secure::is_expected(error.reason()) => {}
                Err(error) => return Err(broken(&error)),
            }
        }
        Ok(())
    }

    /// This client's update; `None` if honest training did not end with numbers, as from a destroyed model.
    async fn compute(&self, round: &Round, attacked: bool) -> Result<Option<Vec<f32>>, Failure> {
        let (number, model) = (round.number(), round.shared_model());
        let inner = self.inner.clone();
        let _processor = self.inner.processors.acquire().await;
        let computed = tokio::task::spawn_blocking(move || inner.update(number, &model, attacked)).await;
        computed.map_err(|error| {
            Failure::new(
                Exit::Internal,
                format!("{} broke while training", self.inner.client.name()),
                error.to_string(),
            )
        })
    }
}

impl Inner {
    fn update(&self, round: u64, model: &Model, attacked: bool) -> Option<Vec<f32>> {
        let (client, parameters) = (self.number as u64, model.parameters());
        let attack = self.attack.as_ref().filter(|_| attacked);
        let data = if attack.is_some() { &self.poisoned } else { &self.honest };
        let mut batches = random(self.seed, Purpose::Batch, round, client);
        let mut update = self.workload.local_sgd(parameters, data, &self.training, &mut batches);
        let Some(attack) = attack else {
            return update.iter().all(|value| value.is_finite()).then_some(update);
        };
        // A real client on a network sees the released model and nothing of the others.
        let observation = Observation { round, model: parameters, ..Observation::default() };
        let view = View::new(attack.knowledge(), observation);
        attack.forge(&view, &mut update, &mut random(self.seed, Purpose::Attack, round, client));
        attack.tamper().apply(&mut update);
        Some(update)
    }
}

/// An update as an attacker sends it, past every check on the device. One of another length names tensors that add up
/// to it: all but the last keep their shape as far as the coordinates go, the last takes what is left.
fn hostile(update: Vec<f32>, layout: &Layout) -> Update {
    if update.len() == layout.dimension() {
        return Update::delta(update).unchecked();
    }
    let last = layout.tensors().len().saturating_sub(1);
    let mut left = update.len() as u64;
    let mut tensors = Vec::new();
    for (index, tensor) in layout.tensors().iter().enumerate() {
        let whole = tensor.coordinates().unwrap_or(0);
        let taken = if index == last { left } else { left.min(whole) };
        let shape = if taken == whole { tensor.shape.clone() } else { vec![taken] };
        left -= taken;
        tensors.push((tensor.name.clone(), "F32".to_string(), shape));
    }
    let bytes: Vec<u8> = update.iter().flat_map(|value| value.to_le_bytes()).collect();
    Update::raw(tensors, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testudo_client::Tensor;

    #[test]
    fn an_update_of_another_length_keeps_the_tensors_names_and_not_their_shapes() {
        let tensor = |name: &str, shape: Vec<u64>| Tensor { name: name.into(), shape };
        let layout = Layout::new(vec![tensor("weight", vec![2, 3]), tensor("bias", vec![3])]).unwrap();
        for (length, weight, bias) in [(8, vec![2, 3], vec![2]), (12, vec![2, 3], vec![6]), (4, vec![4], vec![0])] {
            let text = format!("{:?}", hostile(vec![1.0; length], &layout));
            for shape in [weight, bias] {
                assert!(text.contains(&format!("shape: {shape:?}")), "{length}: {text}");
            }
        }
        assert!(format!("{:?}", hostile(vec![f32::NAN; 9], &layout)).contains("Delta"));
    }
}
