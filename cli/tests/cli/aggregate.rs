//! `testudo aggregate`: golden numbers, formats, and files that lie.

use crate::common::{expect, json, text};
use ndarray::{Array1, Array2, ShapeBuilder as _};
use ndarray_npy::{read_npy, write_npy};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::Value;
use std::{fs, path::PathBuf};
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    fn array(&self, rows: &[&[f64]]) -> PathBuf {
        let array = Array2::from_shape_fn((rows.len(), rows[0].len()), |(row, column)| rows[row][column]);
        write_npy(self.path("updates.npy"), &array).unwrap();
        self.path("updates.npy")
    }
}

/// A .npy file with any header text and any data.
fn npy(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(vec![0; data]);
    bytes
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// The rule a vector names, in the command line's words.
fn rule_of(expect: &Value) -> Option<String> {
    let params = &expect["params"];
    let f = &params["f"];
    Some(match expect["rule"].as_str()? {
        "mean" => "mean".into(),
        "median" => "median".into(),
        "trimmed_mean" => format!(r#"kind = "trimmed_mean"\nbyzantine = {f}"#),
        "krum" => format!(r#"kind = "krum"\nbyzantine = {f}"#),
        "multikrum" => format!(r#"kind = "multi_krum"; byzantine = {f}; select = {}"#, params["m"]),
        _ => return None,
    })
}

#[test]
fn golden_numbers_come_out_of_the_file() {
    let text_of_vectors = include_str!("../../../crates/aggregate/vectors/rules.json");
    let document: Value = serde_json::from_str(text_of_vectors).unwrap();
    let folder = Folder::new();
    let mut compared = std::collections::BTreeMap::new();
    for case in document["cases"].as_array().unwrap() {
        let rows: Vec<Vec<f64>> = case["input"].as_array().unwrap().iter().map(numbers).collect();
        let updates = folder.array(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let scale = case["scale"].as_f64().unwrap();
        for entry in case["expect"].as_array().unwrap() {
            let Some(rule) = rule_of(entry) else { continue };
            let usable = entry["out"].is_array() && entry["ambiguous"] != true && entry["ill_conditioned"] != true;
            let times: &mut u32 = compared.entry(entry["rule"].to_string()).or_default();
            if !usable || *times >= 8 {
                continue;
            }
            *times += 1;
            let out = folder.path("out.npy");
            let words = ["aggregate", "--rule", &rule, "--updates", text(&updates), "--out", text(&out)];
            let object = json(0, &words);
            let result: Array1<f64> = read_npy(&out).unwrap();
            let tolerance = entry["tol"].as_f64().unwrap_or(0.0);
            for (found, wanted) in result.iter().zip(numbers(&entry["out"])) {
                let allowed = tolerance + 1e-11 * scale + 1e-11 * wanted.abs();
                assert!((found - wanted).abs() <= allowed, "{} {rule}: {found} {wanted}", case["id"]);
            }
            if let Some(select) = entry["select"].as_array() {
                assert_eq!(object["selected"].as_array().unwrap(), select, "{} {rule}", case["id"]);
            }
        }
    }
    assert_eq!(compared.len(), 5, "{compared:?}");
    assert!(compared.values().all(|times| *times == 8), "{compared:?}");
}

#[test]
fn the_object_has_the_promised_fields() {
    let folder = Folder::new();
    let updates = folder.array(&[&[1.0, 1.0], &[1.1, 1.0], &[0.9, 1.0], &[1.0, 1.1], &[50.0, -50.0]]);
    let rule = r#"kind = "krum"\nbyzantine = 1"#;
    let object =
        json(0, &["aggregate", "--rule", rule, "--updates", text(&updates), "--repeat", "3", "--threads", "1"]);
    assert_eq!((&object["rule"], &object["n"], &object["d"]), (&"krum".into(), &5.into(), &2.into()));
    assert_eq!(numbers(&object["seconds"]).len(), 3);
    assert!(numbers(&object["seconds"]).iter().all(|seconds| *seconds > 0.0));
    let verdicts = object["verdicts"].as_array().unwrap();
    assert_eq!(verdicts.iter().filter(|verdict| *verdict == "accepted").count(), 1);
    assert_eq!(verdicts[4], "rejected: not_selected");
    assert_eq!(numbers(&object["weights"]).iter().sum::<f64>(), 1.0);
    assert_eq!(numbers(&object["scores"]).len(), 5);
    assert_eq!((&object["byzantine_used"], &object["threads"]), (&1.into(), &1.into()));

    let object = json(0, &["aggregate", "--rule", "trimmed_mean", "--byzantine", "1", "--updates", text(&updates)]);
    assert_eq!((&object["verdicts"][4], &object["values"][4]), (&"trimmed".into(), &1.0.into()));
    assert!(object["weights"].is_null());
    let (stdout, _) = expect(0, &["aggregate", "--rule", "median", "--updates", text(&updates)]);
    assert!(
        stdout.starts_with("median (byzantine = 0) on 5 rows of 2 coordinates") && stdout.contains("seconds on"),
        "{stdout}"
    );
}

#[test]
fn the_number_of_threads_cannot_be_seen_in_the_result() {
    let folder = Folder::new();
    let array = Array2::from_shape_fn((9, 20_000), |(row, column)| ((row * 7919 + column * 104_729) as f32).sin());
    write_npy(folder.path("u.npy"), &array).unwrap();
    let (updates, one, four) = (folder.path("u.npy"), folder.path("1.npy"), folder.path("4.npy"));
    for rule in ["mean", r#"kind = "trimmed_mean"; byzantine = 2"#, r#"kind = "multi_krum"; byzantine = 2"#] {
        for (threads, out) in [("1", &one), ("4", &four)] {
            let words =
                ["aggregate", "--rule", rule, "--updates", text(&updates), "--threads", threads, "--out", text(out)];
            expect(0, &words);
        }
        assert_eq!(fs::read(&one).unwrap(), fs::read(&four).unwrap(), "{rule}");
        assert_eq!(read_npy::<_, Array1<f32>>(&one).unwrap().len(), 20_000, "the type of the updates is kept");
    }
}

#[test]
fn rows_that_are_not_finite_are_rejected_alone_and_lower_byzantine_only_as_far_as_needed() {
    let folder = Folder::new();
    let rows: &[&[f64]] = &[&[1.0], &[f64::NAN], &[2.0], &[f64::INFINITY], &[3.0], &[4.0], &[5.0], &[6.0]];
    let updates = folder.array(rows);
    for (kind, used) in [("trimmed_mean", 2), ("krum", 1)] {
        let object = json(0, &["aggregate", "--rule", kind, "--byzantine", "2", "--updates", text(&updates)]);
        assert_eq!((&object["n"], &object["n_used"]), (&8.into(), &6.into()));
        assert_eq!((&object["byzantine"], &object["byzantine_used"]), (&2.into(), &used.into()), "{kind}");
        assert_eq!(object["verdicts"][1], "rejected: non_finite");
        assert_eq!(object["verdicts"][3], "rejected: non_finite");
        assert!(object["selected"].as_array().unwrap().iter().all(|row| row != 1 && row != 3));
    }
    let object = json(0, &["aggregate", "--rule", "mean", "--updates", text(&updates)]);
    assert_eq!((&object["weights"][1], &object["norm"]), (&0.0.into(), &3.5.into()));
    let nothing = folder.array(&[&[f64::NAN], &[f64::NAN]]);
    let (_, stderr) = expect(3, &["aggregate", "--rule", "mean", "--updates", text(&nothing)]);
    assert!(stderr.contains("2 of 2 rows are not finite"), "{stderr}");
}

#[test]
fn a_rule_that_needs_more_rows_is_refused_and_says_how_many() {
    let folder = Folder::new();
    let updates = folder.array(&[&[1.0], &[2.0], &[3.0], &[4.0]]);
    let (_, stderr) = expect(3, &["aggregate", "--rule", "krum", "--byzantine", "1", "--updates", text(&updates)]);
    assert!(stderr.contains("at least 5 rows") && stderr.contains("at most 0"), "{stderr}");
    for (rule, part) in [
        ("krumm", "krum, multi_krum"),
        ("krum", "byzantine"),
        (r#"kind = "krum"; byzantine = 1; x = 2"#, "unknown key"),
    ] {
        let (stdout, stderr) = expect(3, &["aggregate", "--rule", rule, "--updates", text(&updates)]);
        assert!(stdout.is_empty() && stderr.contains(part), "{stderr}");
    }
    assert_eq!(json(3, &["aggregate", "--rule", "krumm", "--updates", text(&updates)])["error"]["code"], "CONFIG");
}

#[test]
fn weights_count_where_the_rule_uses_them_and_are_refused_elsewhere() {
    let folder = Folder::new();
    let updates = folder.array(&[&[1.0], &[5.0], &[f64::NAN]]);
    let weights = folder.path("w.npy");
    write_npy(&weights, &Array1::from(vec![3i64, 1, 100])).unwrap();
    let object = json(0, &["aggregate", "--rule", "mean", "--updates", text(&updates), "--weights", text(&weights)]);
    assert_eq!(numbers(&object["weights"]), [0.75, 0.25, 0.0]);
    assert_eq!(object["norm"], 2.0);
    let (_, stderr) =
        expect(3, &["aggregate", "--rule", "foolsgold", "--updates", text(&updates), "--weights", text(&weights)]);
    assert!(stderr.contains("does not use weights"), "{stderr}");
    let object = json(0, &["aggregate", "--rule", "median", "--updates", text(&updates), "--weights", text(&weights)]);
    assert_eq!(object["norm"], 1.0, "three quarters of the weight");
    write_npy(&weights, &Array1::from(vec![1.0, -1.0, 1.0])).unwrap();
    let (_, stderr) =
        expect(3, &["aggregate", "--rule", "mean", "--updates", text(&updates), "--weights", text(&weights)]);
    assert!(stderr.contains("at least 0"), "{stderr}");
    write_npy(&weights, &Array1::from(vec![1.0f32])).unwrap();
    let (_, stderr) =
        expect(2, &["aggregate", "--rule", "mean", "--updates", text(&updates), "--weights", text(&weights)]);
    assert!(stderr.contains("must be (3,)"), "{stderr}");
}

#[test]
fn updates_that_stay_in_their_file_give_the_same_bytes() {
    let folder = Folder::new();
    let array = Array2::from_shape_fn((9, 10_000), |(row, at)| ((row * 31 + at * 17) % 101) as f32 - 50.0);
    write_npy(folder.path("updates.npy"), &array).unwrap();
    let updates = folder.path("updates.npy");
    for rule in ["trimmed_mean", "krum", "geometric_median"] {
        let (inside, outside) = (folder.path("in.npy"), folder.path("out.npy"));
        let words = ["aggregate", "--rule", rule, "--byzantine", "2", "--pre", "arc,nnm", "--updates", text(&updates)];
        let first = json(0, &[&words[..], &["--out", text(&inside)]].concat());
        let second = json(0, &[&words[..], &["--out", text(&outside), "--out-of-core"]].concat());
        assert_eq!(fs::read(&inside).unwrap(), fs::read(&outside).unwrap(), "{rule}");
        assert_eq!((&first["verdicts"], &first["notes"]), (&second["verdicts"], &second["notes"]), "{rule}");
    }
    let columns = Array2::<f64>::zeros((3, 4).f());
    write_npy(folder.path("f.npy"), &columns).unwrap();
    let file = folder.path("f.npy");
    let (_, stderr) = expect(2, &["aggregate", "--rule", "median", "--updates", text(&file), "--out-of-core"]);
    assert!(stderr.contains("C order"), "{stderr}");
}

#[test]
fn extra_rows_are_asked_for_by_flag_and_refused_where_they_have_no_effect() {
    let folder = Folder::new();
    let updates = folder.array(&[&[1.0, 0.0], &[3.0, 0.0], &[-9.0, 0.0]]);
    let reference = folder.path("g.npy");
    write_npy(&reference, &Array2::from_shape_vec((1, 2), vec![2.0, 0.0]).unwrap()).unwrap();
    let words = ["aggregate", "--rule", "fltrust", "--updates", text(&updates)];
    let (_, stderr) = expect(2, &words);
    assert!(stderr.contains("needs --reference"), "{stderr}");
    let object = json(0, &[&words[..], &["--reference", text(&reference)]].concat());
    assert_eq!((numbers(&object["scores"]), &object["norm"]), (vec![1.0, 1.0, 0.0], &Value::from(2.0)));
    let other = ["aggregate", "--rule", "median", "--updates", text(&updates), "--reference", text(&reference)];
    let (_, stderr) = expect(2, &other);
    assert!(stderr.contains("--reference has no effect"), "{stderr}");
    let object =
        json(0, &["aggregate", "--rule", r#"kind = "centered_clipping"; radius = 1"#, "--updates", text(&updates)]);
    assert_eq!(object["norm"], 1.0 / 3.0);
}

#[test]
fn rules_are_listed_explained_and_held_against_numbers() {
    let all = json(0, &["rules"]);
    let kinds = |key: &str| all[key].as_array().unwrap().len();
    assert_eq!((kinds("rules"), kinds("pre")), (22, 4));
    let krum = json(0, &["rules", "krum"]);
    for key in ["formula", "range", "breakdown", "bound", "cost", "source", "fails", "parameters"] {
        assert!(!krum[key].is_null(), "{key}");
    }
    let few = json(0, &["rules", "--rows", "7", "--byzantine", "2"]);
    let valid = |kind: &str| few["rules"].as_array().unwrap().iter().any(|rule| rule["kind"] == kind);
    assert!(valid("krum") && !valid("bulyan"));
    let (_, stderr) = expect(6, &["rules", "krumm"]);
    assert!(stderr.contains("did you mean krum?"), "{stderr}");
}

#[test]
fn safetensors_rows_go_by_name_and_fortran_order_is_understood() {
    let folder = Folder::new();
    let bytes = |values: [f32; 2]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let (zoe, amy) = (bytes([1.0, 10.0]), bytes([3.0, 30.0]));
    let view = |bytes| TensorView::new(Dtype::F32, vec![2], bytes).unwrap();
    let file = safetensors::serialize([("zoe", view(&zoe)), ("amy", view(&amy))], None).unwrap();
    let (updates, out) = (folder.file("u.safetensors", &file), folder.path("out.npy"));
    let object = json(0, &["aggregate", "--rule", "mean", "--updates", text(&updates), "--out", text(&out)]);
    assert_eq!(object["names"], serde_json::json!(["amy", "zoe"]));
    assert_eq!(read_npy::<_, Array1<f32>>(&out).unwrap().to_vec(), [2.0, 20.0]);

    let fortran = Array2::from_shape_vec((2, 3).f(), vec![1.0f64, 3.0, 10.0, 30.0, 5.0, 7.0]).unwrap();
    write_npy(folder.path("f.npy"), &fortran).unwrap();
    expect(0, &["aggregate", "--rule", "mean", "--updates", text(&folder.path("f.npy")), "--out", text(&out)]);
    assert_eq!(read_npy::<_, Array1<f64>>(&out).unwrap().to_vec(), [2.0, 20.0, 6.0]);
}

#[test]
fn files_that_are_not_updates_are_refused_in_words_before_anything_is_allocated() {
    let folder = Folder::new();
    let header =
        |descr: &str, shape: &str| format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let tensors = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(vec![0; data]);
        bytes
    };
    let two = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (Vec::new(), "shorter"),
        (b"\x93NUMPY".to_vec(), "ends within"),
        (npy(&header("<f4", "(3, 4)"), 47), "truncated"),
        (npy(&header("<f4", "(3, 4)"), 49), "longer"),
        (npy(&header("<f4", "(1000000, 1000000000)"), 8), "limit"),
        (npy(&header("<f4", "(100, 1000000000000)"), 8), "truncated"),
        (npy(&header("<f8", "(4, 9223372036854775807)"), 8), "impossible"),
        (npy(&header("<f4", "(4,)"), 16), "(1, -1)"),
        (npy(&header("<f4", "(1, 2, 2)"), 16), "two axes"),
        (npy(&header("<f4", "(0, 4)"), 0), "empty"),
        (npy(&header("<f4", "(4, 0)"), 0), "empty"),
        (npy(&header("<i8", "(1, 1)"), 8), "neither float32"),
        (npy(&header("|O", "(1, 1)"), 8), "neither float32"),
        (npy(&header(">f4", "(1, 1)"), 4), "big-endian"),
        (npy(&header("\u{1b}[31m", "(1, 1)"), 4), "neither"),
        (npy(&format!("{{'descr': '<f4', 'shape': {}", "(".repeat(9000)), 0), "whole numbers"),
        (u64::MAX.to_le_bytes().to_vec(), "only 0 are possible"),
        (tensors("{", 0), "EOF"),
        (tensors("{}", 0), "no tensors"),
        (tensors(two, 12), "rows must be alike"),
        (tensors(two, 11), "12 bytes of data"),
        (tensors(r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#, 4), "F16"),
        (tensors(r#"{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#, 0), "empty"),
        (tensors(r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}}"#, 4), ""),
        (tensors(&format!("{{\"a\":{}", "[".repeat(100_000)), 0), "recursion"),
    ];
    for (bytes, part) in cases {
        let updates = folder.file("bad", &bytes);
        let (stdout, stderr) = expect(2, &["aggregate", "--rule", "mean", "--updates", text(&updates)]);
        assert!(stdout.is_empty() && stderr.contains(part), "{part}: {stderr}");
        assert!(stderr.contains("cannot use") && stderr.contains("next: save"), "{stderr}");
        assert!(!stderr.contains('\u{1b}'), "{stderr:?}");
    }
    expect(6, &["aggregate", "--rule", "mean", "--updates", text(&folder.path("none.npy"))]);
    expect(2, &["aggregate", "--rule", "mean", "--updates", text(folder.0.path())]);
    let good = folder.array(&[&[1.0]]);
    expect(2, &["aggregate", "--rule", "mean", "--updates", text(&good), "--threads", "0"]);
    expect(2, &["aggregate", "--rule", "mean", "--updates", text(&good), "--repeat", "0"]);
    expect(
        6,
        &["aggregate", "--rule", "mean", "--updates", text(&good), "--out", text(&folder.path("no/such/out.npy"))],
    );
}
