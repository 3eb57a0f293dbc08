//! A rule on the command line: its kind, or a table of TOML.

use crate::exit::{Exit, Failure};
use testudo_aggregate::{RuleConfig, catalogue};

/// Reads `krum`, or `kind = "krum"\nbyzantine = 2` (line breaks may be written `\n`). A kind alone takes `byzantine`
/// and the defaults of its other parameters. The rule must be able to take `rows` rows.
///
/// # Errors
/// An unknown kind, a parameter out of range, too few rows: with what would be right.
pub(crate) fn parse(text: &str, byzantine: usize, rows: usize) -> Result<RuleConfig, Failure> {
    parse_for(text, byzantine, rows, "clients")
}

/// The same where rows are called something else than clients.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_for(text: &str, byzantine: usize, rows: usize, called: &str) -> Result<RuleConfig, Failure> {
    let refused = |why: String| {
        let kinds: Vec<&str> = catalogue().iter().map(|info| info.kind).collect();
        let next = format!("write a kind ({}) or TOML: 'kind = \"krum\"\\nbyzantine = 2'", kinds.join(", "));
        Failure::new(Exit::Config, format!("cannot use --rule {}", crate::format::clean(text)), why).next(next)
    };
    let rule = if text.contains('=') {
        let text = text.replace("\\n", "\n");
        toml::from_str::<RuleConfig>(&text).map_err(|error| refused(error.message().to_string()))?
    } else {
        RuleConfig::with_byzantine(text, byzantine).map_err(|error| refused(error.to_string()))?
    };
    rule.rule().check(rows).map_err(|error| {
        let next = format!("use more than {rows} {called}, or declare fewer byzantine ones in --rule");
        Failure::new(Exit::Config, format!("the rule {rule} does not work with {rows} {called}"), error.to_string())
            .next(next)
    })?;
    Ok(rule)
}

/// The rule as the `[rule]` section of a `task.toml`.
///
/// # Errors
/// If it cannot be written, which is a bug.
pub(crate) fn section(rule: &RuleConfig) -> Result<String, Failure> {
    let text = toml::to_string(rule)
        .map_err(|error| Failure::new(Exit::Internal, format!("cannot write the rule {rule}"), error.to_string()))?;
    Ok(format!("[rule]\n{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_alone_takes_the_given_byzantine_and_a_table_its_own() {
        assert_eq!(parse("krum", 3, 16).unwrap().to_string(), "krum (byzantine = 3)");
        assert_eq!(parse("mean", 3, 16).unwrap().to_string(), "mean");
        let table = parse("kind = \"trimmed_mean\"\\nbyzantine = 2", 3, 16).unwrap();
        assert_eq!(table.to_string(), "trimmed_mean (byzantine = 2)");
    }

    #[test]
    fn impossible_rules_are_refused_with_the_fix() {
        for (text, byzantine, rows, part) in [
            ("crum", 1, 16, "krum"),
            ("krum", 7, 16, "krum (byzantine = 7) does not work with 16 clients"),
            ("kind = \"krum\"", 1, 16, "byzantine"),
            ("kind = \"krum\"\nbyzantin = 1", 1, 16, "byzantin"),
            ("kind = ", 1, 16, "cannot use --rule"),
        ] {
            let failure = parse(text, byzantine, rows).unwrap_err();
            assert_eq!(failure.exit, Exit::Config);
            assert!(failure.text().contains(part), "{text}: {}", failure.text());
        }
    }

    #[test]
    fn every_rule_comes_back_from_its_section() {
        for info in catalogue() {
            let rule = RuleConfig::with_byzantine(info.kind, 2).unwrap();
            let table: toml::Table = toml::from_str(&section(&rule).unwrap()).unwrap();
            assert_eq!(table["rule"].clone().try_into::<RuleConfig>().unwrap(), rule);
        }
    }
}
