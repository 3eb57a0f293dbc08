//! `privacy.sampling = "poisson"`: its figures, what it promises, and what is refused beside it.

use super::{privacy::PRIVATE, *};
use crate::PoissonSample;
use testudo_privacy::{
    accountant::{Mechanism, Sampling},
    budget::{ChargeMechanism, Gate},
};

fn sampled(more: &str) -> String {
    PRIVATE.replace("[privacy]", &format!("[privacy]\nsampling = \"poisson\"\n{more}"))
}

#[test]
fn a_secret_sample_is_charged_by_its_rate_at_the_order_that_suits_its_rounds() {
    let spec = spec(&sampled("registered = 5000"));
    let privacy = spec.privacy.as_ref().unwrap();
    let sample = PoissonSample { clients: 10_000, expected: 100, registered: 5000 };
    assert_eq!(spec.cohort.sample, Some(sample));
    assert_eq!((spec.cohort.minimum, spec.cohort.selected, privacy.divisor), (0, 10_000, 100.0));
    let ChargeMechanism::PoissonGaussian { rate } = privacy.charge.mechanism else { panic!("{:?}", privacy.charge) };
    assert!((0.01..0.01 + 1e-12).contains(&rate), "{rate}");
    let Gate::Renyi { order } = privacy.gate else { panic!("{:?}", privacy.gate) };
    let sampling = Sampling::Poisson { rate };
    let mechanism = Mechanism::Gaussian { noise_multiplier: 2.0, rounds: 10, sampling };
    let rdp = mechanism.report(1e-6).unwrap().accountants.iter().find(|one| one.name == "rdp").unwrap().epsilon;
    let epsilon = privacy.epsilon(10);
    assert!(epsilon >= rdp && epsilon < rdp * 1.001, "{epsilon} at order {order}, {rdp} at the best");
    let whole = privacy.budget().unamplified_epsilon_of(10).unwrap();
    let exact = super::spec(PRIVATE).privacy.unwrap().epsilon(10);
    assert!(whole == exact && epsilon < 0.2 * whole, "{epsilon} {whole} {exact}");
    assert_eq!(super::spec(PRIVATE).budget().unwrap().unamplified_epsilon_of(10), None);
}

#[test]
fn the_report_shows_both_epsilons_and_what_amplification_rests_on() {
    let all = spec(&sampled("release_step_s = 2.5")).guarantees.join("\n");
    for part in [
        "amplified by Poisson sampling at rate 0.01",
        "without amplification: a worst-case bound",
        "with probability 100 / 10000, alone and in secret",
        "takes 600 s whoever was drawn",
        "secret coin for every registered client",
        "once 10000 clients are registered (of whom about 100 are drawn), and at most 10000",
        "multiples of 2.5 s after that, so that a round comes about every 605 s",
        "not covered: who is registered; who sees the network's traffic or the server's load",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
}

#[test]
fn a_clip_may_adapt_on_a_secret_sample() {
    let privacy = spec(&sampled("adaptive_clip = { bits_noise = 5.0 }")).privacy.unwrap();
    assert!(matches!(privacy.charge.mechanism, ChargeMechanism::PoissonGaussian { .. }) && privacy.adaptive.is_some());
    let once = privacy.effective_multiplier();
    assert!((2.0 - 1e-6..2.01).contains(&once), "updates and bits together: {once}");
}

#[test]
fn what_amplification_does_not_rest_on_is_refused_with_why_and_fix() {
    let good = sampled("");
    let cases = [
        ("clients = 10000", "", "privacy.clients", "the rate is", "may register"),
        ("clients = 10000", "clients = 99", "privacy.clients", "outside 100", "may register"),
        ("clients = 10000", "clients = 1000001", "privacy.clients", "1000000", "may register"),
        ("size = 100", "size = 60000", "privacy.clients", "outside 60000", "may register"),
        ("poisson\"", "poisson\"\nregistered = 0", "privacy.registered", "outside 1", "registered before"),
        ("poisson\"", "poisson\"\nregistered = 10001", "privacy.registered", "outside 1", "registered before"),
        ("poisson\"", "poisson\"\nadjacency = \"replace_one\"", "privacy.adjacency", "there or 0", "zero_out"),
        ("gaussian", "tree", "privacy.sampling", "who takes part how often", "none"),
        ("\"mean\"", "\"trimmed_mean\"\nbyzantine = 2", "rule.kind", "fixed beforehand", "mean"),
        ("size = 100", "size = 100\nover_selection = 1.2", "cohort.over_selection", "everybody who is drawn", "remove"),
        ("size = 100", "size = 100\nminimum = 60", "cohort.minimum", "how many were drawn", "remove"),
        ("size = 100", "size = 100\ngather_s = 1", "cohort.gather_s", "whether they wait or not", "remove"),
        ("poisson", "fixed", "privacy.sampling", "one size in every round", "poisson"),
        ("poisson", "shuffle", "privacy.sampling", "is not a sampling", "poisson"),
        ("poisson\"", "none\"\nregistered = 5", "privacy.registered", "no effect", "poisson"),
        ("poisson\"", "poisson\"\nrelease_step_s = 0", "privacy.release_step_s", "outside 0.001", "0.001"),
        ("poisson\"", "poisson\"\nrelease_step_s = 601", "privacy.release_step_s", "to 600", "to 600"),
    ];
    for (from, to, key, what, fix) in cases {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        refused(&text, key, what, fix);
    }
    // A rate that large is worse than none.
    let often =
        good.replace("clients = 10000", "clients = 101").replace("delta = 1e-6", "delta = 1e-6\nrelease_step_s = 1");
    refused(&often, "privacy.sampling", "without it", "none");
    let large = good.replace("size = 100", "size = 60000").replace("clients = 10000", "clients = 200000");
    refused(&large, "cohort.size", "larger than a cohort", "50000");
}

#[test]
fn a_step_that_is_shorter_than_adding_up_is_refused_once_the_model_is_known() {
    let layout =
        |length: u64| Layout::new(vec![testudo_protocol::Tensor { name: "w".into(), shape: vec![length] }]).unwrap();
    let spec = spec(&sampled("release_step_s = 2.0"));
    assert!(spec.check_layout("task.toml", &layout(1_000_000)).is_ok());
    let error = spec.check_layout("task.toml", &layout(2_000_000)).unwrap_err();
    let problem = &error.0.list[0];
    assert!(problem.key == "privacy.release_step_s" && problem.what.contains("how many were drawn"), "{problem:?}");
    assert_eq!(problem.fix, "write release_step_s = 4");
    let error = spec.check_layout("task.toml", &layout(500_000_000)).unwrap_err();
    assert_eq!(error.0.list[0].fix, "write release_step_s = 800, and a cohort.phase_limit_s of at least that");
}
