use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::runner::{Event, Options, RunError, run};
use super::*;
use crate::world::{Library, Measured, Route};

const SMALL: &str = r#"
name = "small"
rounds = 5
seeds = { first = 3, count = 2 }
[data]
source = "digits"
test = 360
[workload]
kind = "softmax"
[training]
momentum = 0.5
[population]
clients = 9
[adversary]
colluders = 2
[report]
evaluate_every = 2
[sweep.grid]
rule = [{ kind = "mean" }, { kind = "krum", byzantine = 2 }]
"adversary.attack" = [{ kind = "none" }, { kind = "ipm", tau = 3.0 }, { kind = "gaussian" }]
[[sweep.exclude]]
"rule.kind" = "krum"
"adversary.attack.kind" = "gaussian"
"#;

fn refused(text: &str) -> String {
    Study::read("s.toml", text).map(|study| study.runs.len()).unwrap_err().to_string()
}

fn run_into(study: &Study, folder: &Path, options: Options) -> Result<Outcome, RunError> {
    run(study, &Library::default(), folder, options, &AtomicBool::new(false), &|_| {})
}

fn files(folder: &Path) -> Vec<(&'static str, Vec<u8>)> {
    ["runs.csv", "rounds.parquet", "report.html", "tables.md", "tables.tex", "cells.json", "manifest.json"]
        .map(|name| (name, std::fs::read(folder.join(name)).unwrap()))
        .to_vec()
}

#[test]
fn a_grid_takes_every_combination_that_is_not_excluded_with_every_seed() {
    let study = Study::read("s.toml", SMALL).unwrap();
    assert_eq!(study.runs.len(), 10);
    assert_eq!(study.excluded, ["rule = krum, adversary.attack = gaussian"]);
    assert_eq!(study.axes[0].labels, ["mean", "krum"]);
    assert_eq!(study.axes[1].labels, ["none", "ipm:tau=3.0", "gaussian"]);
    assert_eq!(study.seeds(), [3, 4]);
    assert_eq!(study.labels(&study.runs[9]), ["krum", "ipm:tau=3.0"]);
}

#[test]
fn noise_can_be_swept_and_what_it_promises_stands_beside_the_accuracy() {
    let text = SMALL.split("[sweep.grid]").next().unwrap().to_owned()
        + "[encoding]\nclip_l2 = 0.5\n[privacy]\nmechanism = \"gaussian\"\nnoise_multiplier = 1.0\n[rule]\nkind = \"mean\"\n\
           [sweep.grid]\n\"privacy.noise_multiplier\" = [0.5, 2.0]\n";
    let study = Study::read("s.toml", &text).unwrap();
    let epsilons: Vec<f64> = study.runs.iter().filter_map(|run| run.scenario.epsilon()).collect();
    assert!(epsilons.len() == 4 && epsilons[0] > 4.0 * epsilons[3], "{epsilons:?}");
    let folder = tempfile::tempdir().unwrap();
    let outcome = run_into(&study, folder.path(), Options::default()).unwrap();
    let csv = String::from_utf8(outcome.csv().unwrap()).unwrap();
    assert!(csv.lines().next().unwrap().contains("epsilon,delta") && csv.contains(&epsilons[0].to_string()), "{csv}");
    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("protects nobody here"));
}

#[test]
fn runs_without_noise_stand_beside_those_with_it_and_every_table_says_what_each_promises() {
    let head = SMALL.split("[sweep.grid]").next().unwrap().to_owned();
    let off = "{ label = \"no noise\", mechanism = \"none\" }";
    let on = "{ label = \"z = 2\", mechanism = \"gaussian\", noise_multiplier = 2.0 }";
    let text =
        format!("{head}[encoding]\nclip_l2 = 0.5\n[rule]\nkind = \"mean\"\n[sweep.grid]\nprivacy = [{off}, {on}]\n");
    let study = Study::read("s.toml", &text).unwrap();
    let promised: Vec<bool> = study.runs.iter().map(|run| run.scenario.epsilon().is_some()).collect();
    assert_eq!(promised, [false, false, true, true]);
    let plain = Study::read("s.toml", &format!("{head}[rule]\nkind = \"mean\"\n")).unwrap();
    assert_eq!(
        plain.runs[0].scenario.id("d"),
        study.runs[0].scenario.id("d"),
        "the run of a study without the section"
    );
    let folder = tempfile::tempdir().unwrap();
    run_into(&study, folder.path(), Options::default()).unwrap();
    let epsilon = study.runs[2].scenario.epsilon().unwrap();
    let shown = format!("{:.2}", (epsilon * 100.0).ceil() / 100.0);
    for (file, parts) in [
        ("report.html", ["<td>privacy no noise</td>", &format!("<td class=\"number\">{shown}</td>")]),
        (
            "tables.md",
            [
                "| privacy no noise | mean | no noise |",
                &format!("| privacy z = 2 | mean | {shown} | {:.2e} |", study.runs[2].scenario.delta().unwrap()),
            ],
        ),
        ("tables.tex", ["privacy no noise & mean & no noise &", &format!("privacy z = 2 & mean & {shown} &")]),
    ] {
        let text = std::fs::read_to_string(folder.path().join(file)).unwrap();
        assert!(parts.iter().all(|part| text.contains(part)), "{file}: {text}");
    }
    // One key of the section switches it off, too; a multiplier of 0 does not.
    let text = format!(
        "{head}[encoding]\nclip_l2 = 0.5\n[privacy]\nmechanism = \"gaussian\"\nnoise_multiplier = 1.0\n[rule]\nkind = \"mean\"\n[sweep.grid]\n"
    );
    let study = Study::read("s.toml", &format!("{text}\"privacy.mechanism\" = [\"none\", \"gaussian\"]\n")).unwrap();
    assert_eq!(study.runs.iter().filter(|run| run.scenario.epsilon().is_none()).count(), 2);
    let message = refused(&format!("{text}\"privacy.noise_multiplier\" = [0, 0.5]\n"));
    assert!(message.contains("privacy.noise_multiplier: 0 is no noise") && message.contains("\"none\""), "{message}");
}

#[test]
fn keys_of_a_zip_vary_in_step() {
    let text =
        format!("{SMALL}\n[[sweep.zip]]\n\"training.batch\" = [8, 16]\n\"optimizer.learning_rate\" = [0.5, 1]\n");
    let text = text.replace("[population]", "[optimizer]\nkind = \"fedavg\"\n[population]");
    let study = Study::read("s.toml", &text).unwrap();
    assert_eq!(study.runs.len(), 20);
    assert_eq!(study.axes[2].labels, ["8 / 0.5", "16 / 1"]);
    let batch = |run: &StudyRun| run.scenario.plan.training.batch;
    assert_eq!(study.runs.iter().filter(|run| batch(run) == 8).count(), 10);
}

#[test]
fn mistakes_are_named_with_line_key_and_fix_before_anything_runs() {
    for (from, to, expected) in [
        ("momentum = 0.5", "momentun = 0.5", &["s.toml:11: training.momentun", "did you mean `momentum`"][..]),
        ("source = \"digits\"", "source = \"digitz\"", &["s.toml:6: data.source", "digits"]),
        ("tau = 3.0", "taw = 3.0", &["s.toml:20: adversary.attack", "taw", "tau"]),
        (
            "rule = [{ kind = \"mean\" }",
            "rule = [{ kind = \"maen\" }",
            &["s.toml:19: rule.kind", "maen", "did you mean `mean`?"],
        ),
        ("\"krum\", byzantine = 2 }", "\"krum\", byzantine = 4 }", &["s.toml:19", "with rule = krum", "on_invalid"]),
        (
            "\"adversary.attack\" = [",
            "\"adversery.attack\" = [",
            &["s.toml:20", "adversery", "did you mean `adversary`?"],
        ),
        ("\"adversary.attack\" = [", "\"adversary.atack\" = [", &["s.toml:20", "atack", "did you mean `attack`?"]),
        ("kind = \"gaussian\" }]", "kind = \"gausian\" }]", &["s.toml:20", "gausian", "did you mean `gaussian`?"]),
        ("seeds = { first = 3, count = 2 }", "seeds = \"five\"", &["s.toml:4: seeds", "seeds = [1, 2"]),
        (
            "\"rule.kind\" = \"krum\"",
            "\"rule.kind\" = \"crum\"",
            &["sweep.exclude", "excludes nothing", "mean \"rule.kind\" = \"krum\"?"],
        ),
        ("\"rule.kind\" = \"krum\"", "\"rule.kinds\" = \"krum\"", &["excludes nothing", "mean \"rule.kind\"?"]),
        ("evaluate_every = 2", "worst_over = \"rules\"", &["s.toml:17: report.worst_over", "adversary.attack"]),
        ("clients = 9", "clients = 0", &["population.clients", "from 1"]),
        ("colluders = 2", "colluders = 12", &["adversary.colluders", "from 0 to 9"]),
        ("rule = [", "\"data.test\" = 3\nrule = [", &["s.toml:19: data.test", "is not a list"]),
    ] {
        assert!(SMALL.contains(from), "{from}");
        let message = refused(&SMALL.replacen(from, to, 1));
        for part in expected {
            assert!(message.contains(part), "{to}: {message}");
        }
    }
}

#[test]
fn impossible_combinations_are_skipped_when_told_so() {
    let text = SMALL.replace("\"krum\", byzantine = 2 }", "\"krum\", byzantine = 4 }");
    let study = Study::read("s.toml", &format!("on_invalid = \"skip\"\n{text}")).unwrap();
    assert_eq!((study.runs.len(), study.skipped.len()), (6, 2));
}

#[test]
fn defect_19_equal_runs_have_equal_ids_and_every_parameter_counts() {
    let study = Study::read("s.toml", SMALL).unwrap();
    let ids = runner::identify(&study, &Library::default()).unwrap();
    let mut different = ids.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), ids.len());
    // Whole numbers are the same number with a fraction of zero.
    let same = Study::read("s.toml", &SMALL.replace("tau = 3.0", "tau = 3")).unwrap();
    assert_eq!(runner::identify(&same, &Library::default()).unwrap(), ids);
    let other = Study::read("s.toml", &SMALL.replace("tau = 3.0", "tau = 3.5")).unwrap();
    assert_ne!(runner::identify(&other, &Library::default()).unwrap(), ids);
}

#[test]
fn the_number_of_threads_and_the_route_leave_no_trace() {
    let study = Study::read("s.toml", SMALL).unwrap();
    let folders: Vec<_> = [(1, Route::Shortest), (3, Route::Shortest), (24, Route::Engine)]
        .map(|(jobs, route)| {
            let folder = tempfile::tempdir().unwrap();
            run_into(&study, folder.path(), Options { jobs, route, ..Options::default() }).unwrap();
            folder
        })
        .into();
    let first = files(folders[0].path());
    for folder in &folders[1..] {
        for (one, other) in first.iter().zip(files(folder.path())) {
            assert!(*one == other, "{} differs", other.0);
        }
    }
}

#[test]
fn a_study_stopped_anywhere_and_resumed_equals_an_undisturbed_one_byte_for_byte() {
    let study = Study::read("s.toml", SMALL).unwrap();
    let undisturbed = tempfile::tempdir().unwrap();
    run_into(&study, undisturbed.path(), Options::default()).unwrap();
    let expected = files(undisturbed.path());
    for stop_after in [0, 1, 4, 5, 23, 49] {
        let folder = tempfile::tempdir().unwrap();
        let (stop, rounds) = (AtomicBool::new(stop_after == 0), AtomicU64::new(0));
        let observe = |event: Event| {
            if matches!(event, Event::Rounds(_)) && rounds.fetch_add(1, Ordering::Relaxed) + 1 >= stop_after {
                stop.store(true, Ordering::Relaxed);
            }
        };
        let options = Options { jobs: 2, checkpoint_every: Duration::ZERO, ..Options::default() };
        let stopped = run(&study, &Library::default(), folder.path(), options, &stop, &observe);
        assert!(matches!(stopped, Err(RunError::Stopped)) || stop_after == 49, "{stopped:?}");
        let resumed = Options { resume: true, ..options };
        run_into(&study, folder.path(), resumed).unwrap();
        for (one, other) in expected.iter().zip(files(folder.path())) {
            assert!(*one == other, "{} differs after a stop at {stop_after}", other.0);
        }
    }
}

#[test]
fn defect_18_a_finished_study_plays_no_round_again() {
    let study = Study::read("s.toml", SMALL).unwrap();
    let folder = tempfile::tempdir().unwrap();
    run_into(&study, folder.path(), Options::default()).unwrap();
    let (expected, played) = (files(folder.path()), AtomicU64::new(0));
    let observe = |event: Event| {
        // A finished run is counted at once, one that is played round by round.
        if matches!(event, Event::Rounds(1)) {
            played.fetch_add(1, Ordering::Relaxed);
        }
    };
    let resumed = Options { resume: true, ..Options::default() };
    run(&study, &Library::default(), folder.path(), resumed, &AtomicBool::new(false), &observe).unwrap();
    assert_eq!(played.into_inner(), 0);
    assert!(files(folder.path()) == expected);
}

#[test]
fn bad_data_are_found_before_a_folder_is_made_and_named_with_line_key_and_fix() {
    let swept = "\"data.heterogeneity\" = [{ kind = \"iid\" }, { kind = \"gamma\", gamma = 2.0 }]\nrule = [";
    for (from, to, expected) in [
        (
            "source = \"digits\"",
            "source = \"csv\"\npath = \"missing.csv\"",
            &["s.toml:7: data.path = \"missing.csv\"", "cannot read", "start at the study file's folder"][..],
        ),
        (
            "source = \"digits\"",
            "source = \"idx\"\npath = \"Cargo.toml\"\nlabels = \"no-labels\"",
            &["s.toml:8: data.labels = \"no-labels\"", "fix: name a file"],
        ),
        ("test = 360", "test = 360\npartition = \"none.json\"", &["s.toml:8: data.partition", "none.json", "fix:"]),
        ("test = 360", "test = 360\npartition = \"Cargo.toml\"", &["s.toml:8: data.partition", "no partition file"]),
        ("test = 360", "test = 2000", &["s.toml:7: data.test = 2000", "fix: choose 1 to 1796"]),
        (
            "test = 360",
            "test = 360\nheterogeneity = { kind = \"gamma\", gamma = 2.0 }",
            &["s.toml:8: data.heterogeneity", "gamma = 2\n", "fix: give a number from 0 to 1"],
        ),
        (
            "rule = [",
            swept,
            &["s.toml:19: data.heterogeneity", "data.heterogeneity = gamma:gamma=2.0, rule", "fix: give"],
        ),
    ] {
        let study = Study::read("s.toml", &SMALL.replacen(from, to, 1)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let error = run_into(&study, &out, Options::default()).unwrap_err();
        let message = study.located("s.toml", &error).unwrap().to_string();
        for part in expected {
            assert!(message.contains(part), "{part} in {message}");
        }
        assert!(!out.exists());
    }
}

#[test]
fn two_keys_that_say_who_holds_what_are_refused_together() {
    for idle in ["heterogeneity = { kind = \"iid\" }", "partition_seed = 3"] {
        let message = refused(&SMALL.replace("test = 360", &format!("test = 360\npartition = \"who.json\"\n{idle}")));
        let key = idle.split(' ').next().unwrap();
        for part in ["s.toml:8: data.partition", &format!("fix: remove data.{key} or data.partition")] {
            assert!(message.contains(part), "{part} in {message}");
        }
    }
}

#[test]
fn the_copy_of_a_study_runs_from_its_results_and_has_the_same_runs() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [home, first, second] = folders.each_ref().map(tempfile::TempDir::path);
    let fixed = SMALL.replace("test = 360", "test = 360\nsplit_seed = 1");
    let skewed = fixed.replace("split_seed = 1", "split_seed = 1\nheterogeneity = { kind = \"extreme\" }");
    let skewed = Study::read("s.toml", &skewed).unwrap();
    let library = Library::new(home);
    let digest = library.load(&skewed.runs[0].scenario.plan.data).unwrap().digest;
    let file = library.prepare(&skewed.runs[0].scenario.plan).unwrap().partition_file(digest);
    std::fs::write(home.join("who.json"), serde_json::to_vec_pretty(&file).unwrap()).unwrap();
    let text = fixed.replace("split_seed = 1", "split_seed = 1\npartition = \"who.json\" # as in the pilot");
    let study = Study::read("s.toml", &text).unwrap();
    run(&study, &library, first, Options::default(), &AtomicBool::new(false), &|_| {}).unwrap();
    let copy = std::fs::read_to_string(first.join("study.toml")).unwrap();
    assert!(copy.contains("partition = \"partitions/") && copy.contains("# as in the pilot"), "{copy}");
    // Whatever lies where the first one was read is not asked for again.
    std::fs::remove_file(home.join("who.json")).unwrap();
    let again = Study::read("study.toml", &copy).unwrap();
    run(&again, &Library::new(first), second, Options::default(), &AtomicBool::new(false), &|_| {}).unwrap();
    let csv = |folder: &Path| std::fs::read(folder.join("runs.csv")).unwrap();
    assert!(csv(first) == csv(second), "runs differ");
    let verified = verify::verify(first, home, 3).unwrap();
    assert!(verified.checked.len() == 3 && verified.different.is_empty(), "{verified:?}");
}

#[test]
fn the_mean_of_the_last_rounds_leaves_the_untrained_model_out() {
    let at = |round, accuracy| Measured { round, accuracy, ..Measured::default() };
    let measured = vec![at(0, 0.1), at(2, 0.5), at(4, 0.7)];
    let finished = results::Finished { id: String::new(), measured, classes: Vec::new(), partition: String::new() };
    for (last, mean) in [(1, 0.7), (3, 0.6), (5, 0.6), (10, 0.6)] {
        assert!((Summary::of(&finished, last).mean_of_last - mean).abs() < 1e-12, "{last}");
    }
}

#[test]
fn rounds_are_a_parquet_file_that_others_can_read() {
    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    let study = Study::read("s.toml", SMALL).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let outcome = run_into(&study, folder.path(), Options::default()).unwrap();
    let file = std::fs::File::open(folder.path().join("rounds.parquet")).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    let rows: usize = outcome.finished.iter().map(|one| one.measured.len()).sum();
    // Rounds 0, 2, 4 and 5 of ten runs.
    assert_eq!((rows, reader.metadata().file_metadata().num_rows()), (40, 40));
    let mut last = (String::new(), -1);
    for row in reader.get_row_iter(None).unwrap() {
        let row = row.unwrap();
        let column = |name: &str| row.get_column_iter().find(|(column, _)| *column == name).unwrap().1.to_string();
        let here = (column("run"), column("round").parse::<i64>().unwrap());
        assert!(here > last, "{here:?} after {last:?}");
        last = here;
    }
}

#[test]
fn a_comparison_says_what_changed_and_what_did_not() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let other =
        SMALL.replace("momentum = 0.5", "momentum = 0.0").replace("{ kind = \"gaussian\" }", "{ kind = \"constant\" }");
    let other = other.replace("kind\" = \"gaussian\"", "kind\" = \"constant\"");
    for (text, folder) in [SMALL, &other].into_iter().zip(&folders) {
        run_into(&Study::read("s.toml", text).unwrap(), folder.path(), Options::default()).unwrap();
    }
    let same = compare::compare(folders[0].path(), folders[0].path()).unwrap();
    assert!(same.cells.len() == 5 && same.cells.iter().all(|cell| cell.identical && !cell.separate));
    let changed = compare::compare(folders[0].path(), folders[1].path()).unwrap();
    assert_eq!((changed.cells.len(), changed.only_first.len(), changed.only_second.len()), (4, 1, 1));
    assert!(changed.cells.iter().any(|cell| !cell.identical));
    let refused = |folder: &Path| compare::compare(folders[0].path(), folder).unwrap_err().to_string();
    let (empty, lost) = (tempfile::tempdir().unwrap(), folders[1].path().join("lost"));
    for folder in [empty.path(), &lost] {
        let message = refused(folder);
        assert!(message.starts_with(&format!("{} holds no finished study", folder.display())), "{message}");
    }
    std::fs::write(empty.path().join("runs.csv"), "run,seed\na,1\n").unwrap();
    let message = refused(empty.path());
    assert!(message.starts_with(&format!("{}: its runs.csv is damaged", empty.path().display())), "{message}");
}

#[test]
fn every_preset_that_lacks_nothing_is_a_study_and_the_others_say_what_they_lack() {
    for preset in preset::PRESETS {
        if !preset.lacks.is_empty() {
            let missing = preset.missing(|_| true).unwrap();
            assert!(preset.lacks.iter().all(|lack| missing.contains(lack)), "{missing}");
            continue;
        }
        assert_eq!(preset.missing(|_| true), None);
        let study = Study::read(preset.name, preset.text).unwrap();
        assert!(!study.runs.is_empty(), "{}", preset.name);
    }
}
