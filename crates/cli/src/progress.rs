//! Progress bars on standard error. Where that is no terminal, indicatif draws nothing.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `total` units called `unit`; a spinner that counts where the total is not known.
pub(crate) fn bar(total: Option<u64>, unit: &str) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => {
            (ProgressBar::new(total), format!("{{msg}} [{{wide_bar}}] {{human_pos}}/{{human_len}} {unit}, {{eta}} left"))
        }
        None => (ProgressBar::new_spinner(), format!("{{msg}} {{spinner}} {{human_pos}} {unit}, {{elapsed}}")),
    };
    // A template that indicatif refuses costs the look of the bar, nothing else.
    match ProgressStyle::with_template(&template) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}
