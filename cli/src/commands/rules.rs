//! `testudo rules`: what every rule and pre-aggregation computes, takes, withstands and costs.

mod page;

use crate::{
    exit::{Exit, Failure},
    file,
    format::Table,
    output::Output,
};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use testudo_aggregate::{RuleConfig, RuleInfo, catalogue, pre_catalogue};

/// Options of `testudo rules`.
#[derive(Debug, Args)]
#[command(
    after_help = "n is the number of rows, f is `byzantine`, d the number of coordinates, ρ = f/(n−2f). κ is that of
(f, κ)-robustness (Allouah et al. 2023): the squared error is at most κ times the honest variance.

Examples:
  testudo rules                        every rule and pre-aggregation, a line each
  testudo rules krum                   one of them, with formula, parameters, source and known failures
  testudo rules --rows 20 --byzantine 4   only what is valid for 20 rows of which 4 may be bad
  testudo rules --json                 all of it for programs
  testudo rules --markdown docs/rules  one page each"
)]
pub(crate) struct Rules {
    /// The rule or pre-aggregation to explain
    #[arg(value_name = "KIND")]
    kind: Option<String>,
    /// Say which are valid for this many rows
    #[arg(long, value_name = "N", requires = "byzantine")]
    rows: Option<usize>,
    /// Say which are valid for this many bad rows
    #[arg(long, value_name = "F", requires = "rows")]
    byzantine: Option<usize>,
    /// Write one Markdown page each, and an index, into this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kind", "rows"])]
    markdown: Option<PathBuf>,
}

/// One entry of either table.
#[derive(Debug, Clone, Copy)]
struct Entry {
    info: &'static RuleInfo,
    is_pre: bool,
}

impl Rules {
    /// Prints the tables, one entry, or writes the pages.
    ///
    /// # Errors
    /// An unknown kind, or a folder that cannot be written.
    pub(crate) async fn run(self, output: &Output) -> Result<(), Failure> {
        if let Some(folder) = &self.markdown {
            std::fs::create_dir_all(folder).map_err(|error| file::unwritable(folder, &error))?;
            let mut names = Vec::new();
            for (name, text) in page::pages() {
                file::write(&folder.join(&name), text.as_bytes(), true)?;
                names.push(name);
            }
            let text = format!("{} pages in {}", names.len(), folder.display());
            return output.result(json!({ "written": names }), |_| text);
        }
        match &self.kind {
            Some(kind) => {
                let entry = find(kind)?;
                output.result(self.object(entry), |_| {
                    let verdict = match self.verdict(entry) {
                        None => String::new(),
                        Some(Ok(())) => "\n\n  valid for these rows and bad rows".into(),
                        Some(Err(why)) => format!("\n\n  not valid: {why}"),
                    };
                    page::text(entry.info, entry.is_pre) + &verdict
                })
            }
            None => {
                let entries: Vec<Entry> =
                    entries().filter(|entry| self.verdict(*entry).is_none_or(|v| v.is_ok())).collect();
                let objects = |pre| -> Vec<Value> {
                    entries.iter().filter(|entry| entry.is_pre == pre).map(|entry| self.object(*entry)).collect()
                };
                let object = json!({ "rules": objects(false), "pre": objects(true) });
                output.result(object, |output| table(&entries, self.rows.is_some(), output))
            }
        }
    }

    fn object(&self, entry: Entry) -> Value {
        let mut object = json!(entry.info);
        object["stage"] = json!(if entry.is_pre { "pre" } else { "rule" });
        if let Some(verdict) = self.verdict(entry) {
            object["valid"] = json!(verdict.is_ok());
            object["why"] = json!(verdict.err());
        }
        object
    }

    /// Whether it is valid for the given rows and bad rows, if these are given.
    fn verdict(&self, entry: Entry) -> Option<Result<(), String>> {
        let (rows, byzantine) = (self.rows?, self.byzantine?);
        let config = match entry.is_pre {
            false => RuleConfig::with_byzantine(entry.info.kind, byzantine),
            true => testudo_aggregate::PreConfig::example(entry.info.kind)
                .map(|step| RuleConfig::mean().after(vec![step], byzantine)),
        };
        Some(
            config
                .map_err(|error| error.to_string())
                .and_then(|config| config.rule().check(rows).map_err(|error| error.to_string())),
        )
    }
}

fn entries() -> impl Iterator<Item = Entry> {
    let rules = catalogue().iter().map(|info| Entry { info, is_pre: false });
    rules.chain(pre_catalogue().iter().map(|info| Entry { info, is_pre: true }))
}

fn find(kind: &str) -> Result<Entry, Failure> {
    entries().find(|entry| entry.info.kind == kind).ok_or_else(|| {
        let why = format!("there is no rule and no pre-aggregation {:?}", crate::format::clean(kind));
        let near = entries()
            .map(|entry| (strsim::jaro_winkler(entry.info.kind, kind), entry.info.kind))
            .max_by(|left, right| left.0.total_cmp(&right.0));
        let next = match near {
            Some((likeness, near)) if likeness > 0.7 => format!("did you mean {near}? `testudo rules` lists all"),
            _ => "`testudo rules` lists all".to_string(),
        };
        Failure::new(Exit::NotFound, "unknown rule", why).next(next)
    })
}

fn table(entries: &[Entry], filtered: bool, output: &Output) -> String {
    let mut lines = Vec::new();
    for (pre, title) in [(false, "Rules"), (true, "Pre-aggregations, before any rule: pre = [\"arc\", \"nnm\"]")] {
        let mut table = Table::new(&["kind", if filtered { "withstands" } else { "computes" }]);
        for Entry { info, .. } in entries.iter().filter(|entry| entry.is_pre == pre) {
            table.row([info.kind, if filtered { info.breakdown } else { info.definition }].map(String::from));
        }
        lines.push(format!("{title}\n{}", table.text(output.colour)));
    }
    lines.push(
        "`testudo rules KIND` explains one: formula, what it withstands, parameters, source, when it fails.".into(),
    );
    lines.join("\n\n")
}
