//! `testudo join` from outside: two processes train what a third one serves.

use serde_json::Value;
use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

fn testudo(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testudo"));
    command.args(words).env_remove("TESTUDO_SERVER").stdin(Stdio::null());
    command
}

/// `testudo serve` on a free port; killed when dropped.
struct Serving {
    child: Child,
    url: String,
    folder: tempfile::TempDir,
}

impl Serving {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = testudo(&["serve", "--listen", "127.0.0.1:0", "--web", "off", "--json", "--data-dir"]);
        command.arg(folder.path().join("data")).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let url = format!("http://{}", ready["address"].as_str().unwrap());
        Self { child, url, folder }
    }

    /// Creates a task for two clients from the starter model, with three rounds.
    fn create(&self, name: &str) {
        self.create_with(name, "size = 2", 3, "");
    }

    /// Creates a task from the starter model.
    fn create_with(&self, name: &str, cohort: &str, rounds: u64, rest: &str) {
        let folder = self.folder.path().join(name);
        let done = testudo(&["init", "--dir"]).arg(&folder).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        let toml = format!(
            "name = \"{name}\"\nrounds = {rounds}\n[model]\ninitial = \"model.safetensors\"\n[cohort]\n{cohort}\n\
             phase_limit_s = 60\n[rule]\nkind = \"mean\"\n{rest}"
        );
        let task = folder.join("task.toml");
        fs::write(&task, toml).unwrap();
        let done = testudo(&["task", "create"]).arg(&task).args(["--server", &self.url]).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    fn join(&self, task: &str, words: &[&str]) -> Child {
        let mut command = testudo(&["join", "--server", &self.url, "--task", task]);
        command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(output: &Output) -> Vec<String> {
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success(), "{stdout} {}", String::from_utf8_lossy(&output.stderr));
    stdout.lines().map(ToString::to_string).collect()
}

#[test]
fn two_processes_train_a_task_to_its_end() {
    let serving = Serving::start();
    serving.create("digits");
    let one = serving.join("digits", &["--clients", "2", "--index", "0", "--json"]);
    let two = serving.join("digits", &["--clients", "2", "--index", "1", "--name", "second"]);
    let (one, two) = (one.wait_with_output().unwrap(), two.wait_with_output().unwrap());

    let objects: Vec<Value> = lines(&one).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 4, "{objects:?}");
    for (index, object) in objects[..3].iter().enumerate() {
        assert_eq!((&object["event"], &object["outcome"]), (&"round".into(), &"recorded".into()), "{object}");
        assert_eq!(object["round"], index as u64 + 1, "{object}");
    }
    assert_eq!((&objects[3]["event"], &objects[3]["why"]), (&"ended".into(), &"finished".into()));
    assert_eq!(
        (&objects[1]["verdicts"][0]["round"], &objects[1]["verdicts"][0]["verdict"]),
        (&1.into(), &"accepted".into())
    );
    assert_eq!(objects[3]["verdicts"][0]["round"], 3, "the last verdict comes with the end: {}", objects[3]);
    let accuracy = |object: &Value| object["accuracy_before"].as_f64().unwrap();
    assert!(accuracy(&objects[2]) > accuracy(&objects[0]) + 0.3, "{objects:?}");

    let two = lines(&two);
    assert_eq!(two.len(), 4, "{two:?}");
    assert!(two[1].contains("round   2") && two[1].contains("round 1: accepted"), "{two:?}");
    assert!(two[3].starts_with("finished after 3 rounds"), "{two:?}");
}

#[test]
fn clients_say_what_their_task_permits_and_leave() {
    let serving = Serving::start();
    let privacy = "[encoding]\nclip_l2 = 1.0\n[privacy]\nmechanism = \"tree\"\npopulation = \"phones\"\n\
                   noise_multiplier = 4.0\nbudget_epsilon = 50.0\ndelta = 1e-6\nclients = 100000\nparticipations = 2\n\
                   separation = 2\n";
    serving.create_with("rare", "size = 2", 4, privacy);
    let words = |index: &'static str| ["--clients", "4", "--index", index];
    let begun = std::time::Instant::now();
    let mut clients = vec![serving.join("rare", &["--clients", "4", "--index", "0", "--json"])];
    clients.extend(["1", "2", "3"].map(|index| serving.join("rare", &words(index))));
    let outputs: Vec<Output> = clients.into_iter().map(|client| client.wait_with_output().unwrap()).collect();
    assert!(begun.elapsed() < std::time::Duration::from_secs(25), "nobody waits for what does not come");
    let objects: Vec<Value> = lines(&outputs[0]).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (end, others) = objects.split_last().unwrap();
    assert!(end["why"] == "limit_reached" || end["why"] == "finished", "{end}");
    let waits: Vec<&Value> = others.iter().filter(|object| object["event"] == "waiting").collect();
    assert!(waits.len() <= 2 && others.len() - waits.len() == 2, "two rounds: {objects:?}");
    for wait in &waits {
        assert_eq!((&wait["why"], &wait["limit"]["participations"]), (&"too_soon".into(), &2.into()), "{wait}");
    }
    let said: String = outputs[1..].iter().flat_map(lines).collect::<Vec<_>>().join("\n");
    assert!(said.contains("limit_reached after 2 rounds: this task takes a client in at most 2 rounds"), "{said}");
    assert!(
        said.contains("waiting: this task takes a client in at most 2 rounds, at least 2 apart; the next"),
        "{said}"
    );
    let show = |words: &[&str]| {
        let done = testudo(words).args(["--server", &serving.url]).output().unwrap();
        lines(&done).join("\n")
    };
    let shown = show(&["task", "show", "rare"]);
    assert!(shown.contains("a client    takes part in at most 2 rounds, at least 2 apart"), "{shown}");
    let object: Value = serde_json::from_str(&show(&["task", "show", "rare", "--json"])).unwrap();
    assert_eq!(object["task"]["participation_limit"]["gap"], 2, "{object}");
}

#[test]
fn a_csv_file_is_trained_on_and_rounds_can_be_limited() {
    let serving = Serving::start();
    serving.create("csv");
    let file = serving.folder.path().join("own.csv");
    write_csv(&file);
    let file = file.to_str().unwrap();
    let words = ["--data", file, "--label", "class", "--rounds", "1", "--json"];
    let one = serving.join("csv", &[&words[..], &["--name", "a"]].concat());
    let two = serving.join("csv", &[&words[..], &["--name", "b"]].concat());
    for child in [one, two] {
        let objects: Vec<Value> =
            lines(&child.wait_with_output().unwrap()).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(objects.last().unwrap()["why"], "rounds_done", "{objects:?}");
        assert_eq!(objects.len(), 2, "{objects:?}");
    }
}

/// 64 features and ten classes, as the starter model takes; the class is the first column.
fn write_csv(path: &Path) {
    let names: Vec<String> = (0..64).map(|feature| format!("f{feature}")).collect();
    let mut text = format!("class,{}\n", names.join(","));
    for row in 0..40 {
        let values: Vec<String> = (0..64).map(|feature| ((row * 7 + feature * 3) % 17).to_string()).collect();
        text += &format!("{},{}\n", row % 10, values.join(","));
    }
    fs::write(path, text).unwrap();
}

/// Runs a command that must succeed; its JSON.
fn json(words: &[&str]) -> Value {
    let output = testudo(words).arg("--json").output().unwrap();
    serde_json::from_str(lines(&output).last().unwrap()).unwrap()
}

#[test]
fn certified_clients_take_part_in_a_masked_task() {
    let serving = Serving::start();
    let path = |name: &str| serving.folder.path().join(name).to_str().unwrap().to_string();
    let authority = json(&["identity", "new", &path("authority.key")])["public_key"].as_str().unwrap().to_string();
    let members = ["a", "b", "c"];
    for name in members {
        let (key, certificate) = (path(&format!("{name}.key")), path(&format!("{name}.json")));
        json(&["identity", "new", &key]);
        let public = json(&["identity", "show", &key])["public_key"].as_str().unwrap().to_string();
        let issue = ["identity", "certify", "--authority-key", &path("authority.key"), "--client", name];
        json(&[&issue[..], &["--public-key", &public, "--out", &certificate]].concat());
    }
    let visibility = format!(
        "[visibility]\nmasking = \"pairwise\"\ngroup_size = 3\nstep_limit_s = 60\nauthority = \"{authority}\"\n\
         accept_weak_guarantee = \"a test\"\n[encoding]\nclip_l2 = 10.0\n"
    );
    serving.create_with("masked", "size = 3\nminimum = 3", 1, &visibility);
    let task = json(&["task", "show", "masked", "--server", &serving.url]);
    let server_key = task["task"]["server_key"].as_str().unwrap();
    // In a folder of its own: it looks at where a server would keep its files.
    let doctor = testudo(&["doctor", "--json", "--server", &serving.url]).current_dir(serving.folder.path()).output();
    let doctor: Value = serde_json::from_slice(&doctor.unwrap().stdout).unwrap();
    assert!(doctor.to_string().contains(server_key), "{doctor}");

    let insisting = ["--require-masking", "--min-group", "3", "--allow-weak-guarantee", "--server-key", server_key];
    let running: Vec<Child> = members
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let index = index.to_string();
            let (key, certificate) = (path(&format!("{name}.key")), path(&format!("{name}.json")));
            let answers = path(&format!("{name}.answers"));
            let who = ["--name", name, "--clients", "3", "--index", &index, "--json", "--answers", &answers];
            let identity = ["--signing-key", &key, "--certificate", &certificate, "--authority", &authority];
            serving.join("masked", &[&who[..], &insisting, &identity].concat())
        })
        .collect();
    for child in running {
        let output = child.wait_with_output().unwrap();
        let objects: Vec<Value> = lines(&output).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            (&objects[0]["outcome"], &objects[1]["why"]),
            (&"recorded".into(), &"finished".into()),
            "{objects:?}"
        );
    }
    assert_eq!(fs::read_to_string(path("a.answers")).unwrap().lines().count(), 1);

    let round = json(&["round", "show", "masked", "--server", &serving.url]);
    let group = &round["round"]["groups"]["groups"][0];
    assert_eq!(group["survivors"].as_array().unwrap().len(), 3, "{round}");
    assert_eq!(round["round"]["clients"][0]["norm"], Value::Null, "{round}");
    let shown = lines(&testudo(&["round", "show", "masked", "--server", &serving.url]).output().unwrap()).join("\n");
    assert!(shown.contains("override      \"a test\"") && shown.contains("threshold"), "{shown}");
    let listed = lines(&testudo(&["round", "list", "masked", "--server", &serving.url]).output().unwrap()).join("\n");
    assert!(listed.contains("1 of 1"), "{listed}");
}

#[test]
fn a_client_decides_which_masked_rounds_it_joins() {
    let serving = Serving::start();
    let visibility = "[visibility]\nmasking = \"pairwise\"\ngroup_size = 3\naccept_weak_guarantee = \"a test\"\n\
                      [encoding]\nclip_l2 = 10.0\n";
    serving.create_with("weak", "size = 3\nminimum = 3", 1, visibility);
    serving.create("clear");
    let key = "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29";
    let small = ["--min-group", "3"];
    for (task, clients, words, part) in [
        ("weak", 3, &[][..], "groups of 3, but the policy asks for at least 16"),
        ("weak", 3, &small[..], "accepts a weak guarantee"),
        ("weak", 3, &["--min-group", "3", "--allow-weak-guarantee", "--server-key", key], "not the server's known key"),
        ("weak", 3, &["--min-group", "3", "--allow-weak-guarantee", "--authority", key], "enrolment authority"),
        ("clear", 2, &["--require-masking"], "would show this client's update"),
        ("clear", 2, &small, "in groups of at least 3"),
    ] {
        // A round opens once everybody has checked in, and all of them leave it.
        let names: Vec<String> = (0..clients).map(|number| format!("d{number}")).collect();
        let running = names.iter().map(|name| serving.join(task, &[words, &["--name", name]].concat()));
        for child in running.collect::<Vec<_>>() {
            let output = child.wait_with_output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(8), "{words:?}: {stderr}");
            assert!(stderr.contains(part) && stderr.contains("--min-group"), "{words:?}: {stderr}");
        }
    }
}

#[test]
fn identities_are_made_once_kept_private_and_certified_for_one_client() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (key, authority, certificate) = (path("a.key"), path("authority.key"), path("a.json"));
    let public = json(&["identity", "new", &key])["public_key"].as_str().unwrap().to_string();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    }
    json(&["identity", "new", &authority]);
    let text = fs::read_to_string(&key).unwrap();
    let issue = ["identity", "certify", "--authority-key", &authority, "--client", "a"];
    json(&[&issue[..], &["--public-key", &public, "--out", &certificate]].concat());
    fs::write(path("cut.key"), &text[..40]).unwrap();
    let other = json(&["identity", "new", &path("b.key")])["public_key"].as_str().unwrap().to_string();
    let join = ["join", "--task", "digits", "--signing-key"];
    for (words, code, part) in [
        (vec!["identity", "new", &key], 9, "already there"),
        (vec!["identity", "show", &path("cut.key")], 4, "testudo identity new"),
        (vec!["identity", "show", "/no/such.key"], 6, "/no/such.key"),
        ([&issue[..], &["--public-key", "12", "--out", &path("x")]].concat(), 2, "64 hexadecimal digits"),
        ([&issue[..], &["--public-key", &public, "--out", &certificate]].concat(), 9, "already there"),
        ([&join[..], &[&key, "--name", "b", "--certificate", &certificate]].concat(), 4, "the certificate is a's"),
        ([&join[..], &[&path("b.key"), "--name", "a", "--certificate", &certificate]].concat(), 4, "another key"),
        (
            [&join[..], &[&key, "--name", "a", "--certificate", &certificate, "--authority", &other]].concat(),
            4,
            "--authority",
        ),
        (vec!["join", "--task", "digits", "--certificate", &certificate], 2, "--signing-key"),
        (vec!["join", "--task", "digits", "--answers", "/no/such/place"], 2, "--answers"),
    ] {
        let output = testudo(&words).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {stderr}");
        assert!(stderr.contains(part), "{words:?}: {stderr}");
        assert!(!stderr.contains(&text[30..60]), "a key is never shown: {stderr}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let serving = Serving::start();
    let narrow = serving.folder.path().join("narrow.csv");
    fs::write(&narrow, "1,2,0\n3,4,1\n").unwrap();
    let narrow = narrow.to_str().unwrap();
    serving.create("digits");
    for (words, code, part) in [
        (&["--task", "other"][..], 6, "other"),
        (&["--task", "digits", "--index", "3"], 2, "from 0 to 0"),
        (&["--task", "digits", "--data", "/no/such.csv"], 6, "/no/such.csv"),
        (&["--task", "digits", "--data", narrow, "--label", "class"], 2, "class"),
        (&["--task", "digits", "--learning-rate", "0"], 2, "--learning-rate"),
        (&["--task", "digits", "--name", "No Name"], 4, "a-z"),
        (&["--task", "digits", "--cert", "a.pem"], 2, "--key"),
    ] {
        let output = testudo(&["join", "--server", &serving.url]).args(words).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {stderr}");
        assert!(stderr.contains(part), "{words:?}: {stderr}");
    }
    // Data that do not fit show with the first model, which needs both clients.
    let one = serving.join("digits", &["--data", narrow, "--name", "a"]);
    let two = serving.join("digits", &["--data", narrow, "--name", "b"]);
    for child in [one, two] {
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("64 features and 10 classes, the data have 2 and 2"), "{stderr}");
    }
}
