use super::*;
use crate::attack::Observation;
use crate::data::digits;
use crate::random::{Purpose, stream};
use proptest::prelude::*;

fn random() -> Stream {
    stream(1, Purpose::Attack, 2, 3)
}

fn forged(text: &str, own: &[f32], all: Observation<'_>) -> Vec<f32> {
    let attack = parse(text).unwrap();
    let mut update = own.to_vec();
    attack.forge(&View::new(attack.knowledge(), all), &mut update, &mut random());
    attack.tamper().apply(&mut update);
    update
}

fn alone(text: &str, own: &[f32]) -> Vec<f32> {
    forged(text, own, Observation::default())
}

#[test]
fn each_attack_sends_what_its_formula_says() {
    let own = [1.0, -2.0, 0.5, 4.0];
    assert_eq!(alone("none", &own), own);
    assert_eq!(alone("sign_flip:scale=3", &own), [-3.0, 6.0, -1.5, -12.0]);
    assert_eq!(alone("sign_flip", &own), [-10.0, 20.0, -5.0, -40.0]);
    assert_eq!(alone("constant:-0.5", &own), [-0.5; 4]);
    assert_eq!(alone("free_rider", &own), [0.0; 4]);
    assert_eq!(alone("wrong_shape", &own), [1.0, -2.0, 0.5]);
    assert_eq!(alone("wrong_shape:2", &own), [1.0, -2.0, 0.5, 4.0, 0.0, 0.0]);
    assert_eq!(alone("label_flip", &own), own);
    assert_eq!(alone("ipm:tau=2", &own), [-2.0, 4.0, -1.0, -8.0]);
    let mut noise = random();
    let expected: Vec<f32> = own.iter().map(|_| (1.0 + 3.0 * noise.normal()) as f32).collect();
    assert_eq!(alone("gaussian:sd=3,mean=1", &own), expected);
}

#[test]
fn non_finite_replaces_the_asked_share_and_at_least_one_coordinate() {
    let own = [1.0; 8];
    assert!(alone("non_finite", &own).iter().all(|value| value.is_nan()));
    assert!(alone("non_finite:inf", &own).iter().all(|value| *value == f32::INFINITY));
    let quarter = alone("non_finite:value=-inf,fraction=0.25", &own);
    assert_eq!(quarter.iter().filter(|value| **value == f32::NEG_INFINITY).count(), 2);
    let one = alone("non_finite:fraction=0", &own);
    assert_eq!(one.iter().filter(|value| value.is_nan()).count(), 1);
    assert!(alone("non_finite", &[]).is_empty());
}

#[test]
fn label_flip_reverses_all_labels_out_of_place() {
    let mut data = digits::load();
    let original = data.clone();
    parse("label_flip").unwrap().poison(&mut data, &mut random()).unwrap();
    assert_eq!(data.features(), original.features());
    assert!(data.labels().iter().zip(original.labels()).all(|(new, old)| *new == 9 - *old));
}

#[test]
fn label_flip_follows_a_map_and_a_fraction() {
    let mut data = digits::load();
    let original = data.clone();
    parse("label_flip:map=0>9+9>0").unwrap().poison(&mut data, &mut random()).unwrap();
    for (new, old) in data.labels().iter().zip(original.labels()) {
        assert_eq!(
            *new,
            match old {
                0 => 9,
                9 => 0,
                other => *other,
            }
        );
    }
    let mut half = original.clone();
    parse("label_flip:0.5,map=3>8").unwrap().poison(&mut half, &mut random()).unwrap();
    let changed = half.labels().iter().zip(original.labels()).filter(|(new, old)| new != old).count();
    assert!((60..125).contains(&changed), "{changed} of 183");
    let error = parse("label_flip:map=3>12").unwrap().poison(&mut half, &mut random()).unwrap_err();
    assert!(error.to_string().contains("map = 3>12; the data have the labels 0 to 9"), "{error}");
}

#[test]
fn no_attack_uses_more_than_its_declared_knowledge() {
    let own = [1.0, 2.0];
    let (colluders, honest) = ([vec![7.0, 8.0], vec![7.5, 8.0]], [vec![3.0, 4.0], vec![5.0, 4.5], vec![3.5, 1.0]]);
    let rule = testudo_aggregate::RuleConfig::median(1);
    let deployed = Some(crate::attack::Deployed { rule: rule.rule(), extras: &[], seed: 9, memory: None });
    let crowd = crate::attack::Crowd { rows: 5, colluding: 2, declared: 1 };
    let known = Observation { round: 1, crowd, accord: 3, ..Observation::default() };
    for info in catalogue() {
        let attack = parse(info.kind).unwrap();
        assert_eq!(attack.knowledge(), info.knowledge, "{}", info.kind);
        let sent = |all| forged(info.kind, &own, all).iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        let of_colluders = Observation { model: &[5.0, 6.0], previous: &[1.0, 1.0], colluders: &colluders, ..known };
        let of_honest = Observation { honest: &honest, ..of_colluders };
        let of_all = Observation { flipped: &honest, deployed, ..of_honest };
        if info.knowledge < Knowledge::Omniscient {
            assert_eq!(sent(of_all), sent(of_honest), "{}", info.kind);
        }
        if info.knowledge < Knowledge::Honest {
            assert_eq!(sent(of_all), sent(of_colluders), "{}", info.kind);
        }
        if info.knowledge < Knowledge::Colluders {
            assert_eq!(sent(of_all), sent(known), "{}", info.kind);
        }
    }
}

#[test]
fn the_catalogue_describes_every_attack_and_its_real_defaults() {
    assert_eq!(catalogue().len(), 41);
    for info in catalogue() {
        let attack = parse(info.kind).unwrap();
        assert_eq!(attack.info(), *info);
        assert!(!info.formula.is_empty() && info.summary.ends_with('.'));
        let table = serde_json::to_value(&attack).unwrap();
        assert_eq!(table["kind"], info.kind);
        assert_eq!(table.as_object().unwrap().len(), info.parameters.len() + 1, "{}", info.kind);
        for parameter in info.parameters {
            if parameter.name == "map" {
                continue;
            }
            let default = parameter.default.replace(',', ";");
            let written = parse(&format!("{}:{}={default}", info.kind, parameter.name)).unwrap();
            assert_eq!(written, attack, "{} {}", info.kind, parameter.name);
        }
    }
}

#[test]
fn the_short_form_reads_back_what_it_writes() {
    for text in [
        "none",
        "sign_flip:scale=2.5",
        "gaussian:sd=0.1,mean=-3,relative=false,shared=false",
        "label_flip:fraction=0.5,map=3>8+8>3",
        "label_flip:fraction=1",
        "non_finite:value=-inf,fraction=0.5",
        "wrong_shape:coordinates=7",
        "alie:z=1.5,sign=+",
        "mimic:row=auto,warmup=10",
        "min_sum:perturbation=sign,sign=+,bound=min",
        "late:by_ms=250",
        "on_off:attack=ipm:tau=3,start=5,stop=0,on=1,off=0,ramp=0",
        "on_off:attack=gaussian:sd=3;mean=1;relative=false;shared=true,start=5,stop=0,on=1,off=0,ramp=0",
        "model_replacement:trigger=square,target=3,fraction=0.5,gamma=auto,eta=1,bound=2.5",
    ] {
        let attack = parse(text).unwrap();
        assert_eq!(attack.to_string(), text);
        assert_eq!(text.parse::<AttackConfig>().unwrap(), attack);
    }
    assert_eq!(parse("sign_flip:3").unwrap(), AttackConfig::SignFlip(SignFlip { scale: 3.0 }));
}

#[test]
fn a_wrong_short_form_names_what_is_wrong_and_what_there_is() {
    let message = |text: &str| parse(text).unwrap_err().to_string();
    assert!(message("evil").contains("\"evil\" is unknown; use one of none, sign_flip"));
    assert!(message("sign_flip:strength=3").contains("unknown key \"strength\"; use scale"));
    assert!(message("none:3").contains("no parameters"));
    assert!(message("sign_flip:scale=").contains("scale has no value"));
    assert!(message("sign_flip:scale=1,scale=2").contains("given twice"));
    assert!(message("sign_flip:2,3").contains("\"3\" is not key=value"));
    assert!(message("sign_flip:scale=big").contains("big"));
    assert!(message("sign_flip:scale=-1").contains("scale = -1; give a number from 0 to"));
    assert!(message("gaussian:sd=nan").contains("nan"));
    assert!(message("label_flip:fraction=2").contains("fraction = 2; give a number from 0 to 1"));
    assert!(message("label_flip:map=1>2+1>3").contains("label 1 has two targets"));
    assert!(message("wrong_shape:0").contains("other than 0"));
    assert!(message("wrong_shape:99999999").contains("coordinates = 99999999"));
    assert!(message("non_finite:seven").contains("seven"));
    assert!(message("on_off:attack=evil").contains("\"evil\" is unknown"));
    assert!(message("on_off:attack=ipm:tau=-1").contains("tau = -1"));
    assert!(message("alie:z=far").contains("alie"));
    assert!(message("oversize:1").contains("factor = 1; give a number from 2"));
}

#[test]
fn the_configuration_is_strict_and_accepts_integers_for_floats() {
    let read = |text: &str| serde_json::from_str::<AttackConfig>(text);
    assert_eq!(read(r#"{"kind":"ipm","tau":3}"#).unwrap(), AttackConfig::Ipm(Ipm { tau: 3.0 }));
    assert_eq!(read(r#"{"kind":"ipm"}"#).unwrap(), AttackConfig::Ipm(Ipm::default()));
    assert_eq!(read(r#"{"kind":"none"}"#).unwrap(), AttackConfig::None(None {}));
    for wrong in [
        r#"{"kind":"ipm","tauu":3}"#,
        r#"{"kind":"none","scale":3}"#,
        r#"{"kind":"nothing"}"#,
        r#"{"tau":3}"#,
        r#"{"kind":"ipm","tau":"3"}"#,
        r#"{"kind":"ipm","tau":-3}"#,
        r#"{"kind":"wrong_shape","coordinates":0}"#,
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
    let nested = r#"{"kind":"on_off","attack":{"kind":"on_off","attack":{"kind":"on_off","attack":"ipm"}}}"#;
    assert!(read(nested).unwrap_err().to_string().contains("nest at most 3"), "{nested}");
    let nested = r#"{"kind":"on_off","off":2,"attack":{"kind":"sybil","attack":"alie:z=2;sign=+"}}"#;
    assert_eq!(read(nested).unwrap().inner().unwrap().0.info().kind, "sybil");
    let error = read(r#"{"kind":"ipm","tau":-3}"#).unwrap_err().to_string();
    assert!(error.contains("tau = -3; give a number from 0"), "{error}");
}

proptest! {
    #[test]
    fn no_short_form_makes_the_parser_panic(text in "[a-z_]{0,12}:?[a-z=,>+0-9.-]{0,30}") {
        let _ = parse(&text);
        for info in catalogue() {
            let _ = parse(&format!("{}:{text}", info.kind));
        }
    }
}
