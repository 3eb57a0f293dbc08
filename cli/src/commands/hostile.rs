//! What an attacker sends over a real connection: its update past every check on the device, and its misbehaviour.

use testudo_aggregate::first_non_finite;
use testudo_client::{Encoding, Error, Layout, Round, Step as MaskedStep, Update};
use testudo_simulator::attack::{Step, Tamper};

/// Most bytes of an oversize upload: the server refuses it by what it announces.
const MOST_BYTES: usize = 64 << 20;

/// What a client of a study sends in a round: also an honest one's, which no check on a device holds back.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// The update, d values unless its shape is wrong.
    pub(crate) values: Vec<f32>,
    /// The claimed number of examples.
    pub(crate) examples: u64,
    /// How it travels.
    pub(crate) encoding: Encoding,
    /// How many coordinates a sparse upload keeps.
    pub(crate) keep: usize,
    /// How the client misbehaves.
    pub(crate) tamper: Tamper,
}

impl Message {
    /// A plain update of one example.
    pub(crate) fn plain(values: Vec<f32>, tamper: Tamper) -> Self {
        Self { values, examples: 1, encoding: Encoding::F32, keep: 0, tamper }
    }
}

/// Sends a message as its `tamper` has it; answers whether anything was sent.
///
/// Whoever stays silent, comes late or would send an upload of another round leaves the round, so that the others need
/// not wait for its deadline: that is the same to the rule. A second upload of the same round cannot be sent with the
/// SDK, and changes nothing.
///
/// # Errors
/// The server's refusal, which is what an attacker has to expect.
pub(crate) async fn send(round: Round, message: Message) -> Result<bool, Error> {
    let Message { values, examples, encoding, keep, tamper } = message;
    let masked = round.group_size().is_some();
    if is_silent(tamper, masked) {
        return round.withdraw().await.map(|()| false);
    }
    let claim = |examples: u64| i64::try_from(examples).unwrap_or(i64::MIN);
    let body = match tamper {
        Tamper::Oversize { factor } => oversize(&values, round.layout(), factor),
        Tamper::Examples { claimed } => Update::delta(values).examples_claim(claim(claimed)),
        _ if values.len() != round.layout().dimension() => of_another_length(&values, round.layout()),
        // What is no number cannot be encoded and goes as it is.
        _ if encoding == Encoding::F32 || first_non_finite(&values).is_some() => Update::delta(values).unchecked(),
        _ if encoding == Encoding::Sparse => Update::delta(values).top(keep).unchecked(),
        _ => Update::delta(values).encoded(encoding).unchecked(),
    };
    let body = match tamper {
        Tamper::Examples { .. } => body,
        _ => body.examples(examples),
    };
    let sealed = round.seal(body)?;
    let sealed = match tamper {
        Tamper::Dropout { step } if masked => sealed.leaving_before(of_masked_round(step)),
        _ => sealed,
    };
    sealed.send().await.map(|_| true)
}

fn is_silent(tamper: Tamper, masked: bool) -> bool {
    use testudo_simulator::attack::Replayed;
    match tamper {
        Tamper::Dropout { step } => !masked && step == Step::Input,
        Tamper::Late { .. } => true,
        Tamper::Replay { of } => of != Replayed::Twice,
        _ => false,
    }
}

fn of_masked_round(step: Step) -> MaskedStep {
    match step {
        Step::AdvertiseKeys => MaskedStep::AdvertiseKeys,
        Step::ShareKeys => MaskedStep::ShareKeys,
        Step::Input => MaskedStep::MaskedInput,
        Step::Consistency => MaskedStep::Consistency,
        Step::Unmask => MaskedStep::Unmask,
    }
}

/// The update's bytes over and over, under the model's table of tensors.
fn oversize(update: &[f32], layout: &Layout, factor: u32) -> Update {
    let bytes: Vec<u8> = update.iter().flat_map(|value| value.to_le_bytes()).collect();
    let most = (MOST_BYTES / bytes.len().max(1)).max(2);
    let tensors = layout.tensors().iter().map(|tensor| (tensor.name.clone(), "F32".to_string(), tensor.shape.clone()));
    Update::raw(tensors.collect(), bytes.repeat((factor as usize).min(most)))
}

/// An update of another length than the model names tensors that add up to it: all but the last keep their shape as far
/// as the coordinates go, the last takes what is left.
fn of_another_length(update: &[f32], layout: &Layout) -> Update {
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

    fn layout() -> Layout {
        let tensor = |name: &str, shape: Vec<u64>| Tensor { name: name.into(), shape };
        Layout::new(vec![tensor("weight", vec![2, 3]), tensor("bias", vec![3])]).unwrap()
    }

    #[test]
    fn an_update_of_another_length_keeps_the_tensors_names_and_not_their_shapes() {
        for (length, weight, bias) in [(8, vec![2, 3], vec![2]), (12, vec![2, 3], vec![6]), (4, vec![4], vec![0])] {
            let text = format!("{:?}", of_another_length(&vec![1.0; length], &layout()));
            for shape in [weight, bias] {
                assert!(text.contains(&format!("shape: {shape:?}")), "{length}: {text}");
            }
        }
    }

    #[test]
    fn an_oversize_upload_keeps_the_table_of_tensors() {
        let text = format!("{:?}", oversize(&[1.0; 9], &layout(), 3));
        assert!(text.len() > 108 && text.contains("shape: [2, 3]"), "{text}");
    }

    #[test]
    fn only_those_that_say_nothing_leave_the_round() {
        assert!(is_silent(Tamper::Dropout { step: Step::Input }, false));
        assert!(!is_silent(Tamper::Dropout { step: Step::Input }, true));
        assert!(is_silent(Tamper::Late { by_ms: 1 }, false));
        assert!(!is_silent(Tamper::None, false) && !is_silent(Tamper::WrongShare, true));
    }
}
