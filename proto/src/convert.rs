//! Single values: layouts, verdicts and digests between the wire and the checked types.

use crate::v1;
use testudo_protocol::{Digest, Layout, ModelError, Reason, Reject, Tensor, Verdict, limits};

/// The only number format of this version.
const F32: &str = "F32";

/// A layout as the wire's tensor table.
pub fn layout_to_wire(layout: &Layout) -> Vec<v1::Tensor> {
    let tensor =
        |tensor: &Tensor| v1::Tensor { name: tensor.name.clone(), dtype: F32.to_owned(), shape: tensor.shape.clone() };
    layout.tensors().iter().map(tensor).collect()
}

/// Reads a tensor table.
///
/// # Errors
/// [`Reject`]: [`Reason::WrongDtype`] for a format other than `F32`, [`Reason::Oversize`] over a limit of
/// [`limits`], [`Reason::WrongShape`] for an empty table or a repeated name.
pub fn layout_from_wire(tensors: Vec<v1::Tensor>) -> Result<Layout, Reject> {
    check_table(&tensors)?;
    if let Some(tensor) = tensors.iter().find(|tensor| tensor.dtype != F32) {
        return Err(wrong_dtype(tensor));
    }
    let tensors = tensors.into_iter().map(|tensor| Tensor { name: tensor.name, shape: tensor.shape }).collect();
    Layout::new(tensors).map_err(|error| {
        let reason = match &error {
            ModelError::Limit { .. } => Reason::Oversize,
            ModelError::Dtype { .. } => Reason::WrongDtype,
            _ => Reason::WrongShape,
        };
        Reject::new(reason, error.to_string())
    })
}

/// Whether a tensor table is exactly the layout of the round, without building a second layout.
///
/// # Errors
/// [`Reject`] names the first tensor that differs: [`Reason::WrongDtype`] for its format, [`Reason::WrongShape`] for
/// its name, shape or place.
pub fn check_layout(tensors: &[v1::Tensor], layout: &Layout) -> Result<(), Reject> {
    let wanted = layout.tensors();
    if tensors.len() != wanted.len() {
        let detail = format!("{} tensors, but the model has {}", tensors.len(), wanted.len());
        return Err(Reject::new(Reason::WrongShape, detail));
    }
    for (position, (tensor, wanted)) in tensors.iter().zip(wanted).enumerate() {
        if tensor.name != wanted.name {
            let detail = format!(
                "tensor {position} is {:?}, but the model's is {:?}; keep the order of the assignment",
                cut(&tensor.name),
                wanted.name
            );
            return Err(Reject::new(Reason::WrongShape, detail));
        }
        if tensor.dtype != F32 {
            return Err(wrong_dtype(tensor));
        }
        if tensor.shape != wanted.shape {
            let shape = &tensor.shape[..tensor.shape.len().min(limits::TENSOR_RANK)];
            let detail =
                format!("tensor {:?} has shape {shape:?}, but the model's has {:?}", wanted.name, wanted.shape);
            return Err(Reject::new(Reason::WrongShape, detail));
        }
    }
    Ok(())
}

/// A verdict for the wire.
pub fn verdict_to_wire(verdict: &Verdict) -> v1::Verdict {
    v1::Verdict {
        kind: verdict.kind().to_owned(),
        reason: verdict.reason().map(|reason| reason.code().to_owned()).unwrap_or_default(),
        value: verdict.value(),
    }
}

/// Reads a verdict.
///
/// # Errors
/// [`Reject`] with [`Reason::Malformed`] for an unknown kind or reason, or a value outside its range: (0, 1] for a
/// clip factor, [0, 1] for a trimmed share.
pub fn verdict_from_wire(verdict: &v1::Verdict) -> Result<Verdict, Reject> {
    let malformed = || {
        let detail = format!(
            "verdict {:?} with reason {:?} and value {} is not one this version knows",
            cut(&verdict.kind),
            cut(&verdict.reason),
            verdict.value
        );
        Reject::new(Reason::Malformed, detail)
    };
    let reason = match verdict.reason.as_str() {
        "" => None,
        code => Some(code.parse::<Reason>().map_err(|_| malformed())?),
    };
    let read = Verdict::from_parts(&verdict.kind, reason, verdict.value).ok_or_else(malformed)?;
    let in_range = match read {
        Verdict::Clipped { factor } => factor > 0.0 && factor <= 1.0,
        Verdict::Trimmed { share } => (0.0..=1.0).contains(&share),
        _ => true,
    };
    if in_range { Ok(read) } else { Err(malformed()) }
}

/// A round's verdict for the wire.
pub fn round_verdict_to_wire(round: u64, verdict: &Verdict) -> v1::RoundVerdict {
    v1::RoundVerdict { round, verdict: Some(verdict_to_wire(verdict)) }
}

/// Reads a round's verdict.
///
/// # Errors
/// [`Reject`] with [`Reason::Malformed`] as [`verdict_from_wire`], or if the verdict is missing.
pub fn round_verdict_from_wire(verdict: &v1::RoundVerdict) -> Result<(u64, Verdict), Reject> {
    let Some(inner) = &verdict.verdict else {
        return Err(Reject::new(Reason::Malformed, "field verdict is missing"));
    };
    Ok((verdict.round, verdict_from_wire(inner)?))
}

/// Reads a digest; `field` names it in the error.
///
/// # Errors
/// [`Reject`] with [`Reason::Malformed`] unless there are exactly 32 bytes.
pub fn digest_from_wire(bytes: &[u8], field: &str) -> Result<Digest, Reject> {
    Digest::try_from(bytes)
        .map_err(|error| Reject::new(Reason::Malformed, format!("field {field}: {error}, but holds {}", bytes.len())))
}

/// Limits first, so that what follows handles only short tables.
fn check_table(tensors: &[v1::Tensor]) -> Result<(), Reject> {
    let over = |what: &str, value: usize, limit: usize| {
        Reject::new(Reason::Oversize, format!("{what} is {value}, more than the limit of {limit}"))
    };
    if tensors.len() > limits::TENSORS {
        return Err(over("number of tensors", tensors.len(), limits::TENSORS));
    }
    for tensor in tensors {
        if tensor.name.len() > limits::TENSOR_NAME_BYTES {
            return Err(over("length of a tensor's name", tensor.name.len(), limits::TENSOR_NAME_BYTES));
        }
        if tensor.shape.len() > limits::TENSOR_RANK {
            return Err(over("rank of a tensor", tensor.shape.len(), limits::TENSOR_RANK));
        }
    }
    Ok(())
}

fn wrong_dtype(tensor: &v1::Tensor) -> Reject {
    let detail = format!("tensor {:?} holds {:?}; this version takes \"F32\"", cut(&tensor.name), cut(&tensor.dtype));
    Reject::new(Reason::WrongDtype, detail)
}

/// The beginning of a text from outside, for messages.
fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests;
