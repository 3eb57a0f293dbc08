//! `testudo simulate` and `testudo study`: files, exit codes, and that nothing is lost.

use crate::common::{expect, json, text};
use std::{fs, path::Path};

const STUDY: &str = r#"
name = "small"
rounds = 4
seeds = [1, 2]
[data]
source = "digits"
test = 360
[workload]
kind = "softmax"
[population]
clients = 9
[adversary]
colluders = 2
[sweep.grid]
rule = [{ kind = "mean" }, { kind = "median", byzantine = 2 }]
"adversary.attack" = [{ kind = "none" }, { kind = "gaussian", sd = 5.0 }]
"#;

fn study(folder: &Path, study: &str) -> String {
    let path = folder.join("study.toml");
    fs::write(&path, study).unwrap();
    text(&path).to_owned()
}

#[test]
fn a_study_leaves_tables_figures_and_a_report_and_resumes_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let file = study(folder.path(), STUDY);
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let object = json(0, &["simulate", &file, "--out", text(&one), "--jobs", "1"]);
    assert_eq!((&object["status"], &object["runs"]), (&"finished".into(), &8.into()));
    assert_eq!(object["cells"].as_array().unwrap().len(), 4);
    let names = ["runs.csv", "rounds.parquet", "report.html", "tables.md", "tables.tex", "cells.json", "manifest.json"];
    assert!(names.iter().all(|name| one.join(name).metadata().unwrap().len() > 0));
    // As after a stop in the middle: half of the journal, and half a line.
    fs::create_dir(&two).unwrap();
    let journal = fs::read(one.join("journal.jsonl")).unwrap();
    fs::write(two.join("journal.jsonl"), &journal[..journal.len() / 2]).unwrap();
    let (_, stderr) = expect(9, &["simulate", &file, "--out", text(&two)]);
    assert!(stderr.contains("--resume"), "{stderr}");
    expect(0, &["simulate", &file, "--out", text(&two), "--resume", "--jobs", "3"]);
    for name in names {
        assert!(fs::read(one.join(name)).unwrap() == fs::read(two.join(name)).unwrap(), "{name} differs");
    }
    let compared = json(0, &["study", "compare", text(&one), text(&two)]);
    assert!(compared["cells"].as_array().unwrap().iter().all(|cell| cell["identical"] == true));
    let verified = json(0, &["study", "verify", text(&one), "--sample", "2"]);
    assert_eq!(verified["checked"].as_array().unwrap().len(), 2);
    let lost = folder.path().join("lost");
    let (_, stderr) = expect(6, &["study", "compare", text(&one), text(&lost)]);
    assert!(stderr.contains(&format!("{} holds no finished study", lost.display())), "{stderr}");
    // A number that was changed by hand is found.
    let forged =
        String::from_utf8(journal).unwrap().replacen("\"round\":4,\"accuracy\":0.", "\"round\":4,\"accuracy\":0.1", 8);
    fs::write(one.join("journal.jsonl"), forged).unwrap();
    expect(7, &["study", "verify", text(&one), "--sample", "2"]);
}

#[test]
fn a_dry_run_lists_the_runs_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = study(folder.path(), STUDY);
    let object = json(0, &["simulate", &file, "--dry-run"]);
    assert_eq!(object["runs"].as_array().unwrap().len(), 8);
    assert!(object["estimated_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let (one, _) = STUDY.split_once("[sweep.grid]").unwrap();
    let one = one.replace("[1, 2]", "[1]").replace("rounds = 4", "rounds = 1") + "[rule]\nkind = \"mean\"\n";
    let (stdout, _) = expect(0, &["simulate", &study(folder.path(), &one), "--dry-run", "--jobs", "1"]);
    assert!(stdout.contains("\n1 run, 1 round, about ") && stdout.trim_end().ends_with(" on 1 thread"), "{stdout}");
}

#[test]
fn mistakes_are_refused_with_line_and_fix_before_a_folder_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    for (from, to, expected) in [
        ("clients = 9", "cleints = 9", "study.toml:11: population.cleints"),
        ("byzantine = 2", "byzantine = 7", "rule"),
        ("source = \"digits\"", "source = \"csv\"\npath = \"no.csv\"", "study.toml:7: data.path = \"no.csv\""),
    ] {
        let file = study(folder.path(), &STUDY.replace(from, to));
        let (_, stderr) = expect(3, &["simulate", &file, "--out", text(&out)]);
        assert!(stderr.contains(expected), "{stderr}");
        assert!(!out.exists());
    }
    expect(2, &["simulate", text(&folder.path().join("none.toml")), "--out", text(&out)]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said_plainly_and_keeps_what_was_finished() {
    use std::process::Command;
    let folder = tempfile::tempdir().unwrap();
    let file = study(folder.path(), STUDY);
    let out = folder.path().join("out");
    // Files of at most 4 KiB: the journal outgrows that before the study ends.
    let binary = env!("CARGO_BIN_EXE_testudo");
    let script = format!("trap '' XFSZ; ulimit -f 4; exec {binary} simulate {file} --out {} --jobs 1", out.display());
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && stderr.contains("--resume"), "{stderr}");
    expect(0, &["simulate", &file, "--out", text(&out), "--resume"]);
    let whole = folder.path().join("whole");
    expect(0, &["simulate", &file, "--out", text(&whole)]);
    assert!(fs::read(out.join("runs.csv")).unwrap() == fs::read(whole.join("runs.csv")).unwrap());
}

#[test]
fn a_preset_whose_data_are_absent_is_skipped_and_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let object = json(0, &["simulate", "--preset", "byzfl-mnist", "--out", text(folder.path())]);
    assert_eq!(object["status"], "skipped");
    let missing = object["missing"].as_str().unwrap();
    assert!(missing.contains("train-images-idx3-ubyte.gz") && missing.contains("convolutional"), "{missing}");
    let (stdout, _) = expect(0, &["simulate", "--preset", "digits-quick", "--print"]);
    assert!(stdout.contains("[sweep.grid]"));
    let presets = json(0, &["simulate", "--list-presets"]);
    assert!(presets["presets"].as_array().unwrap().len() >= 10);
    let (_, stderr) = expect(6, &["simulate", "--preset", "nonsense", "--out", text(folder.path())]);
    assert!(stderr.contains("digits-grid"), "{stderr}");
}

#[test]
fn a_real_server_with_real_clients_gives_the_same_bytes_as_this_process() {
    let folder = tempfile::tempdir().unwrap();
    let attacks = "[{ kind = \"none\" }, { kind = \"sign_flip\", scale = 5.0 }, { kind = \"non_finite\" }, \
                   { kind = \"wrong_shape\" }, { kind = \"oversize\" }, { kind = \"late\" }, \
                   { kind = \"false_examples\", claimed = 0 }, { kind = \"alie_opt\" }, { kind = \"stale\", rounds = 2 }]";
    let all = STUDY.replace("[{ kind = \"none\" }, { kind = \"gaussian\", sd = 5.0 }]", attacks);
    let all = all.replace("seeds = [1, 2]", "seeds = [1]").replace("clients = 9", "clients = 9\ndropout = 0.1");
    let file = study(folder.path(), &all.replace("[adversary]", "[cohort]\nminimum = 5\n[adversary]"));
    let (here, wire) = (folder.path().join("here"), folder.path().join("wire"));
    expect(0, &["simulate", &file, "--out", text(&here)]);
    let object = json(0, &["simulate", &file, "--out", text(&wire), "--wire"]);
    assert_eq!(object["runs"], 18);
    for name in ["runs.csv", "rounds.parquet", "cells.json"] {
        assert!(fs::read(here.join(name)).unwrap() == fs::read(wire.join(name)).unwrap(), "{name} differs");
    }
}

#[test]
fn over_the_wire_the_server_draws_cohorts_and_encodings_travel() {
    let folder = tempfile::tempdir().unwrap();
    let some =
        STUDY.replace("[adversary]", "[cohort]\nsize = 4\nminimum = 3\n[encoding]\nuplink = \"int8\"\n[adversary]");
    let some = some.replace("byzantine = 2", "byzantine = 1").replace("seeds = [1, 2]", "seeds = [1]");
    let file = study(folder.path(), &some);
    let object = json(0, &["simulate", &file, "--out", text(&folder.path().join("wire")), "--wire"]);
    assert_eq!((&object["status"], &object["runs"]), (&"finished".into(), &4.into()));
}

#[test]
fn what_a_server_cannot_play_is_refused_before_one_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    for (from, to, expected) in [
        ("[population]", "[training]\nweight_decay = 0.1\n[population]", "training.weight_decay"),
        ("[adversary]", "[visibility]\ngroup_size = 3\n[adversary]", "visibility.group_size"),
        ("[adversary]", "[cohort]\nsize = 5\n[adversary]\nplacement = \"per_round\"", "adversary.placement"),
    ] {
        let file = study(folder.path(), &STUDY.replacen(from, to, 1).replace("byzantine = 2", "byzantine = 1"));
        let (_, stderr) = expect(3, &["simulate", &file, "--out", text(&out), "--wire"]);
        assert!(stderr.contains(expected) && stderr.contains("write"), "{stderr}");
        assert!(!out.exists());
    }
}

#[test]
fn every_attack_is_listed_with_what_it_sees() {
    let object = json(0, &["simulate", "--list-attacks"]);
    let attacks = object["attacks"].as_array().unwrap();
    assert!(attacks.len() >= 41);
    let optimised = attacks.iter().find(|one| one["kind"] == "alie_opt").unwrap();
    assert_eq!(optimised["knowledge"], "omniscient");
    let (stdout, _) = expect(0, &["simulate", "--list-attacks"]);
    assert!(stdout.contains("neurotoxin") && stdout.contains("own colluders"), "{stdout}");
}

#[test]
fn a_calibration_says_whether_quarantine_may_act() {
    let folder = tempfile::tempdir().unwrap();
    let file = study(folder.path(), STUDY);
    let object = json(0, &["calibrate", &file, "--rounds", "3", "--target", "0.5"]);
    assert_eq!((&object["quarantine_allowed"], object["settings"].as_array().unwrap().len()), (&true.into(), 2));
    let (stdout, stderr) = expect(7, &["calibrate", &file, "--rounds", "3", "--target", "0.001"]);
    assert!(stdout.contains("refused") && stderr.contains("detection.alpha"), "{stdout} {stderr}");
    expect(2, &["calibrate", &file, "--target", "2"]);
}
