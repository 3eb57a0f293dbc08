//! Which of the known workloads a task's model is.

use crate::{
    exit::{Exit, Failure},
    format::clean,
};
use std::sync::Arc;
use testudo_client::{Layout, Model};
use testudo_simulator::{
    data::Dataset,
    random::Stream,
    workload::{Evaluation, LocalTraining, Workload, WorkloadConfig},
};

/// Name, shape and data of one tensor.
type NamedTensor = (String, Vec<u64>, Vec<f32>);

/// A model this client can train: its tensors, in whatever order the file has them, are a workload's.
#[derive(Debug, Clone)]
pub(super) struct Network {
    workload: Arc<dyn Workload<f32>>,
}

impl Network {
    /// Recognises the model by its tensors' names and shapes, and checks that the data fit.
    ///
    /// # Errors
    /// An unknown model, or data of another width or with more classes.
    pub(super) fn of(layout: &Layout, data: &Dataset) -> Result<Self, Failure> {
        let Some((config, inputs, classes)) = recognise(layout) else { return Err(unknown(layout)) };
        let workload = config
            .build::<f32>(inputs, classes)
            .map_err(|error| Failure::new(Exit::Policy, "cannot train this model", error.to_string()))?;
        let network = Self { workload: Arc::from(workload) };
        if !network.is_exactly(layout) {
            return Err(unknown(layout));
        }
        if data.width() != inputs || data.classes() > classes {
            let why = format!(
                "the model takes {inputs} features and {classes} classes, the data have {} and {}",
                data.width(),
                data.classes()
            );
            return Err(Failure::new(Exit::Usage, "the data do not fit the task's model", why)
                .next("choose other --data or another --label, or create the task with a model of this shape"));
        }
        Ok(network)
    }

    /// How good the model is on the data, and the update; `None` if it is not all numbers.
    pub(super) fn train(
        &self,
        model: &Model,
        data: &Dataset,
        training: &LocalTraining,
        batches: &mut Stream,
    ) -> (Evaluation, Option<Vec<NamedTensor>>) {
        let tensors = self.workload.tensors();
        let parameters: Vec<f32> =
            tensors.iter().flat_map(|tensor| model.tensor(&tensor.name).unwrap_or_default()).copied().collect();
        let before = self.workload.evaluate(&parameters, data);
        let update = self.workload.local_sgd(&parameters, data, training, batches);
        if !update.iter().all(|value| value.is_finite()) {
            return (before, None);
        }
        let named = tensors.into_iter().map(|tensor| {
            let data = update[tensor.offset..tensor.offset + tensor.coordinates()].to_vec();
            (tensor.name, tensor.shape.iter().map(|&length| length as u64).collect(), data)
        });
        (before, Some(named.collect()))
    }

    fn is_exactly(&self, layout: &Layout) -> bool {
        let mut wanted: Vec<(String, Vec<u64>)> = self
            .workload
            .tensors()
            .into_iter()
            .map(|tensor| (tensor.name, tensor.shape.iter().map(|&length| length as u64).collect()))
            .collect();
        let mut found: Vec<(String, Vec<u64>)> =
            layout.tensors().iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone())).collect();
        wanted.sort();
        found.sort();
        wanted == found
    }
}

/// The workload with its inputs and classes, from the shapes of its weights.
fn recognise(layout: &Layout) -> Option<(WorkloadConfig, usize, usize)> {
    let matrix = |name: &str| {
        let tensor = layout.tensors().iter().find(|tensor| tensor.name == name)?;
        let &[inputs, outputs] = &tensor.shape[..] else { return None };
        Some((usize::try_from(inputs).ok()?, usize::try_from(outputs).ok()?))
    };
    if let Some((inputs, classes)) = matrix("weight") {
        return Some((WorkloadConfig::Softmax {}, inputs, classes));
    }
    let layers: Vec<(usize, usize)> = (1..).map_while(|layer| matrix(&format!("layer{layer}.weight"))).collect();
    let ((inputs, _), (_, classes)) = (*layers.first()?, *layers.last()?);
    let hidden = layers[..layers.len() - 1].iter().map(|(_, outputs)| *outputs).collect();
    Some((WorkloadConfig::Mlp { hidden }, inputs, classes))
}

fn unknown(layout: &Layout) -> Failure {
    let tensors = layout.tensors().iter().take(8).map(|tensor| format!("{} {:?}", clean(&tensor.name), tensor.shape));
    let more = if layout.tensors().len() > 8 { ", …" } else { "" };
    let why = format!(
        "this example client trains weight [features, classes] with bias [classes], or layer1.weight [inputs, outputs] \
         with layer1.bias [outputs] and so on; the model has {}{more}",
        tensors.collect::<Vec<_>>().join(", ")
    );
    Failure::new(Exit::Policy, "cannot train the task's model", why)
        .next("embed the client library with a trainer of your own; its example `trainer` shows how")
}

#[cfg(test)]
mod tests {
    use super::*;
    use testudo_client::Tensor;
    use testudo_simulator::{
        data::digits,
        random::{Purpose, stream},
    };

    fn layout(tensors: &[(&str, &[u64])]) -> Layout {
        let tensor = |(name, shape): &(&str, &[u64])| Tensor { name: (*name).into(), shape: shape.to_vec() };
        Layout::new(tensors.iter().map(tensor).collect()).unwrap()
    }

    #[test]
    fn models_are_known_by_names_and_shapes_in_any_order() {
        let data = digits::load();
        for tensors in [
            &[("weight", &[64, 10][..]), ("bias", &[10])][..],
            &[("bias", &[10]), ("weight", &[64, 10])],
            &[("layer1.bias", &[5]), ("layer1.weight", &[64, 5]), ("layer2.bias", &[10]), ("layer2.weight", &[5, 10])],
        ] {
            assert!(Network::of(&layout(tensors), &data).is_ok(), "{tensors:?}");
        }
    }

    #[test]
    fn other_models_and_other_data_are_refused_with_what_is_there() {
        let data = digits::load();
        for (tensors, part) in [
            (&[("weight", &[64, 10][..])][..], "weight [64, 10]"),
            (&[("weight", &[64, 10]), ("bias", &[9])], "bias [9]"),
            (
                &[
                    ("layer1.weight", &[64, 5]),
                    ("layer1.bias", &[5]),
                    ("layer2.weight", &[6, 10]),
                    ("layer2.bias", &[10]),
                ],
                "layer2.weight [6, 10]",
            ),
            (&[("convolution", &[3, 3])], "convolution [3, 3]"),
            (&[("weight", &[63, 10]), ("bias", &[10])], "63 features and 10 classes, the data have 64 and 10"),
            (&[("weight", &[64, 9]), ("bias", &[9])], "9 classes"),
        ] {
            let failure = Network::of(&layout(tensors), &data).unwrap_err();
            assert!(failure.text().contains(part), "{}", failure.text());
        }
    }

    #[test]
    fn the_order_of_the_tensors_in_the_file_changes_nothing() {
        let data = digits::load();
        let tensor = |name: &str, shape: &[u64]| Tensor { name: name.into(), shape: shape.to_vec() };
        let weight: Vec<f32> = (0..640).map(|index| index as f32 * 1e-4).collect();
        let bias: Vec<f32> = (0..10).map(|index| index as f32 * 0.1).collect();
        let one = Model::new(
            vec![tensor("weight", &[64, 10]), tensor("bias", &[10])],
            [weight.clone(), bias.clone()].concat(),
        )
        .unwrap();
        let two =
            Model::new(vec![tensor("bias", &[10]), tensor("weight", &[64, 10])], [bias, weight].concat()).unwrap();
        let train = |model: &Model| {
            let network = Network::of(model.layout(), &data).unwrap();
            network.train(model, &data, &LocalTraining::default(), &mut stream(1, Purpose::Batch, 1, 0)).1.unwrap()
        };
        assert_eq!(train(&one), train(&two));
        assert!(train(&one).iter().any(|(_, _, data)| data.iter().any(|value| *value != 0.0)));
    }
}
