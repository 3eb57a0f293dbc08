use super::{check::MAX_EXAMPLES, *};

mod adaptive;
mod correlated;
mod distributed;
mod local;
mod masking;
mod privacy;
mod sampled;

pub(crate) const GOOD: &str = r#"
name = "keyboard"
rounds = 10
[model]
initial = "model.safetensors"
[cohort]
size = 10
over_selection = 1.3
phase_limit_s = 60
[rule]
kind = "krum"
byzantine = 2
"#;

fn spec(text: &str) -> TaskSpec {
    TaskSpec::new("task.toml", text).unwrap_or_else(|error| panic!("{error}"))
}

fn problems(text: &str) -> Vec<Problem> {
    TaskSpec::new("task.toml", text).unwrap_err().0.list
}

/// A problem of `text` with that key, in whose message and fix these parts stand.
fn refused(text: &str, key: &str, what: &str, fix: &str) -> Problem {
    let list = problems(text);
    let matching = |problem: &&Problem| problem.key == key && problem.what.contains(what);
    let problem = list.iter().find(matching).unwrap_or_else(|| panic!("{key}, {what}: {list:?}"));
    assert!(problem.fix.contains(fix), "{key}: {problem:?}");
    problem.clone()
}

fn assert_names_its_line(text: &str, problem: &Problem) {
    let key = problem.key.rsplit('.').next().unwrap();
    let line = text.lines().nth(problem.line.unwrap_or_else(|| panic!("{problem:?} has no line")) - 1).unwrap();
    assert!(line.contains(key), "{key} on line {line:?}");
}

#[test]
fn a_good_task_has_its_defaults_and_guarantees() {
    let spec = TaskSpec::new("task.toml", GOOD).unwrap();
    let cohort = Cohort {
        size: 10,
        selected: 13,
        minimum: 7,
        sample: None,
        fewer: Fewer::Abandon,
        phase_limit_ms: 60_000,
        gather_ms: 0,
    };
    assert_eq!(spec.cohort, cohort);
    assert_eq!(spec.examples, Examples { max: MAX_EXAMPLES, weighted: false });
    assert!(spec.guarantees.iter().any(|line| line.contains("up to 2 bad clients")), "{:?}", spec.guarantees);
    assert!(spec.guarantees.iter().any(|line| line.contains("sees every client's update")));
}

#[test]
fn fewer_updates_lower_the_byzantine_clients_where_the_task_says_so() {
    let text = GOOD.replace("size = 10", "size = 10\nfewer = \"lower_byzantine\"\nminimum = 4");
    let spec = TaskSpec::new("task.toml", &text).unwrap();
    let lowered: Vec<Option<usize>> = (4..8).map(|rows| spec.rule_for(rows).1.map(|rule| rule.byzantine())).collect();
    assert_eq!(lowered, [Some(0), Some(1), Some(1), None]);
    let line = spec.guarantees.iter().find(|line| line.starts_with("robustness")).unwrap();
    assert!(line.contains("up to 2 bad clients of at least 7"), "{line}");
    assert!(line.contains("0 with 4 updates to 1 with 6 updates"), "{line}");
    // Without the word the rule stays, and a round of so few is refused.
    assert_eq!(TaskSpec::new("task.toml", GOOD).unwrap().rule_for(5).1, None);
}

#[test]
fn each_wrong_key_type_range_or_combination_is_refused_with_line_key_value_and_fix() {
    let cases = [
        // (replace, with, key, part of the message, part of the fix)
        ("rounds = 10", "rounds = 0", "rounds", "outside", "from 1"),
        ("rounds = 10", "rounds = \"ten\"", "rounds", "invalid type", "u64"),
        ("rounds = 10", "runds = 10", "runds", "unknown field", "rounds"),
        ("rounds = 10", "", "rounds", "missing field", "add `rounds`"),
        ("\"keyboard\"", "\"Key Board\"", "name", "not a name", "keyboard"),
        ("size = 10", "size = 6", "cohort.size", "at least 7 rows", "at least 7"),
        ("size = 10", "size = 50000", "cohort.size", "takes at most", "fewer clients"),
        ("size = 10", "size = 10\nminimum = 4", "cohort.minimum", "must be from 7", "from 7 to 10"),
        ("size = 10", "size = 10\nfewer = \"lower\"", "cohort.fewer", "not known", "lower_byzantine"),
        (
            "size = 10",
            "size = 10\nfewer = \"lower_byzantine\"\nminimum = 2",
            "cohort.minimum",
            "must be from 3",
            "from 3",
        ),
        ("over_selection = 1.3", "over_selection = 0.5", "cohort.over_selection", "outside", "from 1 to 10"),
        ("phase_limit_s = 60", "phase_limit_s = nan", "cohort.phase_limit_s", "outside", "from"),
        ("phase_limit_s = 60", "phase_limt_s = 60", "cohort.phase_limt_s", "unknown field", "phase_limit_s"),
        ("kind = \"krum\"", "kind = \"krumm\"", "rule.kind", "unknown", ""),
        ("byzantine = 2", "byzantin = 2", "rule.byzantin", "unknown key", "byzantine"),
        ("byzantine = 2", "byzantine = -2", "rule.byzantine", "-2", "whole number"),
        ("[rule]", "[encoding]\nmax_l2 = -1.0\n[rule]", "encoding.max_l2", "positive", "largest"),
        ("[rule]", "[encoding]\nbits = 16\n[rule]", "encoding.bits", "no effect", "remove"),
        ("[rule]", "[visibility]\nmasking = \"pairs\"\n[rule]", "visibility.masking", "not a masking", "pairwise"),
        ("[rule]", "[visibility]\ngroup_size = 8\n[rule]", "visibility.group_size", "without masking", "pairwise"),
        ("[rule]", "[visibility]\nthreshold = 8\n[rule]", "visibility.threshold", "no effect", "remove"),
        ("[rule]", "[privacy]\nmechanism = \"gaussian\"\n[rule]", "privacy.population", "missing field", "add"),
        ("[rule]", "[examples]\nweighted = true\n[rule]", "examples.weighted", "every row alike", "false"),
        ("[rule]", "[examples]\nmax = 0\n[rule]", "examples.max", "outside", "from 1"),
        ("[rule]", "[encoding]\naccept = [\"int4\"]\n[rule]", "encoding.accept", "no encoding", "int8"),
        ("[rule]", "[tensors]\nbn = \"mean\"\n[rule]", "tensors.bn", "not a policy", "stats"),
        ("[rule]", "[reference]\nclient = \"a\"\n[rule]", "reference.client", "no reference", "remove"),
        ("[rule]", "[rule]\ngranularity = \"tensor\"", "rule.granularity", "not a granularity", "layer"),
        ("[rule]", "[rule]\npre = [\"nm\"]", "rule.pre", "unknown pre kind `nm`", ""),
        (
            "byzantine = 2",
            "byzantine = { fraction = 0.6, risk = 1e-6 }",
            "rule.byzantine.fraction",
            "`fraction` is 0.6",
            "",
        ),
        ("byzantine = 2", "byzantine = 0.1", "rule.byzantine", "is 0.1", "{ fraction = 0.1, risk = 1e-6 }"),
        ("byzantine = 2", "", "rule.kind", "`byzantine` is missing", "{ fraction = 0.1, risk = 1e-6 }"),
        (
            "byzantine = 2",
            "byzantine = 2\nneighbors = \"paper\"",
            "rule.neighbors",
            "unknown key `neighbors`",
            "did you mean `neighbours`?",
        ),
        (
            "byzantine = 2",
            "byzantine = { fraction = 0.1, rsk = 1e-6 }",
            "rule.byzantine.rsk",
            "unknown key `rsk`",
            "did you mean `risk`?",
        ),
        ("byzantine = 2", "byzantine = { fraction = 0.1 }", "rule.byzantine", "`risk` is missing", "1e-6"),
        (
            "byzantine = 2",
            "byzantine = { fraction = 0.3, risk = 1e-6 }",
            "cohort.size",
            "the rule needs at least",
            "raise",
        ),
        ("[rule]", "[optimizer]\nkind = \"fedadam\"\nlearning_rate = -1\n[rule]", "optimizer.learning_rate", "-1", ""),
        ("[rule]", "[optimizer]\nkind = \"sgd\"\n[rule]", "optimizer.kind", "unknown", ""),
        ("initial = \"model.safetensors\"", "initial = \"\"", "model.initial", "empty", "safetensors"),
    ];
    for (replace, with, key, what, fix) in cases {
        let text = GOOD.replace(replace, with);
        assert_ne!(text, GOOD, "{replace}");
        let problem = refused(&text, key, what, fix);
        if !what.starts_with("missing") {
            assert_names_its_line(&text, &problem);
        }
    }
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let text = GOOD.replace("rounds = 10", "rounds = 0").replace("over_selection = 1.3", "over_selection = 99");
    assert_eq!(problems(&text).len(), 2);
}

#[test]
fn a_share_of_bad_clients_becomes_a_number_for_the_largest_cohort() {
    let text = GOOD.replace("byzantine = 2", "byzantine = { fraction = 0.01, risk = 1e-3, population = 1000 }");
    let spec = TaskSpec::new("task.toml", &text).unwrap();
    // 13 are selected of 1000 with 10 bad ones: more than 2 with probability 2.6e-4, more than 1 with 6.4e-3.
    assert_eq!(spec.rule.byzantine(), 2);
    assert!(spec.guarantees.iter().any(|line| line.contains("1 % bad clients among 1000")), "{:?}", spec.guarantees);
}

#[test]
fn pre_aggregation_policies_and_granularity_are_in_the_guarantees() {
    let text = GOOD.replace(
        "[rule]",
        "[tensors]\n\"bn.*\" = \"stats\"\n[rule]\npre = [\"arc\", \"nnm\"]\ngranularity = \"layer\"",
    );
    let spec = TaskSpec::new("task.toml", &text).unwrap();
    let all = spec.guarantees.join("\n");
    for part in ["arc, then nnm, then krum (byzantine = 2)", "tensor by tensor", "bn.* is stats"] {
        assert!(all.contains(part), "{all}");
    }
}

#[test]
fn an_oversize_text_is_refused_unread() {
    let text = "#".repeat(limits::TASK_TOML_BYTES + 1);
    assert!(problems(&text)[0].what.contains("more than the limit"));
}
