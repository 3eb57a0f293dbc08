//! The catalogue as Markdown: what stands in `docs/attacks.md`.

use std::fmt::Write;

use super::catalogue;
use crate::attack::Info;

/// Every attack with formula, source, knowledge and parameters, as one page.
pub fn page() -> String {
    let mut text = String::from(
        "# Attacks\n\nWritten by `cargo run -p testudo-simulator --example attacks_page` from the table in \
         `simulator/src/attacks.rs`; a test compares.\n\nx: own honestly trained update; μ (mu), σ (sigma): mean and \
         per-coordinate deviation (ddof 1) of the honest updates seen; n updates, f of them the colluders'. Updates are \
         changes of the model, never weights. An attack sees its own data, its colluders' updates and the released \
         models, the honest updates, or those and the deployed rule, and nothing more.\n\nAs configuration \
         `{ kind = \"ipm\", tau = 2.0 }`, in the short form `ipm:tau=2`; the first parameter needs no name. An attack \
         within another is a table, or the short form with `;` in place of `,`.\n\n| attack | sends | sees |\n\
         |---|---|---|\n",
    );
    for info in catalogue() {
        let formula = info.formula.replace('|', "\\|");
        let _ = writeln!(text, "| [`{0}`](#{0}) | {formula} | {1} |", info.kind, info.knowledge);
    }
    catalogue().iter().for_each(|info| section(&mut text, info));
    text
}

fn section(text: &mut String, info: &Info) {
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "\n## {}\n\n{}\n\nSends: `{}`. Sees: {}.",
        info.kind, info.summary, info.formula, info.knowledge
    );
    if !info.citation.is_empty() {
        let _ = writeln!(text, "\nSource: {}.", info.citation);
    }
    if info.parameters.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n| parameter | default | meaning |\n|---|---|---|");
    for parameter in info.parameters {
        let meaning = parameter.meaning.replace('|', "\\|");
        let _ = writeln!(text, "| `{}` | `{}` | {meaning} |", parameter.name, parameter.default);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_the_one_the_table_makes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/attacks.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == page(), "run `cargo run -p testudo-simulator --example attacks_page`");
    }
}
