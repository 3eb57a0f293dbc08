//! Poisoned-client studies: data, workloads, attacks, populations and reports.
//!
//! A pure library: no network, no clock, no system randomness. Everything is a function of its arguments and a seed, so
//! the same study gives the same bits on any machine; drivers (the demo, `testudo join`, the in-process engine) put the
//! pieces together:
//!
//! 1. [`data`] loads examples, splits off a test part and divides the rest among clients;
//! 2. [`workload`] trains a client's model and measures it;
//! 3. [`population`] says which clients are poisoned, and [`attacks`] what those change;
//! 4. [`report`] shows what came of it.
//!
//! ```
//! use testudo_simulator::attack::{Attack, Observation, View};
//! use testudo_simulator::data::{self, Partition, Split};
//! use testudo_simulator::random::{Purpose, stream};
//! use testudo_simulator::workload::{LocalTraining, WorkloadConfig};
//!
//! let seed = 7;
//! let digits = data::digits::load();
//! let (train, test) = Split::stratified(&digits, data::digits::TEST_EXAMPLES, seed)?.apply(&digits);
//! let parts = Partition::Iid {}.divide(&train, 20, seed)?;
//! let workload = WorkloadConfig::parse("mlp")?.build::<f32>(train.width(), train.classes())?;
//! let model = workload.initial(seed);
//!
//! // Round 1, client 3, poisoned.
//! let attack = testudo_simulator::attacks::parse("sign_flip:scale=10")?;
//! let mut own = train.subset(&parts[3]);
//! attack.poison(&mut own, &mut stream(seed, Purpose::Poison, 0, 3))?;
//! let mut update = workload.local_sgd(&model, &own, &LocalTraining::default(), &mut stream(seed, Purpose::Batch, 1, 3));
//! let view = View::new(attack.knowledge(), Observation { round: 1, model: &model, ..Observation::default() });
//! attack.forge(&view, &mut update, &mut stream(seed, Purpose::Attack, 1, 3));
//! attack.tamper().apply(&mut update);
//! assert_eq!(update.len(), 4_810);
//! assert!(workload.accuracy(&model, &test) < 0.4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod attack;
pub mod attacks;
pub mod data;
pub mod detection;
pub mod federation;
pub mod network;
pub mod population;
pub mod random;
pub mod report;
pub mod scalar;
pub mod scenario;
pub mod study;
pub mod workload;
pub mod world;

mod words;
