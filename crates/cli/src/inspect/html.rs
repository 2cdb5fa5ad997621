//! A page for a browser with all that is known of a store's files. It needs nothing but itself: no scripts, no other files.

use std::fmt::{self, Write};

use super::Inspection;
use super::grid::{Column, Grid};
use super::{picture, text};

/// How many colours there are for levels.
pub(super) const COLOURS: u8 = 7;

/// The content security policy forbids everything but the styles that stand here: whatever a key may hold, nothing is run or loaded.
const HEAD: &str = "<!DOCTYPE html>
<html lang=\"en\"><head><meta charset=\"utf-8\">
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<style>
:root { color-scheme: light dark; --text: #1d2733; --dim: #66717e; --line: #d5dbe2; --back: #fff; --plot: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --text: #dfe5ec; --dim: #94a0ad; --line: #38424e; --back: #14181d; --plot: #1b2128; }
}
body { margin: 24px auto; max-width: 1240px; padding: 0 20px; background: var(--back); color: var(--text); font: 14px/1.45 system-ui, sans-serif; }
h1 { font-size: 20px; margin: 0 0 12px; overflow-wrap: anywhere; }
h2 { font-size: 15px; margin: 28px 0 8px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 18px; margin: 0; }
dt { color: var(--dim); }
dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 14px 3px 0; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--dim); font-weight: 500; }
.number { text-align: right; }
td.text { font-family: ui-monospace, monospace; font-size: 12.5px; }
p { color: var(--dim); margin: 4px 0; }
svg { display: block; width: 100%; height: auto; font: 11px system-ui, sans-serif; }
svg text { fill: var(--dim); }
.end { text-anchor: end; } .middle { text-anchor: middle; }
.plot { fill: var(--plot); stroke: var(--line); }
.tick { stroke: var(--line); }
.table { stroke: var(--dim); stroke-dasharray: 2 3; }
.horizon { stroke: #d33; stroke-dasharray: 6 4; }
.log { fill: var(--dim); fill-opacity: .18; }
.file { fill-opacity: .45; stroke-width: 1; vector-effect: non-scaling-stroke; }
.file:hover { fill-opacity: .85; }
.chip { display: inline-block; width: 12px; height: 12px; margin: 0 5px 0 14px; vertical-align: -1px; }
.chip:first-child { margin-left: 0; }
.level0 { fill: #e4572e; stroke: #b8401c; background: #e4572e; }
.level1 { fill: #2f7ed8; stroke: #1f5ea6; background: #2f7ed8; }
.level2 { fill: #2ca58d; stroke: #1c7a67; background: #2ca58d; }
.level3 { fill: #d9a514; stroke: #a67c08; background: #d9a514; }
.level4 { fill: #8e5cc2; stroke: #68409a; background: #8e5cc2; }
.level5 { fill: #5f8b3a; stroke: #456a26; background: #5f8b3a; }
.level6 { fill: #b04a78; stroke: #863158; background: #b04a78; }
</style>
";

/// Text inside of an element or an attribute.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            other => f.write_char(other),
        })
    }
}

/// The page.
pub(super) fn page(inspection: &Inspection) -> String {
    let mut out = HEAD.to_owned();
    // Writing to a string does not fail.
    body(inspection, &mut out).ok();
    out
}

fn body(inspection: &Inspection, out: &mut String) -> fmt::Result {
    let name = Escaped(&inspection.directory);
    writeln!(out, "<title>{name}: files of a Thermocline store</title></head><body>\n<h1>{name}</h1>\n<dl>")?;
    for (name, value) in text::facts(inspection) {
        writeln!(out, "<dt>{name}</dt><dd>{}</dd>", Escaped(&value))?;
    }
    out.push_str("</dl>\n");
    if !inspection.files.is_empty() {
        out.push_str("<h2>keys and versions</h2>\n<p>");
        for level in inspection.levels.keys() {
            write!(out, "<span class=\"chip level{}\"></span>level {level}", picture::colour(*level))?;
        }
        out.push_str("</p>\n");
        out.push_str(&picture::svg(inspection)?);
        out.push_str(
            "<p>A rectangle for each file: its keys by rank among the first and last keys of all files, and its versions. ",
        );
        out.push_str("Point at one to see what it is. A grey band is what is in the log and in memory only.</p>\n");
    }
    for (name, grid) in text::grids(inspection) {
        writeln!(out, "<h2>{name}</h2>")?;
        put(&grid, out)?;
    }
    out.push_str("</body></html>\n");
    Ok(())
}

fn put(grid: &Grid, out: &mut String) -> fmt::Result {
    let class = |column: &Column| match column {
        Column::Text(_) => "text",
        Column::Number(_) => "number",
    };
    out.push_str("<div class=\"wide\"><table>\n<tr>");
    for column in &grid.columns {
        write!(out, "<th class=\"{}\">{}</th>", class(column), Escaped(column.head()))?;
    }
    out.push_str("</tr>\n");
    for row in &grid.rows {
        out.push_str("<tr>");
        for (cell, column) in row.iter().zip(&grid.columns) {
            write!(out, "<td class=\"{}\">{}</td>", class(column), Escaped(cell))?;
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_text_is_escaped() {
        let text = Escaped("<a b=\"c\" d='e'>&amp;").to_string();
        assert_eq!(text, "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;amp;");
    }
}
