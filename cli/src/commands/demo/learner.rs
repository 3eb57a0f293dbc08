//! One client of the demo: an honest device, or a poisoned one.

use super::{
    plan::Plan,
    secure::{Secure, Witness},
};
use crate::{
    commands::{
        hostile::{self, Message},
        load::sdk,
    },
    exit::{Exit, Failure},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use testudo_client::{Client, Error, Identity, Model, Policy, Retry, Round, Update};
use testudo_simulator::{
    attack::{Attack as _, Colluder, Crowd, Knowledge, Lesson, Observation, Tamper, View},
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
    colluder: Colluder,
    crowd: Crowd,
    /// What an attacker keeps from round to round of a training.
    past: Mutex<Past>,
    workload: Arc<dyn Workload<f32>>,
    training: LocalTraining,
    seed: u64,
    secure: Option<Secure>,
    rounds: u64,
    /// As many clients compute at the same time as there are processors.
    processors: Arc<Semaphore>,
}

/// The last round's model, and what the attack asked to remember.
#[derive(Debug, Default)]
struct Past {
    model: Vec<f32>,
    memory: Vec<f32>,
}

impl Learner {
    /// Every client of the plan, each on a connection of its own, and what it insists on.
    ///
    /// # Errors
    /// The first that cannot connect.
    pub(super) async fn connect_all(plan: &Plan, url: &str, policy: &Policy) -> Result<Vec<Self>, Failure> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let processors = Arc::new(Semaphore::new(processors));
        let connect = |number| Self::connect(plan, url, policy, number, processors.clone());
        stream::iter(0..plan.clients).map(connect).buffered(32).try_collect().await
    }

    async fn connect(
        plan: &Plan,
        url: &str,
        policy: &Policy,
        number: usize,
        processors: Arc<Semaphore>,
    ) -> Result<Self, Failure> {
        let name = plan.name(number);
        let broken = |error: &Error| sdk::failure(format!("{name} cannot connect"), error);
        let client = Client::builder(url)
            .identity(Identity::named(&name).map_err(|error| broken(&error))?)
            .policy(policy.clone())
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
            colluder: plan.colluder(number),
            crowd: plan.crowd(&plan.rule),
            past: Mutex::default(),
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
                    let tamper = self.inner.attack.as_ref().map_or(Tamper::None, |attack| attack.tamper_in(number));
                    hostile::send(round, Message::plain(update, tamper)).await.map(|_| ())
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
        let batches = || random(self.seed, Purpose::Batch, round, client);
        let train = |data: &Dataset| self.workload.local_sgd(parameters, data, &self.training, &mut batches());
        let Some(attack) = self.attack.as_ref().filter(|_| attacked) else {
            let update = train(&self.honest);
            return update.iter().all(|value| value.is_finite()).then_some(update);
        };
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let past = &mut *past;
        if round == 1 {
            *past = Past::default();
        }
        let previous: Vec<f32> = match past.model.len() == parameters.len() {
            true => parameters.iter().zip(&past.model).map(|(now, before)| now - before).collect(),
            false => Vec::new(),
        };
        // A real client on a network sees the released models and its own updates, and nothing of the others.
        let open = Observation {
            round,
            colluder: self.colluder,
            crowd: self.crowd,
            accord: self.seed,
            memory: &past.memory,
            model: parameters,
            previous: &previous,
            ..Observation::default()
        };
        let training = self.training;
        let lesson =
            Lesson { round, workload: self.workload.as_ref(), model: parameters, data: &self.poisoned, training };
        let own = self.trained(attack, &lesson, open, &train);
        let mut update = own.clone();
        let trained = [own];
        let view = View::new(attack.knowledge(), Observation { colluders: &trained, ..open });
        attack.forge(&view, &mut update, &mut random(self.seed, Purpose::Attack, round, client));
        let memory = attack.wishes().memory.then(|| attack.remember(&view, &trained[0]));
        past.memory = memory.unwrap_or_default();
        past.model = parameters.to_vec();
        attack.tamper_in(round).apply(&mut update);
        Some(update)
    }

    /// An attacker's update before it is forged.
    fn trained(
        &self,
        attack: &AttackConfig,
        lesson: &Lesson<'_>,
        open: Observation<'_>,
        train: &dyn Fn(&Dataset) -> Vec<f32>,
    ) -> Vec<f32> {
        let (client, wishes) = (self.number as u64, attack.wishes());
        let mut fresh = None;
        if wishes.poison_each_round {
            let mut data = self.honest.clone();
            let mut same = random(self.seed, Purpose::Poison, 0, client);
            // Whether the attack fits the data was found out when they were first poisoned.
            if attack.poison_round(self.colluder, lesson, &mut data, &mut same).is_ok() {
                fresh = Some(data);
            }
        }
        let data = fresh.as_ref().unwrap_or(lesson.data);
        let view = View::new(attack.knowledge().min(Knowledge::Colluders), open);
        let mut batches = random(self.seed, Purpose::Batch, lesson.round, client);
        let own_way = wishes.train.then(|| attack.train(&Lesson { data, ..*lesson }, &view, &mut batches)).flatten();
        own_way.unwrap_or_else(|| train(data))
    }
}
