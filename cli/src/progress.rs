//! How far a transfer is, for whoever watches standard error.

use crate::output::Output;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over `bytes` bytes; nothing is drawn unless a terminal watches.
pub(crate) fn transfer(output: &Output, what: &str, bytes: u64) -> ProgressBar {
    let target = if output.watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let template = "{prefix} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(bytes), target).with_style(style).with_prefix(what.to_string())
}
