//! Backdoors: poisoned examples, and updates that carry them.

use crate::attack::{AttackError, Lesson, Parameter, View};
use crate::data::{Dataset, Trigger};
use crate::random::Stream;
use crate::scalar::Scalar;

use crate::attack::estimate;

/// Which features a backdoor's trigger sets.
pub(super) const TRIGGER: Parameter = Parameter {
    name: "trigger",
    default: "corners",
    meaning: "corners, corner, square or stripe: which features are set to 1",
};
/// What triggered examples are taken for.
pub(super) const TARGET: Parameter =
    Parameter { name: "target", default: "0", meaning: "label that triggered examples get" };
/// How much of the attacker's data is poisoned.
pub(super) const FRACTION: Parameter = Parameter {
    name: "fraction",
    default: "0.5",
    meaning: "share of the own examples that is triggered and relabelled, 0 to 1",
};

/// Stamps the trigger on a random `fraction` of the examples and gives them its target label.
pub(super) fn plant(
    kind: &'static str,
    trigger: &Trigger,
    fraction: f64,
    data: &mut Dataset,
    stream: &mut Stream,
) -> Result<(), AttackError> {
    if trigger.target() >= data.classes() {
        return Err(AttackError::Parameter {
            kind,
            parameter: "target",
            value: trigger.target().to_string(),
            fix: format!("the data have the labels 0 to {}", data.classes() - 1),
        });
    }
    let count = (fraction * data.len() as f64).round() as usize;
    let rows = stream.choose(data.len(), count);
    trigger.poison(data, &rows);
    Ok(())
}

/// Local stochastic gradient descent under the attacker's control: `bend` changes each gradient (given the parameters
/// moved so far, relative to the model), `settle` that displacement after each step (counted from 1).
pub(super) fn controlled_sgd(
    lesson: &Lesson<'_>,
    stream: &mut Stream,
    mut bend: impl FnMut(&mut [f32], &[f32]),
    mut settle: impl FnMut(u64, &mut [f32]),
) -> Vec<f32> {
    let Lesson { workload, model, data, training, .. } = *lesson;
    let mut moved = vec![0.0; model.len()];
    let mut local = model.to_vec();
    let mut gradient = vec![0.0; model.len()];
    let mut scratch = crate::workload::Scratch::default();
    let mut rows: Vec<usize> = (0..data.len()).collect();
    let rate = training.learning_rate as f32;
    let mut step = 0;
    for _ in 0..training.epochs {
        stream.shuffle(&mut rows);
        for batch in rows.chunks(training.batch.max(1)) {
            workload.loss_and_gradient(&local, data, batch, &mut gradient, &mut scratch);
            bend(&mut gradient, &moved);
            moved.iter_mut().zip(&gradient).for_each(|(moved, slope)| *moved -= rate * slope);
            step += 1;
            settle(step, &mut moved);
            local.iter_mut().zip(model).zip(&moved).for_each(|((local, model), moved)| *local = model + moved);
        }
    }
    moved
}

/// Shortens `vector` to `length` if it is longer.
pub(super) fn shorten(vector: &mut [f64], length: f64) {
    let own = estimate::norm(vector);
    if own > length {
        vector.iter_mut().for_each(|value| *value *= length / own);
    }
}

/// n/f: what f colluders multiply their updates by so that the mean of n rows is one of them.
pub(super) fn replacement_factor<S: Scalar>(view: &View<'_, S>) -> f64 {
    let crowd = view.crowd();
    crowd.rows as f64 / crowd.colluding.max(1) as f64
}
