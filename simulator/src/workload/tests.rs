use super::*;
use crate::data::digits;
use crate::random::{Purpose, stream};
use serde_json::Value;

fn kinds() -> [(WorkloadConfig, usize); 4] {
    [
        (WorkloadConfig::Softmax {}, 650),
        (WorkloadConfig::parse("mlp").unwrap(), 4_810),
        (WorkloadConfig::parse("mlp:7,5").unwrap(), 64 * 7 + 7 + 7 * 5 + 5 + 5 * 10 + 10),
        (WorkloadConfig::parse("mlp:3").unwrap(), 64 * 3 + 3 + 3 * 10 + 10),
    ]
}

#[test]
fn tensors_tile_the_flat_vector_and_have_the_documented_names() {
    for (config, dimension) in kinds() {
        let workload = config.build::<f32>(64, 10).unwrap();
        assert_eq!(workload.dimension(), dimension);
        let mut next = 0;
        for tensor in workload.tensors() {
            assert_eq!(tensor.offset, next);
            next += tensor.coordinates();
        }
        assert_eq!(next, dimension);
    }
    let names = |config: &str| -> Vec<(String, Vec<usize>)> {
        let workload = WorkloadConfig::parse(config).unwrap().build::<f32>(64, 10).unwrap();
        workload.tensors().into_iter().map(|tensor| (tensor.name, tensor.shape)).collect()
    };
    assert_eq!(names("softmax"), [("weight".into(), vec![64, 10]), ("bias".into(), vec![10])]);
    let expected: [(String, Vec<usize>); 4] = [
        ("layer1.weight".into(), vec![64, 64]),
        ("layer1.bias".into(), vec![64]),
        ("layer2.weight".into(), vec![64, 10]),
        ("layer2.bias".into(), vec![10]),
    ];
    assert_eq!(names("mlp"), expected);
}

#[test]
fn initial_parameters_are_zero_for_softmax_and_within_an_eighth_for_the_mlp() {
    let softmax = Softmax::new(64, 10);
    assert!(Workload::<f32>::initial(&softmax, 1).iter().all(|value| *value == 0.0));
    let mlp = Mlp::new(64, &[64], 10);
    let first: Vec<f32> = mlp.initial(1);
    assert!(first.iter().all(|value| value.abs() <= 0.125));
    assert!(first.iter().any(|value| *value > 0.12) && first.iter().any(|value| *value < -0.12));
    assert_eq!(first, Workload::<f32>::initial(&mlp, 1));
    assert_ne!(first, Workload::<f32>::initial(&mlp, 2));
}

#[test]
fn the_gradient_equals_the_numeric_difference() {
    let data = digits::load();
    let rows = [3, 500, 77, 1_200, 9, 10, 11];
    for (config, dimension) in kinds() {
        let workload = config.build::<f64>(64, 10).unwrap();
        let mut random = stream(3, Purpose::Noise, 0, 0);
        let parameters: Vec<f64> = (0..dimension).map(|_| 0.3 * random.normal()).collect();
        let mut gradient = vec![0.0; dimension];
        let mut unused = vec![0.0; dimension];
        let mut scratch = Scratch::default();
        let loss = workload.loss_and_gradient(&parameters, &data, &rows, &mut gradient, &mut scratch);
        assert!((workload.evaluate(&parameters, &data.subset(&rows)).loss - loss).abs() < 1e-12);
        for coordinate in (0..dimension).step_by(dimension / 90) {
            let mut difference = [0.0; 2];
            for (side, step) in difference.iter_mut().zip([1e-6, -1e-6]) {
                let mut moved = parameters.clone();
                moved[coordinate] += step;
                *side = workload.loss_and_gradient(&moved, &data, &rows, &mut unused, &mut scratch);
            }
            let numeric = (difference[0] - difference[1]) / 2e-6;
            assert!(
                (numeric - gradient[coordinate]).abs() < 1e-8,
                "{config:?} {coordinate}: {numeric} {}",
                gradient[coordinate]
            );
        }
    }
}

#[test]
fn single_precision_follows_double_precision() {
    let data = digits::load();
    let rows: Vec<usize> = (0..32).collect();
    let mlp = Mlp::new(64, &[64], 10);
    let single: Vec<f32> = mlp.initial(4);
    let double: Vec<f64> = single.iter().map(|value| f64::from(*value)).collect();
    let (mut first, mut second) = (vec![0.0_f32; single.len()], vec![0.0_f64; single.len()]);
    mlp.loss_and_gradient(&single, &data, &rows, &mut first, &mut Scratch::default());
    mlp.loss_and_gradient(&double, &data, &rows, &mut second, &mut Scratch::default());
    for (a, b) in first.iter().zip(&second) {
        assert!((f64::from(*a) - b).abs() < 1e-6, "{a} {b}");
    }
}

#[test]
fn local_training_is_gradient_descent_over_shuffled_batches_and_returns_the_difference() {
    let data = digits::load().subset(&(0..37).collect::<Vec<_>>());
    let mlp = Mlp::new(64, &[8], 10);
    let before: Vec<f64> = mlp.initial(2);
    let training = LocalTraining { epochs: 2, batch: 16, learning_rate: 0.1 };
    let delta = mlp.local_sgd(&before, &data, &training, &mut stream(5, Purpose::Batch, 1, 2));
    let mut expected = before.clone();
    let mut gradient = vec![0.0; before.len()];
    let mut random = stream(5, Purpose::Batch, 1, 2);
    let mut rows: Vec<usize> = (0..37).collect();
    for _ in 0..2 {
        random.shuffle(&mut rows);
        for batch in [&rows[..16], &rows[16..32], &rows[32..]] {
            mlp.loss_and_gradient(&expected, &data, batch, &mut gradient, &mut Scratch::default());
            expected.iter_mut().zip(&gradient).for_each(|(value, slope)| *value -= 0.1 * slope);
        }
    }
    for ((delta, before), after) in delta.iter().zip(&before).zip(&expected) {
        assert_eq!(*delta, after - before);
    }
}

#[test]
fn a_client_without_data_sends_zeros_and_an_empty_batch_has_no_gradient() {
    let empty = digits::load().subset(&[]);
    let mlp = Mlp::new(64, &[8], 10);
    let parameters: Vec<f32> = mlp.initial(2);
    let delta = mlp.local_sgd(&parameters, &empty, &LocalTraining::default(), &mut stream(1, Purpose::Batch, 0, 0));
    assert!(delta.iter().all(|value| *value == 0.0));
    assert_eq!(mlp.evaluate(&parameters, &empty), Evaluation { accuracy: 0.0, loss: 0.0 });
}

#[test]
fn a_destroyed_model_guesses_and_shows_it_in_its_loss() {
    let data = digits::load();
    for value in [f32::NAN, f32::INFINITY] {
        let mlp = Mlp::new(64, &[8], 10);
        let evaluation = mlp.evaluate(&vec![value; Workload::<f32>::dimension(&mlp)], &data);
        assert!((evaluation.accuracy - 0.1).abs() < 1e-12, "{evaluation:?}");
        assert!(!evaluation.loss.is_finite());
    }
}

#[test]
fn both_workloads_learn_the_digits() {
    let (train, test) = crate::data::Split::stratified(&digits::load(), 360, 1).unwrap().apply(&digits::load());
    for (config, least) in [("softmax", 0.90), ("mlp", 0.93)] {
        let workload = WorkloadConfig::parse(config).unwrap().build::<f32>(64, 10).unwrap();
        let mut parameters = workload.initial(1);
        let training = LocalTraining { epochs: 20, ..LocalTraining::default() };
        let delta = workload.local_sgd(&parameters, &train, &training, &mut stream(1, Purpose::Batch, 0, 0));
        parameters.iter_mut().zip(&delta).for_each(|(value, delta)| *value += delta);
        let accuracy = workload.accuracy(&parameters, &test);
        assert!(accuracy > least, "{config}: {accuracy}");
    }
}

#[test]
fn what_cannot_be_built_or_parsed_is_refused() {
    for text in ["", "cnn", "mlp:", "mlp:a", "softmax:3", "mlp:-1"] {
        assert!(WorkloadConfig::parse(text).unwrap_err().to_string().contains("use softmax, mlp"), "{text}");
    }
    for hidden in [vec![0], vec![usize::MAX], vec![1 << 20, 1 << 20]] {
        let error = WorkloadConfig::Mlp { hidden }.build::<f32>(64, 10).unwrap_err().to_string();
        assert!(error.contains("layer widths"), "{error}");
    }
    assert!(WorkloadConfig::Softmax {}.build::<f32>(0, 10).is_err());
    let parsed: WorkloadConfig = serde_json::from_str(r#"{"kind":"mlp"}"#).unwrap();
    assert_eq!(parsed, WorkloadConfig::Mlp { hidden: vec![64] });
    assert!(serde_json::from_str::<WorkloadConfig>(r#"{"kind":"softmax","hidden":[3]}"#).is_err());
}

/// The deterministic trajectories of `vectors/trajectories.json`, whose `definition` says how they were made.
#[test]
fn full_batch_trajectories_match_the_reference_to_nine_digits() {
    let file: Value = serde_json::from_str(include_str!("../../vectors/trajectories.json")).unwrap();
    // Those that need no more than a mean, a median or a trimmed mean; `tests/attacks` follows all of them.
    let plain = |entry: &&Value| {
        ["mean", "median", "trimmed_mean"].contains(&entry["rule"].as_str().unwrap())
            && !["mimic_0", "label_flip_mean"].contains(&entry["attack"].as_str().unwrap())
    };
    let entries: Vec<&Value> = file["trajectories"].as_array().unwrap().iter().filter(plain).collect();
    assert_eq!(entries.len(), 16);
    for entry in entries {
        follow(entry);
    }
}

fn follow(entry: &Value) {
    let data = digits::load();
    let train = data.subset(&(0..1_437).collect::<Vec<_>>());
    let test = data.subset(&(1_437..1_797).collect::<Vec<_>>());
    let honest = entry["honest"].as_u64().unwrap() as usize;
    let parts = reference_partition(entry["partition"].as_str().unwrap(), &train, honest);
    let softmax = Softmax::new(64, 10);
    let mut parameters: Vec<f64> = softmax.initial(0);
    let mut scratch = Scratch::default();
    let mut curve = entry["curve"].as_array().unwrap().iter();
    let mut checkpoint = curve.next();
    for round in 1..=entry["rounds"].as_u64().unwrap() {
        let mut rows: Vec<Vec<f64>> = Vec::new();
        for part in &parts {
            let mut gradient = vec![0.0; parameters.len()];
            softmax.loss_and_gradient(&parameters, &train, part, &mut gradient, &mut scratch);
            rows.push(gradient);
        }
        let forged = reference_attack(entry["attack"].as_str().unwrap(), &rows);
        rows.resize_with(20, || forged.clone());
        let aggregate = reference_rule(entry["rule"].as_str().unwrap(), &rows);
        parameters.iter_mut().zip(&aggregate).for_each(|(value, slope)| *value -= slope);
        let Some(expected) = checkpoint.filter(|point| point["round"] == round) else { continue };
        let evaluation = softmax.evaluate(&parameters, &test);
        let norm = parameters.iter().map(|value| value * value).sum::<f64>().sqrt();
        assert!((norm / expected["norm"].as_f64().unwrap() - 1.0).abs() < 1e-9, "{entry} {norm}");
        assert!((evaluation.loss / expected["loss"].as_f64().unwrap() - 1.0).abs() < 1e-9, "{entry} {evaluation:?}");
        assert!((evaluation.accuracy - expected["acc"].as_f64().unwrap()).abs() < 1e-12, "{entry} {evaluation:?}");
        checkpoint = curve.next();
    }
    assert!(checkpoint.is_none());
    let norm = parameters.iter().map(|value| value * value).sum::<f64>().sqrt();
    for (field, from) in [("theta_head", 200), ("theta_bias", 640)] {
        for (offset, expected) in entry[field].as_array().unwrap().iter().enumerate() {
            assert!((parameters[from + offset] - expected.as_f64().unwrap()).abs() < 1e-9 * norm);
        }
    }
}

fn reference_partition(kind: &str, train: &Dataset, honest: usize) -> Vec<Vec<usize>> {
    if kind == "mod" {
        return (0..honest).map(|client| (client..train.len()).step_by(honest).collect()).collect();
    }
    let mut rows: Vec<usize> = (0..train.len()).collect();
    rows.sort_by_key(|&row| train.label(row));
    let (size, larger) = (train.len() / honest, train.len() % honest);
    let mut from = 0;
    (0..honest)
        .map(|client| {
            let to = from + size + usize::from(client < larger);
            let part = rows[from..to].to_vec();
            from = to;
            part
        })
        .collect()
}

fn column(rows: &[Vec<f64>], coordinate: usize) -> Vec<f64> {
    rows.iter().map(|row| row[coordinate]).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn reference_attack(kind: &str, honest: &[Vec<f64>]) -> Vec<f64> {
    (0..honest[0].len())
        .map(|coordinate| {
            let values = column(honest, coordinate);
            let mu = mean(&values);
            let squares: f64 = values.iter().map(|value| (value - mu) * (value - mu)).sum();
            match kind {
                "none" => 0.0,
                "sign_flip_mean" => -mu,
                "ipm_2" => -2.0 * mu,
                "scale_-10" => -10.0 * mu,
                "alie_minus_1.5" => mu - 1.5 * (squares / (values.len() - 1) as f64).sqrt(),
                other => panic!("unknown attack {other}"),
            }
        })
        .collect()
}

fn reference_rule(kind: &str, rows: &[Vec<f64>]) -> Vec<f64> {
    (0..rows[0].len())
        .map(|coordinate| {
            let mut values = column(rows, coordinate);
            values.sort_by(f64::total_cmp);
            match kind {
                "mean" => mean(&values),
                "median" => (values[9] + values[10]) / 2.0,
                "trimmed_mean" => mean(&values[4..16]),
                other => panic!("unknown rule {other}"),
            }
        })
        .collect()
}
