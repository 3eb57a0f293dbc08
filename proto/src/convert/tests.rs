use super::*;
use proptest::prelude::*;

fn tensors() -> impl Strategy<Value = Vec<Tensor>> {
    proptest::collection::btree_map("[a-z.]{1,8}", proptest::collection::vec(1u64..6, 0..4), 1..6)
        .prop_map(|map| map.into_iter().map(|(name, shape)| Tensor { name, shape }).collect())
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Pending),
        Just(Verdict::Accepted),
        Just(Verdict::Dropout),
        (1u32..=1000).prop_map(|parts| Verdict::Clipped { factor: f64::from(parts) / 1000.0 }),
        (0u32..=1000).prop_map(|parts| Verdict::Trimmed { share: f64::from(parts) / 1000.0 }),
        proptest::sample::select(Reason::ALL).prop_map(|reason| Verdict::Rejected { reason }),
    ]
}

fn wire_tensor(name: &str, dtype: &str, shape: &[u64]) -> v1::Tensor {
    v1::Tensor { name: name.into(), dtype: dtype.into(), shape: shape.to_vec() }
}

proptest! {
    #[test]
    fn layouts_come_back_as_they_went(tensors in tensors()) {
        let layout = Layout::new(tensors).unwrap();
        let wire = layout_to_wire(&layout);
        prop_assert_eq!(check_layout(&wire, &layout), Ok(()));
        prop_assert_eq!(layout_from_wire(wire), Ok(layout));
    }

    #[test]
    fn verdicts_come_back_as_they_went(round in any::<u64>(), verdict in verdicts()) {
        let wire = round_verdict_to_wire(round, &verdict);
        prop_assert_eq!(round_verdict_from_wire(&wire), Ok((round, verdict)));
    }

    #[test]
    fn any_verdict_on_the_wire_is_read_or_refused(kind in ".{0,9}", reason in ".{0,9}", value in any::<f64>()) {
        let _ = verdict_from_wire(&v1::Verdict { kind, reason, value });
    }

    #[test]
    fn any_tensor_table_is_read_or_refused(
        names in proptest::collection::vec((".{0,4}", prop_oneof![Just("F32".to_owned()), ".{0,4}"],
            proptest::collection::vec(any::<u64>(), 0..10)), 0..6)
    ) {
        let tensors: Vec<_> = names.iter().map(|(name, dtype, shape)| wire_tensor(name, dtype, shape)).collect();
        let layout = Layout::new(vec![Tensor { name: "w".into(), shape: vec![2] }]).unwrap();
        let _ = check_layout(&tensors, &layout);
        let _ = layout_from_wire(tensors);
    }
}

#[test]
fn values_outside_their_range_are_malformed() {
    for (kind, value) in [
        ("clipped", 0.0),
        ("clipped", 1.5),
        ("clipped", f64::NAN),
        ("trimmed", -0.1),
        ("trimmed", f64::INFINITY),
        ("rejected", 0.0),
        ("", 0.0),
    ] {
        let wire = v1::Verdict { kind: kind.into(), reason: String::new(), value };
        assert_eq!(verdict_from_wire(&wire).unwrap_err().reason, Reason::Malformed, "{kind} {value}");
    }
}

#[test]
fn a_table_over_a_limit_says_which() {
    let cases = [
        (vec![wire_tensor("w", "F64", &[2])], Reason::WrongDtype, "F64"),
        (vec![wire_tensor("w", "F32", &[1; 9])], Reason::Oversize, "rank"),
        (vec![wire_tensor(&"n".repeat(257), "F32", &[1])], Reason::Oversize, "name"),
        (vec![wire_tensor("w", "F32", &[u64::MAX, 2])], Reason::Oversize, "model size"),
        (vec![wire_tensor("w", "F32", &[1]); limits::TENSORS + 1], Reason::Oversize, "number of tensors"),
        (vec![wire_tensor("w", "F32", &[1]); 2], Reason::WrongShape, "w"),
        (vec![], Reason::WrongShape, "no coordinates"),
    ];
    for (tensors, reason, part) in cases {
        let reject = layout_from_wire(tensors).unwrap_err();
        assert_eq!(reject.reason, reason, "{reject}");
        assert!(reject.detail.contains(part), "{reject}");
    }
}

#[test]
fn a_table_that_differs_from_the_layout_says_where() {
    let layout =
        Layout::new(vec![Tensor { name: "a".into(), shape: vec![2] }, Tensor { name: "b".into(), shape: vec![3] }])
            .unwrap();
    let a = wire_tensor("a", "F32", &[2]);
    let b = wire_tensor("b", "F32", &[3]);
    let cases = [
        (vec![a.clone()], Reason::WrongShape, "1 tensors"),
        (vec![b.clone(), a.clone()], Reason::WrongShape, "order"),
        (vec![a.clone(), wire_tensor("b", "F16", &[3])], Reason::WrongDtype, "F16"),
        (vec![a.clone(), wire_tensor("b", "F32", &[3, 1])], Reason::WrongShape, "[3, 1]"),
    ];
    for (tensors, reason, part) in cases {
        let reject = check_layout(&tensors, &layout).unwrap_err();
        assert_eq!(reject.reason, reason, "{reject}");
        assert!(reject.detail.contains(part), "{reject}");
    }
    assert_eq!(check_layout(&[a, b], &layout), Ok(()));
}

#[test]
fn a_digest_of_another_length_is_malformed_and_named() {
    let reject = digest_from_wire(&[0; 31], "model_digest").unwrap_err();
    assert_eq!(reject.reason, Reason::Malformed);
    assert!(reject.detail.contains("model_digest") && reject.detail.contains("31"), "{reject}");
    assert_eq!(digest_from_wire(&[7; 32], "digest"), Ok(Digest([7; 32])));
}
