//! What a client sends in a round.

use crate::{Error, noised};
use bytes::Bytes;
use testudo_aggregate::first_non_finite;
use testudo_proto::{OwnNoise, framing, layout_to_wire, v1};
use testudo_protocol::{Digest, Encoding, Layout, keep_largest};
use zeroize::Zeroizing;

/// What a client sends in a round: the trained parameters minus the round's, and how many examples they saw.
///
/// Checked against the round before anything leaves the device, unless [`unchecked`](Update::unchecked).
#[derive(Debug, Clone)]
pub struct Update {
    body: Body,
    examples: i64,
    checked: bool,
    digest: Option<Digest>,
    encoding: Encoding,
    keep: Option<usize>,
}

#[derive(Debug, Clone)]
enum Body {
    Delta(Vec<f32>),
    Tensors(Vec<NamedTensor>),
    Raw { tensors: Vec<v1::Tensor>, bytes: Bytes },
}

#[derive(Debug, Clone)]
struct NamedTensor {
    name: String,
    shape: Vec<u64>,
    data: Vec<f32>,
}

/// An update ready for the wire.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) tensors: Vec<v1::Tensor>,
    pub(crate) payload: Bytes,
    pub(crate) digest: Digest,
    pub(crate) examples: i64,
    pub(crate) encoding: Encoding,
}

impl Update {
    /// The flat delta: one value per coordinate, in the order of [`Round::layout`](crate::Round::layout), trained
    /// minus received parameters.
    pub fn delta(delta: Vec<f32>) -> Self {
        Self::new(Body::Delta(delta))
    }

    /// The delta as named tensors (name, shape, row-major data), in any order; each of the model's once.
    pub fn tensors<N: Into<String>>(tensors: impl IntoIterator<Item = (N, Vec<u64>, Vec<f32>)>) -> Self {
        let named = |(name, shape, data): (N, _, _)| NamedTensor { name: name.into(), shape, data };
        Self::new(Body::Tensors(tensors.into_iter().map(named).collect()))
    }

    /// Any tensor table (name, dtype, shape) with any bytes, sent as they are: for testing servers.
    pub fn raw(tensors: Vec<(String, String, Vec<u64>)>, bytes: impl Into<Bytes>) -> Self {
        let tensors = tensors.into_iter().map(|(name, dtype, shape)| v1::Tensor { name, dtype, shape }).collect();
        let mut update = Self::new(Body::Raw { tensors, bytes: bytes.into() });
        update.checked = false;
        update
    }

    /// How many examples the update was trained on; 1 unless told. The task may cap it.
    #[must_use]
    pub fn examples(mut self, examples: u64) -> Self {
        self.examples = i64::try_from(examples).unwrap_or(i64::MAX);
        self
    }

    /// Sends the update in another encoding than f32; the task must accept it. What is lost is lost: int8 has 255 steps
    /// per tensor.
    #[must_use]
    pub fn encoded(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// Keeps only the `keep` coordinates of largest magnitude and sends them as [`Encoding::Sparse`]; the others count
    /// as 0.
    #[must_use]
    pub fn top(mut self, keep: usize) -> Self {
        self.keep = Some(keep);
        self.encoded(Encoding::Sparse)
    }

    /// Claims any number of examples, negative ones too, and sends without local checks: for testing servers.
    #[must_use]
    pub fn examples_claim(mut self, examples: i64) -> Self {
        self.examples = examples;
        self.checked = false;
        self
    }

    /// Claims a digest that the bytes may not have: for testing servers.
    #[must_use]
    pub fn digest_claim(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Sends without local checks, named tensors in the order given: for testing servers.
    #[must_use]
    pub fn unchecked(mut self) -> Self {
        self.checked = false;
        self
    }

    fn new(body: Body) -> Self {
        Self { body, examples: 1, checked: true, digest: None, encoding: Encoding::F32, keep: None }
    }

    /// Checks the update against the round's layout and packs it.
    pub(crate) fn pack(self, layout: &Layout, accepted: &[Encoding]) -> Result<Parcel, Error> {
        let encoding = self.encoding;
        if self.checked && !accepted.contains(&encoding) {
            let words: Vec<&str> = accepted.iter().map(|encoding| encoding.word()).collect();
            return Err(Error::Update(format!("the task takes no {encoding}; it takes {}", words.join(", "))));
        }
        let bytes = |mut delta: Vec<f32>| {
            if let Some(keep) = self.keep {
                keep_largest(&mut delta, keep);
            }
            match encoding {
                Encoding::F32 => framing::payload(&delta),
                encoding => Bytes::from(encoding.encode(&delta, layout)),
            }
        };
        if self.checked && self.examples < 1 {
            return Err(Error::Update("it claims no examples; leave the round with withdraw() instead".into()));
        }
        let (tensors, payload) = match self.body {
            Body::Delta(delta) => {
                if self.checked {
                    check_delta(&delta, layout)?;
                }
                (layout_to_wire(layout), bytes(delta))
            }
            Body::Tensors(tensors) if self.checked => {
                let delta = arrange(tensors, layout)?;
                check_delta(&delta, layout)?;
                (layout_to_wire(layout), bytes(delta))
            }
            Body::Tensors(_) if encoding != Encoding::F32 => {
                return Err(Error::Update("named tensors that are sent unchecked go as f32".into()));
            }
            Body::Tensors(tensors) => as_given(tensors),
            Body::Raw { tensors, bytes } => (tensors, bytes),
        };
        let digest = self.digest.unwrap_or_else(|| Digest::of(&payload));
        Ok(Parcel { tensors, payload, digest, examples: self.examples, encoding })
    }

    /// Clips and noises the update, and packs it. Unchecked ones go as they are.
    pub(crate) fn pack_noised(self, layout: &Layout, noise: &OwnNoise) -> Result<Parcel, Error> {
        if self.keep.is_some() || self.encoding != Encoding::F32 {
            return Err(Error::Update(
                "a round with noise of one's own takes no other encoding; send the update without one".into(),
            ));
        }
        let delta = match self.body {
            Body::Raw { tensors, bytes } => return Ok(noised::parcel(tensors, bytes)),
            Body::Tensors(tensors) => arrange(tensors, layout)?,
            Body::Delta(delta) => delta,
        };
        let delta = Zeroizing::new(delta);
        if !self.checked {
            return Ok(noised::parcel(layout_to_wire(layout), framing::payload(&delta)));
        }
        check_length(&delta, layout)?;
        noised::noised(noise, layout_to_wire(layout), &delta)
    }

    /// Checks the update against the round's layout and takes it apart, for masking.
    ///
    /// Where clients add shares of noise, what is not finite counts as zeros: who left a round over it would be seen.
    pub(crate) fn unpacked(self, layout: &Layout, noised: bool) -> Result<Unpacked, Error> {
        if self.keep.is_some() || self.encoding != Encoding::F32 {
            return Err(Error::Update("a masked round takes no other encoding; send the update without one".into()));
        }
        if self.examples < 1 {
            return Err(Error::Update("it claims no examples; leave the round with withdraw() instead".into()));
        }
        let delta = match self.body {
            Body::Delta(delta) => delta,
            Body::Tensors(tensors) => arrange(tensors, layout)?,
            Body::Raw { .. } => return Err(Error::Update("raw bytes cannot be masked".into())),
        };
        match noised {
            true => check_length(&delta, layout)?,
            // Unchecked or not: what is no number cannot be quantised.
            false => check_delta(&delta, layout)?,
        }
        let (hostile, examples) = (!self.checked, self.examples);
        Ok(Unpacked { tensors: layout_to_wire(layout), delta: Zeroizing::new(delta), examples, hostile })
    }
}

/// An update that fits its round, for masking.
pub(crate) struct Unpacked {
    pub(crate) tensors: Vec<v1::Tensor>,
    pub(crate) delta: Zeroizing<Vec<f32>>,
    pub(crate) examples: i64,
    /// Whether the device's own bounds do not apply.
    pub(crate) hostile: bool,
}

fn check_length(delta: &[f32], layout: &Layout) -> Result<(), Error> {
    if delta.len() == layout.dimension() {
        return Ok(());
    }
    Err(Error::Update(format!("it has {} coordinates, but the model has {}", delta.len(), layout.dimension())))
}

fn check_delta(delta: &[f32], layout: &Layout) -> Result<(), Error> {
    check_length(delta, layout)?;
    let Some(at) = first_non_finite(delta) else { return Ok(()) };
    let place = match layout.locate(at) {
        Some((tensor, index)) => format!("tensor {:?} at position {index}", tensor.name),
        None => format!("coordinate {at}"),
    };
    Err(Error::Update(format!("{place} is {}; lower the learning rate or leave the round with withdraw()", delta[at])))
}

/// Named tensors in the order of the layout.
fn arrange(mut tensors: Vec<NamedTensor>, layout: &Layout) -> Result<Vec<f32>, Error> {
    let mut delta = Vec::with_capacity(layout.dimension());
    for wanted in layout.tensors() {
        let Some(at) = tensors.iter().position(|tensor| tensor.name == wanted.name) else {
            return Err(Error::Update(format!("tensor {:?} of the model is missing", wanted.name)));
        };
        let tensor = tensors.swap_remove(at);
        if tensor.shape != wanted.shape {
            return Err(Error::Update(format!(
                "tensor {:?} has shape {:?}, but the model's has {:?}",
                wanted.name, tensor.shape, wanted.shape
            )));
        }
        if Some(tensor.data.len() as u64) != wanted.coordinates() {
            return Err(Error::Update(format!(
                "tensor {:?} holds {} values, but its shape {:?} another number",
                wanted.name,
                tensor.data.len(),
                wanted.shape
            )));
        }
        delta.extend(tensor.data);
    }
    match tensors.first() {
        Some(surplus) => Err(Error::Update(format!("tensor {:?} is not the model's, or comes twice", surplus.name))),
        None => Ok(delta),
    }
}

fn as_given(tensors: Vec<NamedTensor>) -> (Vec<v1::Tensor>, Bytes) {
    let data: Vec<f32> = tensors.iter().flat_map(|tensor| tensor.data.iter().copied()).collect();
    let table = tensors
        .into_iter()
        .map(|tensor| v1::Tensor { name: tensor.name, dtype: "F32".to_owned(), shape: tensor.shape })
        .collect();
    (table, framing::payload(&data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use testudo_protocol::Tensor;

    fn layout() -> Layout {
        Layout::new(vec![Tensor { name: "w".into(), shape: vec![1, 2] }, Tensor { name: "b".into(), shape: vec![1] }])
            .unwrap()
    }

    fn payload(update: Update) -> Vec<f32> {
        framing::coordinates(&update.pack(&layout(), &[Encoding::F32]).unwrap().payload).collect()
    }

    #[test]
    fn named_tensors_are_put_into_the_models_order() {
        let update = Update::tensors([("b", vec![1], vec![3.0]), ("w", vec![1, 2], vec![1.0, 2.0])]);
        let flat = Update::delta(vec![1.0, 2.0, 3.0]);
        assert_eq!(
            update.clone().pack(&layout(), &[Encoding::F32]).unwrap().digest,
            flat.pack(&layout(), &[Encoding::F32]).unwrap().digest
        );
        assert_eq!(payload(update.clone()), [1.0, 2.0, 3.0]);
        assert_eq!(payload(update.unchecked()), [3.0, 1.0, 2.0]);
    }

    #[test]
    fn an_update_that_does_not_fit_never_leaves() {
        let cases = [
            (Update::delta(vec![0.0; 2]), "2 coordinates"),
            (Update::delta(vec![0.0, f32::NAN, 0.0]), "\"w\" at position 1 is NaN"),
            (Update::delta(vec![0.0, 0.0, f32::INFINITY]), "\"b\" at position 0 is inf"),
            (Update::delta(vec![0.0; 3]).examples(0), "no examples"),
            (Update::tensors([("w", vec![1, 2], vec![0.0; 2])]), "\"b\" of the model is missing"),
            (Update::tensors([("w", vec![2], vec![0.0; 2]), ("b", vec![1], vec![0.0])]), "shape [2]"),
            (Update::tensors([("w", vec![1, 2], vec![0.0; 9]), ("b", vec![1], vec![0.0])]), "9 values"),
            (
                Update::tensors([("w", vec![1, 2], vec![0.0; 2]), ("b", vec![1], vec![0.0]), ("c", vec![], vec![])]),
                "\"c\" is not the model's",
            ),
        ];
        for (update, part) in cases {
            let error = update.pack(&layout(), &[Encoding::F32]).unwrap_err();
            assert!(matches!(error, Error::Update(_)) && error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn an_encoding_is_used_only_where_the_task_takes_it() {
        let update = Update::delta(vec![1.0, -3.0, 2.0]);
        let error = update.clone().encoded(Encoding::Int8).pack(&layout(), &[Encoding::F32]).unwrap_err();
        assert!(error.to_string().contains("takes no int8; it takes f32"), "{error}");
        let parcel = update.clone().encoded(Encoding::F16).pack(&layout(), &Encoding::ALL).unwrap();
        assert_eq!((parcel.payload.len(), parcel.encoding), (6, Encoding::F16));
        let parcel = update.top(1).pack(&layout(), &Encoding::ALL).unwrap();
        assert_eq!((parcel.payload.len(), parcel.encoding), (4 + 8, Encoding::Sparse));
    }

    #[test]
    fn under_noise_only_the_form_of_an_update_is_checked() {
        let noise = OwnNoise { clip_l2: 1.0, grid_bits: 16, sigma_grid: 1 << 16 };
        let pack = |update: Update| update.pack_noised(&layout(), &noise);
        let parcel = pack(Update::delta(vec![f32::NAN; 3]).examples(512)).unwrap();
        assert_eq!((parcel.examples, parcel.encoding, parcel.payload.len()), (1, Encoding::Noised, 12));
        assert!(framing::coordinates(&parcel.payload).all(f32::is_finite));
        for (update, part) in [
            (Update::delta(vec![0.0; 2]), "2 coordinates"),
            (Update::delta(vec![0.0; 3]).encoded(Encoding::F16), "no other encoding"),
            (Update::tensors([("w", vec![1, 2], vec![0.0; 2])]), "\"b\" of the model is missing"),
        ] {
            let error = pack(update).unwrap_err();
            assert!(matches!(error, Error::Update(_)) && error.to_string().contains(part), "{error}");
        }
        let hostile = pack(Update::delta(vec![7.0; 2]).unchecked()).unwrap();
        assert_eq!(framing::coordinates(&hostile.payload).collect::<Vec<_>>(), [7.0, 7.0]);
    }

    #[test]
    fn hostile_updates_go_out_as_they_are() {
        assert!(payload(Update::delta(vec![f32::NAN]).unchecked())[0].is_nan());
        assert_eq!(
            Update::delta(vec![0.0; 3]).examples_claim(-1).pack(&layout(), &[Encoding::F32]).unwrap().examples,
            -1
        );
        let digest = Digest([9; 32]);
        assert_eq!(
            Update::delta(vec![0.0; 3]).digest_claim(digest).pack(&layout(), &[Encoding::F32]).unwrap().digest,
            digest
        );
        let raw = Update::raw(vec![("x".into(), "F64".into(), vec![7])], vec![1, 2, 3])
            .pack(&layout(), &[Encoding::F32])
            .unwrap();
        assert_eq!((raw.tensors[0].dtype.as_str(), raw.payload.as_ref()), ("F64", &[1, 2, 3][..]));
    }
}
