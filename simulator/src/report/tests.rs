use super::*;

fn client(name: &str, attack: Option<&str>) -> ClientReport {
    ClientReport { name: name.to_owned(), attack: attack.map(str::to_owned) }
}

fn verdict(round: u64, client: usize, outcome: Outcome, reason: &str) -> VerdictReport {
    VerdictReport { round, client, outcome, reason: reason.to_owned() }
}

fn run() -> RunReport {
    RunReport {
        name: "defended".to_owned(),
        rule: "krum".to_owned(),
        description: "Four attackers.".to_owned(),
        accuracy: vec![(0, 0.1), (1, 0.5), (2, 0.925)],
        clients: vec![
            client("honest-1", None),
            client("bad-1", Some("sign_flip:scale=10")),
            client("bad-2", Some("ipm")),
        ],
        verdicts: vec![
            verdict(1, 0, Outcome::Accepted, ""),
            verdict(1, 1, Outcome::Rejected, "far from the others"),
            verdict(1, 2, Outcome::Accepted, ""),
            verdict(2, 0, Outcome::Rejected, "far from the others"),
            verdict(2, 1, Outcome::Clipped, "norm above the limit"),
            verdict(2, 2, Outcome::Trimmed, "extreme coordinates"),
            verdict(2, 77, Outcome::Rejected, "unknown client"),
        ],
    }
}

fn report() -> Report {
    Report {
        title: "A title".to_owned(),
        summary: vec!["It worked.".to_owned(), "In detail.".to_owned()],
        runs: vec![run(), RunReport { name: "clean".to_owned(), ..RunReport::default() }],
        settings: vec![("clients".to_owned(), "3".to_owned())],
        command: "testudo demo --seed 7".to_owned(),
        is_repeatable: true,
    }
}

#[test]
fn verdicts_are_right_when_poison_is_held_back_and_honest_updates_are_not_rejected() {
    let tally = run().tally();
    assert_eq!(tally, Tally { poisoned: 4, poisoned_held_back: 3, honest: 2, honest_rejected: 1 });
    assert_eq!((tally.right(), tally.wrong()), (4, 2));
    assert_eq!(run().final_accuracy(), Some(0.925));
    assert_eq!(RunReport::default().final_accuracy(), None);
}

#[test]
fn the_page_holds_summary_figures_chart_verdicts_settings_and_command_in_that_order() {
    let page = report().to_html();
    let parts = [
        "<h1>A title</h1>",
        "<p>It worked.</p>",
        "92.5 %",
        "<h2>Results</h2>",
        "3 of 4",
        "<h2>Accuracy over the rounds</h2>",
        "test accuracy",
        "<polyline",
        "<svg class=\"verdicts\"",
        "bad-1, round 1: rejected (far from the others)",
        "<th>clients</th><td>3</td>",
        "testudo demo --seed 7",
    ];
    let mut from = 0;
    for part in parts {
        let at = page[from..].find(part).unwrap_or_else(|| panic!("{part} missing or out of order"));
        from += at;
    }
    let mut written = Vec::new();
    report().write_html(&mut written).unwrap();
    assert_eq!(written, page.as_bytes());
}

#[test]
fn wrong_verdicts_are_framed_and_others_are_not() {
    let page = report().to_html();
    assert_eq!(page.matches("class=\"accepted wrong\"").count(), 1);
    assert_eq!(page.matches("class=\"rejected wrong\"").count(), 1);
    assert_eq!(page.matches(" wrong\" x=").count(), 2);
    assert_eq!(page.matches("<rect class=\"accepted\"").count(), 1);
}

#[test]
fn a_run_of_accepted_honest_updates_is_told_in_a_sentence() {
    let mut run = run();
    run.clients.iter_mut().for_each(|client| client.attack = None);
    run.verdicts = vec![verdict(1, 0, Outcome::Accepted, ""), verdict(1, 1, Outcome::Accepted, "")];
    let page = Report { runs: vec![run], ..Report::default() }.to_html();
    assert!(page.contains("2 updates accepted, none rejected"));
    assert!(!page.contains("<svg class=\"verdicts\""));
}

#[test]
fn all_text_is_escaped_everywhere() {
    let hostile = "<script>alert('x')</script>\"&";
    let mut report = report();
    report.title = hostile.to_owned();
    report.summary.push(hostile.to_owned());
    report.settings.push((hostile.to_owned(), hostile.to_owned()));
    report.command = hostile.to_owned();
    let run = &mut report.runs[0];
    run.name = hostile.to_owned();
    run.rule = hostile.to_owned();
    run.description = hostile.to_owned();
    run.clients[0].name = hostile.to_owned();
    run.clients[1].attack = Some(hostile.to_owned());
    run.verdicts[1].reason = hostile.to_owned();
    let page = report.to_html();
    assert!(!page.contains("<script") && !page.contains("alert('x')"));
    assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;"));
}

#[test]
fn the_page_loads_nothing() {
    let page = report().to_html();
    assert!(page.contains("default-src 'none'"));
    let without_namespace = page.replace("http://www.w3.org/2000/svg", "");
    for forbidden in ["http://", "https://", "<link", "<img", "@import", "url("] {
        assert!(!without_namespace.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn empty_and_destroyed_runs_have_a_page_too() {
    let empty = Report::default().to_html();
    assert!(empty.contains("</html>") && !empty.contains("<h2>"));
    let mut report = report();
    report.runs[0].accuracy = vec![(1, f64::NAN), (u64::MAX, f64::INFINITY)];
    assert!(!report.to_html().contains("Accuracy over the rounds"));
    assert!(report.to_html().contains("destroyed"));
    report.runs[0].accuracy = vec![(3, 0.5)];
    assert!(report.to_html().contains("Accuracy over the rounds"));
}

#[test]
fn large_studies_are_cut_with_a_note_and_keep_the_poisoned_clients() {
    let mut run = run();
    run.clients = (0..500).map(|index| client(&format!("c{index}"), (index == 499).then_some("ipm"))).collect();
    run.verdicts =
        (0..500).flat_map(|client| (1..=400).map(move |round| verdict(round, client, Outcome::Accepted, ""))).collect();
    let page = Report { runs: vec![run], ..Report::default() }.to_html();
    assert!(page.contains("100 of 500 clients shown"));
    assert!(page.contains("The last 300 of 400 rounds shown"));
    assert!(page.contains("c499, round 400: accepted"));
    assert!(page.len() < 6_000_000, "{}", page.len());
}

#[test]
fn the_style_sheet_knows_every_colour_the_chart_draws() {
    let many =
        (0..10).map(|index| RunReport { accuracy: vec![(1, 0.1 * f64::from(index)), (2, 0.5)], ..run() }).collect();
    let page = Report { runs: many, ..Report::default() }.to_html();
    let (style, body) = page.split_once("</style>").unwrap();
    let chart = &body[body.find("<div class=\"chart\">").unwrap()..];
    let chart = &chart[..chart.find("</div>").unwrap()];
    for attribute in ["stroke=\"#", "fill=\"#"] {
        for (at, _) in chart.match_indices(attribute) {
            let rule = &chart[at..at + attribute.len() + 7];
            assert!(style.contains(&format!(".chart [{rule}]")), "{rule}");
        }
    }
}
