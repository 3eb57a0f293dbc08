//! `testudo load` from outside.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};
use testudo_protocol::Digest;

fn load(words: &[&str]) -> (Option<i32>, Value, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_testudo"))
        .arg("load")
        .args(words)
        .arg("--json")
        .env_remove("TESTUDO_SERVER")
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let last = stdout.lines().last().unwrap_or_else(|| panic!("{stderr}"));
    (output.status.code(), serde_json::from_str(last).unwrap(), stderr)
}

fn check(object: &Value, rounds: usize, rule: &str) {
    assert_eq!((&object["clients"], &object["dimension"]), (&4.into(), &1000.into()), "{object}");
    assert_eq!((&object["rule"], &object["failures"]), (&rule.into(), &0.into()), "{object}");
    let seconds = object["seconds_per_round"].as_array().unwrap();
    assert_eq!(seconds.len(), rounds, "{object}");
    assert!(seconds.iter().all(|seconds| seconds.as_f64().unwrap() >= 0.0), "{object}");
    assert!(object["server_peak_rss_bytes"].as_u64().unwrap() > 1 << 20, "{object}");
}

#[test]
fn a_server_of_its_own_is_measured_with_either_spool() {
    for spool in ["memory", "file"] {
        let words = ["--clients", "4", "--dimension", "1000", "--rounds", "3", "--rule", "median", "--spool", spool];
        let (code, object, stderr) = load(&words);
        assert_eq!(code, Some(0), "{object} {stderr}");
        check(&object, 3, "median");
    }
}

#[test]
fn clients_may_share_connections() {
    let words = ["--clients", "4", "--dimension", "1000", "--rounds", "2", "--connections", "1"];
    let (code, object, stderr) = load(&words);
    assert_eq!(code, Some(0), "{object} {stderr}");
    assert_eq!(object["connections"], 1);
    check(&object, 2, "mean");
}

#[test]
fn clear_rounds_count_the_models_and_updates_of_each_client() {
    let mut downloads = Vec::new();
    for lean in [&[][..], &["--lean"]] {
        let words = [&["--clients", "4", "--dimension", "1000", "--rounds", "2"], lean].concat();
        let (code, object, stderr) = load(&words);
        assert_eq!(code, Some(0), "{object} {stderr}");
        assert_eq!((&object["masking"], &object["group_size"]), (&"none".into(), &1.into()), "{object}");
        assert_eq!(
            (&object["dropout"], &object["groups"], &object["lost_groups"]),
            (&0.0.into(), &0.into(), &0.into())
        );
        assert_eq!(object["bytes_up_per_client"], 4000.0, "{object}");
        downloads.push(object["bytes_down_per_client"].as_f64().unwrap());
    }
    // The model file with its header.
    assert!((4001.0..4400.0).contains(&downloads[0]), "{downloads:?}");
    assert_eq!(downloads[0], downloads[1]);
}

#[test]
fn masked_rounds_are_measured_with_clients_that_vanish() {
    let size = ["--clients", "12", "--dimension", "1000", "--rounds", "1", "--masking", "pairwise"];
    let words = [&size[..], &["--group-size", "12", "--dropout", "0.25", "--step-limit", "3"]].concat();
    let (code, object, stderr) = load(&words);
    assert_eq!((code, &object["failures"]), (Some(0), &0.into()), "{object} {stderr}");
    assert_eq!((&object["masking"], &object["group_size"]), (&"pairwise".into(), &12.into()), "{object}");
    assert_eq!((&object["dropout"], &object["vanished"]), (&0.25.into(), &3.into()), "{object}");
    assert_eq!((&object["groups"], &object["lost_groups"]), (&1.into(), &0.into()), "{object}");
    assert_eq!((&object["abandoned_rounds"], &object["step_limit_seconds"]), (&0.into(), &3.0.into()), "{object}");
    // One of twelve never uploads, one shares no keys; keys, shares, signatures and rosters come on top.
    let (up, down) = (&object["bytes_up_per_client"], &object["bytes_down_per_client"]);
    assert!((3300.0..9000.0).contains(&up.as_f64().unwrap()), "{object}");
    assert!((4400.0..20_000.0).contains(&down.as_f64().unwrap()), "{object}");
    if cfg!(target_os = "linux") {
        assert!(object["client_cpu_seconds"].as_f64().unwrap() > 0.0, "{object}");
    }
}

#[test]
fn groups_below_their_threshold_are_told_as_lost_and_not_as_failed_clients() {
    // Six of eight vanish, and a group of four needs three: no round gives a sum, and load gives up.
    let size = ["--clients", "8", "--dimension", "10", "--rounds", "1", "--masking", "pairwise", "--group-size", "4"];
    let (code, object, stderr) = load(&[&size[..], &["--dropout", "0.75", "--step-limit", "1"]].concat());
    assert_eq!(code, Some(11), "{object} {stderr}");
    let why = object["error"]["why"].as_str().unwrap();
    assert!(why.lines().all(|line| line.contains("too few groups")), "{why}");
    assert!(stderr.contains("a weak guarantee"), "{stderr}");
}

/// Writes NAME.pem and NAME.key; the certificate's digest.
fn issue(issuer: &Issuer<'static, KeyPair>, folder: &Path, name: &str, san: SanType) -> Digest {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    let server = matches!(san, SanType::IpAddress(_));
    params.subject_alt_names.push(san);
    params.extended_key_usages.push(match server {
        true => ExtendedKeyUsagePurpose::ServerAuth,
        false => ExtendedKeyUsagePurpose::ClientAuth,
    });
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
    fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    Digest::of(certificate.der())
}

/// A server that asks for certificates; killed when dropped.
struct Secure(Child, String);

impl Secure {
    fn start(folder: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(folder.join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let uri = |name: &str| SanType::URI(format!("spiffe://x/edge/load/{name}").as_str().try_into().unwrap());
        issue(&issuer, folder, "server", SanType::IpAddress([127, 0, 0, 1].into()));
        let operator = issue(&issuer, folder, "operator", uri("operator"));
        fs::create_dir(folder.join("devices")).unwrap();
        for name in ["a", "b", "c", "d"] {
            issue(&issuer, &folder.join("devices"), name, uri(name));
        }
        let path = |name: &str| folder.join(name);
        let config = format!(
            "[listen]\naddress = \"127.0.0.1:0\"\n[tls]\ncertificate = {:?}\nkey = {:?}\nclient_ca = {:?}\n\
             [access]\noperators = [\"{operator}\"]\n[storage]\ndata_dir = {:?}\n[pace]\nshortest_s = 0.05\n",
            path("server.pem"),
            path("server.key"),
            path("ca.crt"),
            path("data")
        );
        fs::write(path("server.toml"), config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_testudo"))
            .args(["serve", "--web", "off", "--json", "--config"])
            .arg(path("server.toml"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        Self(child, format!("https://{}", ready["address"].as_str().unwrap()))
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn under_mtls_every_client_has_a_certificate_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let server = Secure::start(folder.path());
    let paths = ["ca.crt", "operator.pem", "operator.key", "devices"].map(|name| folder.path().join(name));
    let [ca, cert, key, devices] = paths.each_ref().map(|path| path.to_str().unwrap());
    let size = ["--clients", "4", "--dimension", "1000", "--rounds", "2", "--server", &server.1];
    let trust = ["--ca", ca, "--cert", cert, "--key", key];
    for lean in [&[][..], &["--lean"]] {
        let words = [&size[..], &trust, &["--client-certs", devices], lean].concat();
        let (code, object, stderr) = load(&words);
        assert_eq!(code, Some(0), "{object} {stderr}");
        check(&object, 2, "mean");
    }
    // A device's certificate is no operator's, and without certificates nobody comes in.
    let device = [format!("{devices}/a.pem"), format!("{devices}/a.key")];
    let trust = ["--ca", ca, "--cert", &device[0], "--key", &device[1]];
    let (code, object, _) = load(&[&size[..], &trust, &["--client-certs", devices]].concat());
    assert_eq!((code, &object["error"]["code"]), (Some(4), &"IDENTITY".into()), "{object}");
    let (code, object, _) = load(&[&size[..], &["--ca", ca]].concat());
    assert_eq!(code, Some(10), "{object}");
    let few = [&["--clients", "5", "--server", &server.1][..], &["--ca", ca, "--cert", cert, "--key", key]].concat();
    let (code, object, _) = load(&[&few[..], &["--client-certs", devices]].concat());
    assert_eq!(code, Some(2), "{object}");
    assert!(object["error"]["why"].as_str().unwrap().contains("4 pairs"), "{object}");
}

#[test]
fn lean_clients_need_no_memory_for_models() {
    let words =
        ["--clients", "4", "--dimension", "1000", "--rounds", "3", "--rule", "krum", "--byzantine", "0", "--lean"];
    let (code, object, stderr) = load(&words);
    assert_eq!((code, &object["clients_keep_models"]), (Some(0), &false.into()), "{object} {stderr}");
    check(&object, 3, "krum");
}

#[test]
fn the_time_limit_ends_it_and_the_server_it_started() {
    let words = ["--clients", "4", "--dimension", "1000", "--rounds", "100000", "--timeout", "2"];
    let (code, object, _) = load(&words);
    assert_eq!((code, &object["error"]["code"]), (Some(10), &"UNAVAILABLE".into()), "{object}");
    assert!(object["error"]["next"].as_str().unwrap().contains("--timeout"), "{object}");
}

#[test]
fn what_cannot_be_is_refused() {
    for (words, code, part) in [
        (&["--clients", "0"][..], 2, "1..=100000"),
        (&["--dimension", "0"], 2, "1..="),
        (&["--clients", "4", "--rule", "krum", "--byzantine", "1"], 3, "krum (byzantine = 1)"),
        (&["--rule", "avg"], 3, "trimmed_mean"),
        (&["--timeout", "0"], 2, "--timeout"),
        (&["--server", "http://127.0.0.1:1"], 10, "testudo serve"),
        (&["--server", "127.0.0.1:1"], 2, "http://HOST:PORT"),
        (&["--server", "http://127.0.0.1:1", "--spool", "file"], 2, "--spool"),
        (&["--masking", "pairwise"], 2, "--group-size 16"),
        (&["--dropout", "0.1"], 2, "--masking pairwise"),
        (&["--masking", "pairwise", "--group-size", "8", "--lean"], 2, "--lean"),
        (&["--clients", "16", "--masking", "pairwise", "--group-size", "8", "--rule", "krum"], 3, "with 2 groups"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_testudo")).arg("load").args(words).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {stderr}");
        assert!(stderr.contains(part), "{words:?}: {stderr}");
    }
}
