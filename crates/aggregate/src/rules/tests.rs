use super::*;
use crate::centre::Even;
use crate::composition::RuleConfig;
use crate::needs::{DistanceNeeds, Needs};
use crate::range::MAX_PAIR_ROWS;

fn from_toml(text: &str) -> Result<RuleConfig, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

#[test]
fn every_catalogued_rule_can_be_configured_and_survives_serialisation() {
    for info in catalogue() {
        let config = RuleConfig::with_byzantine(info.kind, 1).unwrap();
        assert_eq!(config.kind(), info.kind);
        assert_eq!(config.build().kind(), info.kind);
        let text = toml::to_string(&config).unwrap();
        assert_eq!(from_toml(&text), Ok(config.clone()), "{text}");
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<RuleConfig>(&json).unwrap(), config, "{json}");
    }
}

#[test]
fn parameters_arrive_in_the_rule() {
    assert_eq!(from_toml("kind = \"mean\""), Ok(RuleConfig::mean()));
    assert_eq!(
        from_toml("kind = \"median\""),
        Ok(RuleKind::Median(Median { byzantine: 0, even: Even::Average }).into())
    );
    assert_eq!(
        from_toml("kind = \"krum\"\nbyzantine = 2"),
        Ok(RuleKind::Krum(Krum { byzantine: 2, neighbours: Neighbours::Paper }).into())
    );
    let full = from_toml("byzantine = 2\nselect = 5\nneighbours = \"byzfl\"\nkind = \"multi_krum\"").unwrap();
    let expected = MultiKrum { byzantine: 2, select: Some(5), neighbours: Neighbours::Byzfl };
    assert_eq!(full, RuleKind::MultiKrum(expected).into());
    assert_eq!(full.to_string(), "multi_krum (byzantine = 2, select = 5, neighbours = byzfl)");
    assert_eq!(from_toml(&toml::to_string(&full).unwrap()), Ok(full));
}

#[test]
fn rules_that_look_from_one_point_decide_as_they_would_with_all_pairs() {
    use crate::element::Element;
    use crate::observe::observe_unit;
    use crate::rows::{Rows, Weights};
    use crate::statistics::{Observation, StatisticsTree};

    fn points<T: Element>() -> Vec<Vec<T>> {
        let value = |row: usize, c: usize| ((c * 7919 + row * row * 31 + row * 104_729) % 2003) as f64 / 97.0 - 10.0;
        (0..8).map(|row| (0..5000).map(|c| T::from_f64(value(row, c))).collect()).collect()
    }
    fn decided<T: Element>(rule: &dyn Rule, needs: Needs) -> crate::rule::Decision {
        let points = points::<T>();
        let views: Vec<&[T]> = points.iter().map(Vec::as_slice).collect();
        let rows = views.len() - needs.extras.count(7);
        let observation = Observation::first(needs, rows, 5000, 0);
        let mut tree = StatisticsTree::new(1);
        tree.insert(0, observe_unit(&Rows::new(&views, 0).unwrap(), &observation).unwrap()).unwrap();
        rule.decide(&tree.finish(&observation).unwrap(), &Weights::equal(rows).unwrap()).unwrap()
    }
    let texts = [
        "kind = \"centered_clipping\"\nradius = 300",
        "kind = \"monna\"\nbyzantine = 2\nrow = 3",
        "kind = \"fltrust\"",
    ];
    for text in texts {
        let config = from_toml(text).unwrap();
        let own = config.needs();
        assert!(matches!(own.distances, DistanceNeeds::From(_)), "{text}");
        let pairs = Needs { distances: DistanceNeeds::Pairs, ..own };
        assert_eq!(decided::<f32>(config.rule(), own), decided::<f32>(config.rule(), pairs), "{text}");
        assert_eq!(decided::<f64>(config.rule(), own), decided::<f64>(config.rule(), pairs), "{text}");
    }
}

#[test]
fn unknown_keys_and_kinds_and_wrong_values_are_refused_by_name() {
    let refusals = [
        (
            "kind = \"krumm\"",
            "unknown rule kind `krumm`; expected one of mean, median, trimmed_mean, krum, multi_krum, bulyan",
        ),
        ("kind = \"mean\"\nbyzantine = 1", "rule mean: unknown key `byzantine`; it takes pre"),
        (
            "kind = \"krum\"\nbyzantine = 1\nselect = 2",
            "rule krum: unknown key `select`; it takes pre, byzantine, neighbours",
        ),
        ("kind = \"median\"\nbyzantin = 1", "unknown key `byzantin`; it takes pre, even, byzantine"),
        ("kind = \"krum\"", "rule krum: `byzantine` is missing; set it to the number of bad rows"),
        ("kind = \"krum\"\nbyzantine = -1", "`byzantine` is -1; it must be the number of bad rows"),
        ("kind = \"krum\"\nbyzantine = 1.5", "`byzantine` is 1.5"),
        ("kind = \"krum\"\nbyzantine = \"two\"", "`byzantine` is \"two\""),
        ("kind = \"krum\"\nbyzantine = [1]", "`byzantine` is a list"),
        (
            "kind = \"krum\"\nbyzantine = 1\nneighbours = \"all\"",
            "`neighbours` is \"all\"; it must be \"paper\" or \"byzfl\"",
        ),
        ("kind = \"krum\"\nbyzantine = 1\nneighbours = true", "`neighbours` is true"),
        ("byzantine = 1", "rule: `kind` is missing"),
        ("kind = 3", "`kind` is 3; it must be a string"),
    ];
    for (text, message) in refusals {
        let error = from_toml(text).unwrap_err();
        assert!(error.contains(message), "{text}\ngave: {error}");
    }
    let twice = serde_json::from_str::<RuleConfig>(r#"{"kind":"median","byzantine":1,"byzantine":2}"#);
    assert!(twice.unwrap_err().to_string().contains("`byzantine` is given twice"));
}

#[test]
fn a_refusal_names_rule_rows_byzantine_and_what_would_be_valid() {
    let message = |kind: &str, byzantine, rows| {
        RuleConfig::with_byzantine(kind, byzantine).unwrap().rule().check(rows).unwrap_err().to_string()
    };
    assert_eq!(
        message("krum", 4, 9),
        "krum with byzantine = 4 needs n ≥ 2f+3, but there are 9 rows; it takes at least 11 rows; with 9 rows byzantine may be at most 3"
    );
    assert!(message("trimmed_mean", 2, 4).contains("with 4 rows byzantine may be at most 1"));
    assert!(message("krum", 0, 2).contains("no byzantine is valid with 2 rows"));
    assert!(message("mean", 0, 0).contains("at least 1 rows"));
    assert!(message("krum", 1, MAX_PAIR_ROWS + 1).contains("at most 8192 rows"));
    let select = from_toml("kind = \"multi_krum\"\nbyzantine = 2\nselect = 8").unwrap();
    assert_eq!(
        select.rule().check(9).unwrap_err().to_string(),
        "multi_krum with byzantine = 2 and 9 rows can select 1 to 7 rows, but select = 8"
    );
    assert!(from_toml("kind = \"multi_krum\"\nbyzantine = 2\nselect = 0").is_err());
}

#[test]
fn absurd_numbers_are_refused_without_overflow() {
    let takes_byzantine = |info: &&RuleInfo| info.parameters.iter().any(|parameter| parameter.key == "byzantine");
    for info in catalogue().iter().filter(takes_byzantine) {
        let config = RuleConfig::with_byzantine(info.kind, usize::MAX).unwrap();
        assert!(config.rule().check(20).is_err());
        assert!(config.rule().min_rows() > 20);
        let fitted = config.fit(20).unwrap();
        assert!(fitted.rule().check(20).is_ok());
    }
}

#[test]
fn fitting_lowers_to_the_largest_valid_byzantine_and_never_raises() {
    for info in catalogue() {
        for byzantine in 0..8 {
            for rows in 0..24 {
                let config = RuleConfig::with_byzantine(info.kind, byzantine).unwrap();
                let largest = (0..24)
                    .filter(|&f| RuleConfig::with_byzantine(info.kind, f).unwrap().rule().check(rows).is_ok())
                    .max();
                match (config.fit(rows), largest) {
                    (Ok(fitted), Some(largest)) => {
                        assert!(fitted.rule().check(rows).is_ok());
                        assert_eq!(fitted.rule().byzantine(), config.rule().byzantine().min(largest));
                    }
                    (Err(_), None) => {}
                    (fitted, largest) => panic!("{config} with {rows} rows: {fitted:?}, {largest:?}"),
                }
            }
        }
    }
    let select = MultiKrum { byzantine: 2, select: Some(9), neighbours: Neighbours::Paper };
    let select = RuleConfig::from(RuleKind::MultiKrum(select));
    assert_eq!(select.fit(10).unwrap().to_string(), "multi_krum (byzantine = 2, select = 8)");
}

#[test]
fn min_rows_is_the_fewest_rows_the_check_accepts() {
    for info in catalogue() {
        for byzantine in 0..10 {
            let config = RuleConfig::with_byzantine(info.kind, byzantine).unwrap();
            let fewest = (0..60).find(|&rows| config.rule().check(rows).is_ok());
            assert_eq!(Some(config.rule().min_rows()), fewest, "{config}");
        }
    }
}

#[test]
fn a_refusal_inside_a_larger_file_points_at_its_table() {
    #[derive(Debug, serde::Deserialize)]
    struct Task {
        #[expect(dead_code, reason = "only the refusal matters")]
        rule: RuleConfig,
    }
    let error = toml::from_str::<Task>("name = \"digits\"\n\n[rule]\nkind = \"krum\"\nbyzantin = 2\n").unwrap_err();
    assert!(error.to_string().contains("line 3"), "{error}");
    assert!(error.message().contains("rule krum: `byzantine` is missing"), "{error}");
}
