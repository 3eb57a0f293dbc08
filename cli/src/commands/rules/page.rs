//! The catalogue as pages: for the terminal, and as the Markdown under `docs/rules/`.

use std::fmt::Write as _;
use testudo_aggregate::{RuleInfo, catalogue, pre_catalogue};

/// One entry for the terminal.
pub(super) fn text(info: &RuleInfo, is_pre: bool) -> String {
    let mut text = format!("{} (kind = \"{}\")\n  {}\n\n", info.name, info.kind, info.definition);
    for (label, value) in facts(info) {
        let _ = writeln!(text, "  {label:<11} {value}");
    }
    let _ = writeln!(text, "\n  Parameters");
    if info.parameters.is_empty() {
        let _ = writeln!(text, "    none");
    }
    for parameter in info.parameters {
        let default = parameter.default.map_or("no default".to_string(), |default| format!("default {default}"));
        let _ = writeln!(
            text,
            "    {:<11} {} ({default})\n                it must be {}",
            parameter.key, parameter.meaning, parameter.range
        );
    }
    let _ = writeln!(text, "\n  When it fails");
    for case in info.fails {
        let _ = writeln!(text, "    - {case}");
    }
    let _ = write!(text, "\n  {}", sample(info, is_pre).replace('\n', "\n  "));
    text
}

/// Every page with its file name, the index first.
pub(super) fn pages() -> Vec<(String, String)> {
    let mut pages = vec![("README.md".to_string(), index())];
    for (list, is_pre) in [(catalogue(), false), (pre_catalogue(), true)] {
        pages.extend(list.iter().map(|info| (format!("{}.md", info.kind), page(info, is_pre))));
    }
    pages
}

fn facts(info: &RuleInfo) -> [(&'static str, &'static str); 6] {
    [
        ("formula", info.formula),
        ("valid for", info.range),
        ("withstands", info.breakdown),
        ("bound", info.bound),
        ("cost", info.cost),
        ("source", info.source),
    ]
}

/// The `[rule]` section to start from.
fn sample(info: &RuleInfo, is_pre: bool) -> String {
    let given = |key: &str, example: Option<f64>| match example {
        _ if key == "byzantine" => Some("byzantine = 2".to_string()),
        Some(example) => Some(format!("{key} = {example}")),
        None => None,
    };
    let keys: Vec<String> =
        info.parameters.iter().filter_map(|parameter| given(parameter.key, parameter.example)).collect();
    if is_pre {
        let entry = match keys.is_empty() {
            true => format!("\"{}\"", info.kind),
            false => format!("{{ kind = \"{}\", {} }}", info.kind, keys.join(", ")),
        };
        return format!("[rule]\nkind = \"trimmed_mean\"\nbyzantine = 2\npre = [{entry}]");
    }
    let mut text = format!("[rule]\nkind = \"{}\"", info.kind);
    for key in keys {
        let _ = write!(text, "\n{key}");
    }
    text
}

fn page(info: &RuleInfo, is_pre: bool) -> String {
    let mut text = format!("# {} (`{}`)\n\n", info.name, info.kind);
    let stage = if is_pre { "Pre-aggregation" } else { "Rule" };
    let _ = writeln!(text, "{stage}: {}.\n\n    {}\n", info.definition, info.formula);
    let _ = writeln!(text, "| | |\n|---|---|");
    for (label, value) in facts(info).into_iter().skip(1) {
        let _ = writeln!(text, "| {label} | {} |", cell(value));
    }
    let _ = writeln!(text, "\n## Parameters\n");
    if info.parameters.is_empty() {
        let _ = writeln!(text, "None.");
    } else {
        let _ = writeln!(text, "| key | meaning | must be | default |\n|---|---|---|---|");
        for parameter in info.parameters {
            let default = parameter.default.unwrap_or("none: give it");
            let [meaning, range, default] = [parameter.meaning, parameter.range, default].map(cell);
            let _ = writeln!(text, "| `{}` | {meaning} | {range} | {default} |", parameter.key);
        }
    }
    let _ = writeln!(text, "\n```toml\n{}\n```\n\n## When it fails\n", sample(info, is_pre));
    for case in info.fails {
        let _ = writeln!(text, "- {case}");
    }
    text
}

fn index() -> String {
    let mut text = String::from(
        "# Rules\n\nWritten by `testudo rules --markdown docs/rules` from the tables in `crates/aggregate`; a test \
         compares them.\n\nn is the number of rows, f is `byzantine`, d the number of coordinates, ρ = f/(n−2f); κ is that of \
         (f, κ)-robustness\n(Allouah et al. 2023).\n",
    );
    for (title, list) in [("Rules", catalogue()), ("Pre-aggregations", pre_catalogue())] {
        let _ = writeln!(
            text,
            "\n## {title}\n\n| kind | computes | valid for | withstands | bound |\n|---|---|---|---|---|"
        );
        for info in list {
            let [definition, range, breakdown, bound] =
                [info.definition, info.range, info.breakdown, info.bound].map(cell);
            let kind = info.kind;
            let _ = writeln!(text, "| [`{kind}`]({kind}.md) | {definition} | {range} | {breakdown} | {bound} |");
        }
    }
    text
}

/// A text as a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};
    use testudo_aggregate::RuleConfig;

    #[test]
    fn the_pages_in_the_tree_are_those_of_the_tables() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rules");
        let pages = pages();
        for (name, text) in &pages {
            let written = fs::read_to_string(folder.join(name)).unwrap_or_default();
            assert_eq!(&written, text, "{name}: run `testudo rules --markdown docs/rules`");
        }
        let files = fs::read_dir(&folder).unwrap().count();
        assert_eq!(files, pages.len(), "a page of a rule that is gone");
    }

    #[test]
    fn every_sample_is_a_valid_rule() {
        for (list, is_pre) in [(catalogue(), false), (pre_catalogue(), true)] {
            for info in list {
                let text = sample(info, is_pre);
                let table: toml::Table = toml::from_str(&text).unwrap();
                let rule = table["rule"].clone().try_into::<RuleConfig>();
                assert!(rule.is_ok(), "{text}\n{}", rule.unwrap_err());
            }
        }
    }
}
