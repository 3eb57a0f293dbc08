use super::*;

fn from_toml(text: &str) -> Result<OptimizerConfig, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

/// Algorithm 2 of Reddi et al. 2021 written out for one coordinate.
fn reference(kind: &str, deltas: &[f64], start: f64) -> Vec<f64> {
    let (eta, beta1, beta2, tau, momentum): (f64, f64, f64, f64, f64) = (0.1, 0.9, 0.99, 0.01, 0.8);
    let (mut x, mut m, mut v) = (start, 0.0, if kind == "fedavgm" { 0.0 } else { tau * tau });
    let mut path = Vec::new();
    for &delta in deltas {
        match kind {
            "fedavg" => x += eta * delta,
            "fedavgm" => {
                v = momentum * v + delta;
                x += eta * v;
            }
            _ => {
                m = beta1 * m + (1.0 - beta1) * delta;
                let square = delta * delta;
                v = match kind {
                    "fedadagrad" => v + square,
                    "fedadam" => beta2 * v + (1.0 - beta2) * square,
                    _ if v > square => v - (1.0 - beta2) * square,
                    _ if v < square => v + (1.0 - beta2) * square,
                    _ => v,
                };
                x += eta * m / (v.sqrt() + tau);
            }
        }
        path.push(x);
    }
    path
}

fn configured(kind: &str) -> OptimizerConfig {
    let keys = match kind {
        "fedavg" => "",
        "fedavgm" => "momentum = 0.8",
        "fedadagrad" => "beta1 = 0.9\ntau = 0.01",
        _ => "beta1 = 0.9\nbeta2 = 0.99\ntau = 0.01",
    };
    from_toml(&format!("kind = \"{kind}\"\nlearning_rate = 0.1\n{keys}")).unwrap()
}

fn initial_state(config: &OptimizerConfig, dimension: usize) -> Vec<Vec<f64>> {
    (0..config.state_vectors()).map(|index| vec![config.initial_state(index); dimension]).collect()
}

#[test]
fn every_optimizer_follows_the_algorithm_written_out() {
    let deltas = [0.5, -0.25, 0.0, 3.0, -0.01, 0.01, -2.0];
    for kind in KINDS {
        let config = configured(kind);
        assert_eq!(config.kind(), *kind);
        let mut params = [0.7_f64];
        let mut state = initial_state(&config, 1);
        for (delta, expected) in deltas.iter().zip(reference(kind, &deltas, 0.7)) {
            let mut slices: Vec<&mut [f64]> = state.iter_mut().map(Vec::as_mut_slice).collect();
            config.apply_unit(&mut params, &[*delta], &mut slices).unwrap();
            assert!((params[0] - expected).abs() <= 1e-13, "{kind}: {} {expected}", params[0]);
        }
    }
}

#[test]
fn stepping_unit_by_unit_gives_the_bits_of_the_whole_vector() {
    let delta: Vec<f32> = (0..1000).map(|c| ((c * 37 % 101) as f32 - 50.0) / 7.0).collect();
    for kind in KINDS {
        let config = configured(kind);
        let run = |step: usize| {
            let mut params = vec![0.5_f32; 1000];
            let mut state: Vec<Vec<f32>> =
                (0..config.state_vectors()).map(|index| vec![config.initial_state(index) as f32; 1000]).collect();
            for _round in 0..3 {
                for start in (0..1000).step_by(step) {
                    let range = start..1000.min(start + step);
                    let mut slices: Vec<&mut [f32]> =
                        state.iter_mut().map(|vector| &mut vector[range.clone()]).collect();
                    config.apply_unit(&mut params[range.clone()], &delta[range.clone()], &mut slices).unwrap();
                }
            }
            params
        };
        assert_eq!(run(1000), run(64), "{kind}");
    }
}

#[test]
fn extreme_deltas_saturate_and_never_yield_nan() {
    for kind in KINDS {
        let config = configured(kind);
        let mut params = [0.0_f32, 0.0, f32::MAX];
        let mut state: Vec<Vec<f32>> =
            (0..config.state_vectors()).map(|index| vec![config.initial_state(index) as f32; 3]).collect();
        let mut wide = [0.0_f64; 1];
        let mut wide_state = initial_state(&config, 1);
        for _round in 0..5 {
            let mut slices: Vec<&mut [f32]> = state.iter_mut().map(Vec::as_mut_slice).collect();
            config.apply_unit(&mut params, &[f32::MAX, f32::MIN, f32::MAX], &mut slices).unwrap();
            let mut slices: Vec<&mut [f64]> = wide_state.iter_mut().map(Vec::as_mut_slice).collect();
            config.apply_unit(&mut wide, &[f64::MAX], &mut slices).unwrap();
            assert!(params.iter().chain(state.iter().flatten()).all(|value| value.is_finite()), "{kind}");
            assert!(wide.iter().chain(wide_state.iter().flatten()).all(|value| value.is_finite()), "{kind}");
        }
    }
}

#[test]
fn state_or_lengths_that_do_not_fit_change_nothing() {
    let config = configured("fedadam");
    let mut params = [1.0_f32; 4];
    let error = config.apply_unit(&mut params, &[1.0; 4], &mut []).unwrap_err();
    assert_eq!(error, OptimizerError::StateVectors { kind: "fedadam", got: 0, expected: 2 });
    let (mut first, mut second) = ([0.0; 4], [0.0; 3]);
    let error = config.apply_unit(&mut params, &[1.0; 4], &mut [&mut first, &mut second]).unwrap_err();
    assert_eq!(error, OptimizerError::Length { got: 3, expected: 4 });
    let error = configured("fedavg").apply_unit(&mut params, &[1.0; 5], &mut []).unwrap_err();
    assert_eq!(error, OptimizerError::Length { got: 5, expected: 4 });
    assert_eq!(params, [1.0; 4]);
}

#[test]
fn configurations_are_strict_and_survive_serialisation() {
    assert_eq!(from_toml("kind = \"fedavg\""), Ok(OptimizerConfig::default()));
    let momentum = OptimizerConfig::FedAvgM { learning_rate: 1.0, momentum: 0.9 };
    assert_eq!(from_toml("kind = \"fedavgm\"\nlearning_rate = 1"), Ok(momentum));
    for kind in KINDS {
        let config = configured(kind);
        assert_eq!(from_toml(&toml::to_string(&config).unwrap()), Ok(config));
    }
    let refusals = [
        (
            "kind = \"sgd\"",
            "unknown optimizer kind `sgd`; expected one of fedavg, fedavgm, fedadagrad, fedadam, fedyogi",
        ),
        ("kind = \"fedavg\"\nmomentum = 0.9", "optimizer fedavg: unknown key `momentum`; it takes learning_rate"),
        ("kind = \"fedadam\"", "`learning_rate` is missing; set it to a finite number above 0"),
        ("kind = \"fedavg\"\nlearning_rate = 0", "`learning_rate` is 0; it must be a finite number above 0"),
        ("kind = \"fedavg\"\nlearning_rate = nan", "`learning_rate` is NaN"),
        ("kind = \"fedavg\"\nlearning_rate = inf", "`learning_rate` is inf"),
        ("kind = \"fedavg\"\nlearning_rate = \"1\"", "`learning_rate` is \"1\""),
        ("kind = \"fedavgm\"\nmomentum = 1.0", "`momentum` is 1; it must be at least 0 and below 1"),
        ("kind = \"fedyogi\"\nlearning_rate = 0.1\nbeta2 = -0.1", "`beta2` is -0.1"),
        ("kind = \"fedyogi\"\nlearning_rate = 0.1\ntau = 0", "`tau` is 0"),
    ];
    for (text, message) in refusals {
        let error = from_toml(text).unwrap_err();
        assert!(error.contains(message), "{text}\ngave: {error}");
    }
}
