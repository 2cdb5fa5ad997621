//! The picture of a store's files: from left to right the keys, from the bottom up the versions, and a rectangle for each file.
//!
//! Keys have an order but no distances, so what counts from left to right is the rank of a key among the first and last keys of all
//! files. Levels lie above each other as readers ask them: files of level 0 are drawn last.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use thermocline::{Bytes, Table, TierFile, Version};

use super::Inspection;
use super::html::Escaped;
use super::text::{shortened, shown_key};
use crate::files::{counts_of, ratio};
use crate::sizes::Size;

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 26.0;
const PLOT_HEIGHT: f64 = 400.0;
const BOTTOM: f64 = 40.0;
const PLOT_WIDTH: f64 = WIDTH - LEFT - RIGHT;
/// What is narrower cannot be seen or pointed at.
const RECTANGLE_MIN: f64 = 2.5;
/// Where names of tables or keys come closer, they would cover each other.
const NAME_WIDTH: f64 = 96.0;
/// Of the picture's script, on the safe side.
const CHARACTER_WIDTH: f64 = 6.2;
const VERSION_TICKS: u64 = 5;

/// From a first or last key of a file to its place.
struct Scale<'a> {
    /// All first and last keys, in order.
    points: Vec<&'a (Table, Bytes)>,
    oldest: Version,
    /// Above the newest version.
    end: Version,
}

impl<'a> Scale<'a> {
    fn new(files: &'a [TierFile], last: Version) -> Self {
        let points: BTreeSet<&(Table, Bytes)> = files.iter().flat_map(|file| [&file.first, &file.last]).collect();
        let oldest = files.iter().map(|file| file.versions.0).min().unwrap_or_default();
        let newest = files.iter().map(|file| file.versions.1).max().unwrap_or_default().max(last);
        Self { points: points.into_iter().collect(), oldest, end: Version(newest.0.saturating_add(1)) }
    }

    fn rank(&self, key: &(Table, Bytes)) -> usize {
        self.points.partition_point(|point| *point < key)
    }

    /// Where the key of a rank begins.
    fn x(&self, rank: usize) -> f64 {
        LEFT + PLOT_WIDTH * ratio(rank as u64, self.points.len().max(1) as u64)
    }

    /// Where a version begins, from the bottom up.
    fn y(&self, version: Version) -> f64 {
        let above = version.0.saturating_sub(self.oldest.0);
        let all = self.end.0.saturating_sub(self.oldest.0).max(1);
        TOP + PLOT_HEIGHT * (1.0 - ratio(above.min(all), all))
    }
}

/// The picture as an SVG element, for stores that have files.
pub(super) fn svg(inspection: &Inspection) -> Result<String, fmt::Error> {
    let files = &inspection.files;
    let scale = Scale::new(files, inspection.stats.last_version);
    let mut out = String::new();
    let height = TOP + PLOT_HEIGHT + BOTTOM;
    write!(out, "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"files by keys and versions\">")?;
    write!(out, "<rect class=\"plot\" x=\"{LEFT}\" y=\"{TOP}\" width=\"{PLOT_WIDTH}\" height=\"{PLOT_HEIGHT}\"/>")?;
    unflushed(inspection, &scale, &mut out)?;
    version_ticks(&scale, &mut out)?;
    tables(&scale, &mut out)?;
    let mut from_below: Vec<&TierFile> = files.iter().collect();
    from_below.sort_by_key(|file| std::cmp::Reverse(file.level));
    for file in from_below {
        rectangle(file, &scale, &mut out)?;
    }
    horizon(inspection.stats.horizon, &scale, &mut out)?;
    keys(&scale, &mut out)?;
    out.push_str("</svg>\n");
    Ok(out)
}

fn rectangle(file: &TierFile, scale: &Scale<'_>, out: &mut String) -> fmt::Result {
    let (left, right) = (scale.x(scale.rank(&file.first)), scale.x(scale.rank(&file.last) + 1));
    let (oldest, newest) = file.versions;
    let (top, bottom) = (scale.y(Version(newest.0.saturating_add(1))), scale.y(oldest));
    let width = (right - left).max(RECTANGLE_MIN);
    let height = (bottom - top).max(RECTANGLE_MIN);
    let (left, top) = (left.min(WIDTH - RIGHT - width), top.min(TOP + PLOT_HEIGHT - height));
    write!(out, "<rect class=\"file level{}\" x=\"{left:.2}\" y=\"{top:.2}\"", colour(file.level))?;
    write!(out, " width=\"{width:.2}\" height=\"{height:.2}\"><title>")?;
    let counts = counts_of(file);
    let text = format!(
        "{}, level {}, {}\nfrom {}\nto {}\nversions {oldest} to {newest}\n{} keys, {} entries, {} tombstones",
        file.name,
        file.level,
        Size(file.size_bytes),
        shown_key(&file.first),
        shown_key(&file.last),
        counts.keys,
        counts.entries,
        counts.tombstones
    );
    write!(out, "{}</title></rect>", Escaped(&text))
}

/// Which of the page's colours a level has.
pub(super) fn colour(level: u8) -> u8 {
    level % super::html::COLOURS
}

/// The versions that no file has yet.
fn unflushed(inspection: &Inspection, scale: &Scale<'_>, out: &mut String) -> fmt::Result {
    let (checkpoint, last) = (inspection.stats.checkpoint, inspection.stats.last_version);
    if checkpoint >= last {
        return Ok(());
    }
    let (top, bottom) = (scale.y(scale.end), scale.y(Version(checkpoint.0.saturating_add(1))));
    write!(out, "<rect class=\"log\" x=\"{LEFT}\" y=\"{top:.2}\" width=\"{PLOT_WIDTH}\" height=\"{:.2}\">", bottom - top)?;
    write!(out, "<title>versions {} to {last} are in the log and in memory</title></rect>", checkpoint.0.saturating_add(1))
}

fn version_ticks(scale: &Scale<'_>, out: &mut String) -> fmt::Result {
    let all = scale.end.0.saturating_sub(scale.oldest.0).saturating_sub(1);
    let ticks: BTreeSet<u64> =
        (0..=VERSION_TICKS).map(|tick| all / VERSION_TICKS * tick + all % VERSION_TICKS * tick / VERSION_TICKS).collect();
    for tick in ticks {
        let version = Version(scale.oldest.0.saturating_add(tick));
        let y = scale.y(version);
        write!(out, "<line class=\"tick\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.2}\" y2=\"{y:.2}\"/>", WIDTH - RIGHT)?;
        write!(out, "<text class=\"end\" x=\"{}\" y=\"{:.2}\">{version}</text>", LEFT - 6.0, y + 4.0)?;
    }
    write!(out, "<text x=\"4\" y=\"14\">version</text>")
}

/// Where each table begins, if there are several.
fn tables(scale: &Scale<'_>, out: &mut String) -> fmt::Result {
    let mut before = None;
    let mut free_from = LEFT;
    let is_one = scale.points.first().map(|(table, _)| table) == scale.points.last().map(|(table, _)| table);
    for (rank, (table, _)) in scale.points.iter().enumerate() {
        if is_one || before == Some(table) {
            continue;
        }
        before = Some(table);
        let x = scale.x(rank);
        let (top, bottom) = (TOP - 6.0, TOP + PLOT_HEIGHT);
        write!(out, "<line class=\"table\" x1=\"{x:.2}\" x2=\"{x:.2}\" y1=\"{top}\" y2=\"{bottom}\"/>")?;
        if x >= free_from && x + NAME_WIDTH <= WIDTH {
            write!(out, "<text x=\"{:.2}\" y=\"{:.2}\">{table}</text>", x + 2.0, TOP - 8.0)?;
            free_from = x + NAME_WIDTH;
        }
    }
    Ok(())
}

fn horizon(horizon: Version, scale: &Scale<'_>, out: &mut String) -> fmt::Result {
    if horizon <= scale.oldest || horizon >= scale.end {
        return Ok(());
    }
    let y = scale.y(horizon);
    write!(out, "<line class=\"horizon\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.2}\" y2=\"{y:.2}\"/>", WIDTH - RIGHT)?;
    write!(out, "<text class=\"end\" x=\"{}\" y=\"{:.2}\">horizon {horizon}</text>", WIDTH - RIGHT - 4.0, y - 4.0)
}

/// Some keys, below where they are, as far as there is room for them.
fn keys(scale: &Scale<'_>, out: &mut String) -> fmt::Result {
    let y = TOP + PLOT_HEIGHT + 18.0;
    let mut free_from = 0.0;
    let last = scale.points.last().map(|(_, key)| shortened(key)).unwrap_or_default();
    let last_from = WIDTH - RIGHT - width(&last);
    for (rank, (_, key)) in scale.points.iter().enumerate() {
        let (x, text) = (scale.x(rank), shortened(key));
        let to = x + width(&text);
        if x >= free_from && (to < last_from || rank == 0) {
            write!(out, "<line class=\"tick\" x1=\"{x:.2}\" x2=\"{x:.2}\" y1=\"{:.2}\" y2=\"{:.2}\"/>", y - 18.0, y - 12.0)?;
            write!(out, "<text x=\"{x:.2}\" y=\"{y}\">{}</text>", Escaped(&text))?;
            free_from = to;
        }
    }
    if scale.points.len() > 1 && free_from <= last_from {
        write!(out, "<text class=\"end\" x=\"{}\" y=\"{y}\">{}</text>", WIDTH - RIGHT, Escaped(&last))?;
    }
    write!(out, "<text class=\"middle\" x=\"{}\" y=\"{}\">keys, in order</text>", LEFT + PLOT_WIDTH / 2.0, y + 15.0)
}

/// Roughly how wide a text becomes, with some space behind it.
fn width(text: &str) -> f64 {
    ratio(text.chars().count() as u64, 1) * CHARACTER_WIDTH + 14.0
}
