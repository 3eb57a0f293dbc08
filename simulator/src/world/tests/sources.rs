//! Where examples come from, and how they are divided.

use super::*;

fn plan(data: &str, workload: &str) -> Result<Arc<Scenario>, String> {
    let text = format!(
        "rounds = 30\n[data]\ntest = 100\n{data}\n[workload]\n{workload}\n[population]\nclients = 8\n\
         [training]\nbatch = 50\n[optimizer]\nkind = \"fedavg\"\nlearning_rate = 0.1\n[rule]\nkind = \"mean\"\n"
    );
    let table = toml::from_str(&text).map_err(|error| error.to_string())?;
    Scenario::from_table(&table).map(Arc::new).map_err(|error| error.to_string())
}

#[test]
fn generated_tasks_measure_the_distance_from_their_optimum() {
    for (task, workload) in [
        ("{ kind = \"linear\", examples = 900, width = 6, noise = 0.1 }", "kind = \"linear\""),
        ("{ kind = \"points\", examples = 900, width = 6, groups = 8 }", "kind = \"quadratic\"\ncondition = 5"),
    ] {
        let data = format!("source = \"synthetic\"\ntask = {task}");
        let scenario = plan(&data, workload).unwrap();
        let state = finished(&scenario, Route::Shortest);
        let (first, last) = (state.measured[0].excess.unwrap(), state.measured.last().unwrap().excess.unwrap());
        assert!(last < 0.4 * first, "{task}: {first} to {last}");
        assert_eq!(state.measured.len(), 4);
    }
    let digits = finished(&scenario("kind = \"mean\"", "kind = \"none\"", ""), Route::Shortest);
    assert_eq!(digits.measured[0].excess, None);
}

#[test]
fn the_seed_of_a_generated_task_is_told_apart_by_the_data_digest() {
    let of = |seed: u64| {
        let data = format!(
            "source = \"synthetic\"\ntask = {{ kind = \"mixture\", examples = 300, width = 4, classes = 3 }}\ntask_seed = {seed}"
        );
        let scenario = plan(&data, "kind = \"softmax\"").unwrap();
        let digest = Library::default().load(&scenario.plan.data).unwrap().digest;
        scenario.id(&digest)
    };
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
}

#[test]
fn a_division_that_a_study_wrote_is_read_again_and_must_fit() {
    let folder = tempfile::tempdir().unwrap();
    let (base, softmax) = ("source = \"digits\"\nsplit_seed = 3", "kind = \"softmax\"");
    let library = || Library::new(folder.path());
    let skewed = plan(&format!("{base}\nheterogeneity = {{ kind = \"extreme\" }}"), softmax).unwrap();
    let data = library().load(&skewed.plan.data).unwrap();
    let written = library().prepare(&skewed.plan).unwrap().partition_file(data.digest.clone());
    let write = |file: &PartitionFile| {
        std::fs::write(folder.path().join("who.json"), serde_json::to_vec(file).unwrap()).unwrap();
    };
    write(&written);
    let imported = plan(&format!("{base}\npartition = \"who.json\""), softmax).unwrap();
    let read = library().prepare(&imported.plan).unwrap();
    assert_eq!(read.parts(), written.clients);
    let identity = library().load(&imported.plan.data).unwrap().identity();
    assert_ne!(imported.id(&identity), imported.id(&data.digest), "what the file says is part of the run");
    let refused = |file: &PartitionFile, text: &str| {
        write(file);
        let scenario = plan(text, softmax).unwrap();
        library().prepare(&scenario.plan).unwrap_err().to_string()
    };
    let text = format!("{base}\npartition = \"who.json\"");
    let changed = |change: fn(&mut PartitionFile)| {
        let mut file = written.clone();
        change(&mut file);
        file
    };
    for (file, part) in [
        (changed(|file| file.data.replace_range(..1, "x")), "another data set"),
        (changed(|file| drop(file.clients.pop())), "7 clients in the file, 8"),
        (changed(|file| file.clients[0][0] = file.clients[1][0]), "given out twice"),
        (changed(|file| file.clients[2][0] = 1697), "example 1697 of 1697"),
    ] {
        assert!(refused(&file, &text).contains(part), "{part}");
    }
    assert!(refused(&written, &text.replace("split_seed = 3", "split_seed = 4")).contains("data.split_seed"));
    std::fs::write(folder.path().join("who.json"), "[]").unwrap();
    assert!(library().load(&imported.plan.data).unwrap_err().to_string().contains("no partition file"));
}

#[test]
fn columns_and_files_are_found_by_their_keys() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::from("kind,a,b\n");
    (0..400).for_each(|row| text.push_str(&format!("{},{},{}\n", row % 2, row % 2, row % 7)));
    std::fs::write(folder.path().join("some.csv"), text).unwrap();
    let scenario = plan("source = \"csv\"\npath = \"some.csv\"\nlabels = \"kind\"", "kind = \"softmax\"").unwrap();
    let data = Library::new(folder.path()).prepare(&scenario.plan).unwrap();
    assert_eq!((data.of(0).width(), data.of(0).classes(), data.test().len()), (2, 2, 100));
}

#[test]
fn keys_of_another_source_and_missing_ones_are_refused_with_the_fix() {
    for (data, parts) in [
        ("source = \"digits\"\npath = \"x\"", ["data.path", "digits", "remove it"]),
        ("source = \"csv\"\npath = \"x\"\nfeatures = \"y\"", ["data.features", "csv", "remove it"]),
        ("source = \"npz\"", ["data.path", "npz", "relative to the study file"]),
        ("source = \"idx\"\npath = \"x\"", ["data.labels", "idx", "file's name"]),
        ("source = \"synthetic\"", ["data.task", "synthetic", "kind = \"linear\""]),
        ("source = \"digits\"\ntask_seed = 3", ["data.task_seed", "digits", "remove it"]),
    ] {
        let message = plan(data, "kind = \"softmax\"").unwrap_err();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}

#[test]
fn every_partition_can_be_asked_for() {
    for heterogeneity in [
        "{ kind = \"iid\" }",
        "{ kind = \"dirichlet\", alpha = 0.5 }",
        "{ kind = \"gamma\", gamma = 0.5 }",
        "{ kind = \"shards\", per_client = 2 }",
        "{ kind = \"label_quantity\", labels = 3 }",
        "{ kind = \"extreme\" }",
    ] {
        let scenario =
            plan(&format!("source = \"digits\"\nheterogeneity = {heterogeneity}"), "kind = \"softmax\"").unwrap();
        let data = Library::default().prepare(&scenario.plan).unwrap();
        assert_eq!(data.parts().iter().map(Vec::len).sum::<usize>(), 1_697, "{heterogeneity}");
    }
    let wrong = plan("source = \"digits\"\nheterogeneity = { kind = \"gamma\", gamma = 2.0 }", "kind = \"softmax\"");
    let message = Library::default().prepare(&wrong.unwrap().plan).unwrap_err().to_string();
    assert!(message.contains("data.heterogeneity") && message.contains("gamma = 2"), "{message}");
}
