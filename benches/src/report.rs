//! Collects the figures of all rounds, and prints them as a table and as JSON.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};

use crate::rows::{Bar, ROWS, Row, TIER_ROWS, Unit};
use thermocline_yardstick::meter::{FOREIGN_CPUS_MAX, Load, Timed};

/// One measurement of one row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) value: f64,
    pub(crate) load: Load,
    /// The same rate for each second of processor time of the measuring thread: what to look at when it had to wait for its turn.
    pub(crate) per_cpu_second: Option<f64>,
}

impl Sample {
    pub(crate) fn new(value: f64, load: Load) -> Self {
        Self { value, load, per_cpu_second: None }
    }

    /// What was counted in a slice, a second.
    pub(crate) fn of(timed: &Timed, load: Load) -> Self {
        let per_cpu_second = (!timed.cpu.is_zero()).then(|| timed.units as f64 / timed.cpu.as_secs_f64());
        Self { per_cpu_second, ..Self::new(timed.rate(), load) }
    }
}

/// All figures so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    samples: BTreeMap<&'static str, Vec<Sample>>,
    wrong: BTreeMap<&'static str, String>,
    remarks: BTreeMap<&'static str, String>,
}

/// What a row's samples come to.
#[derive(Debug)]
struct Summary {
    median: f64,
    min: f64,
    max: f64,
    /// The median of the foreign processors in the samples that counted.
    foreign_cpus: f64,
    per_cpu_second: Option<f64>,
    counted: usize,
    taken: usize,
}

impl Summary {
    /// Whether there was no quiet sample.
    fn is_disturbed(&self) -> bool {
        self.foreign_cpus > FOREIGN_CPUS_MAX
    }
}

impl Report {
    pub(crate) fn add(&mut self, name: &'static str, sample: Sample) {
        self.samples.entry(name).or_default().push(sample);
    }

    /// Voids a row: its answers were wrong, so that its figure means nothing.
    pub(crate) fn void(&mut self, name: &'static str, what: String) {
        self.wrong.entry(name).or_insert(what);
    }

    /// Notes something beside a row; a later remark replaces an earlier one.
    pub(crate) fn remark(&mut self, name: &'static str, remark: String) {
        self.remarks.insert(name, remark);
    }

    pub(crate) fn has_wrong(&self) -> bool {
        !self.wrong.is_empty()
    }

    fn summary(&self, name: &str) -> Option<Summary> {
        let all = self.samples.get(name)?;
        // Disturbed samples count only where no quiet ones are.
        let quiet: Vec<Sample> = all.iter().copied().filter(|sample| sample.load.is_quiet()).collect();
        let counted = if quiet.is_empty() { all.clone() } else { quiet };
        let values = sorted(counted.iter().map(|sample| sample.value));
        Some(Summary {
            median: median(&values)?,
            min: *values.first()?,
            max: *values.last()?,
            foreign_cpus: median(&sorted(counted.iter().map(|sample| sample.load.foreign_cpus)))?,
            per_cpu_second: median(&sorted(counted.iter().filter_map(|sample| sample.per_cpu_second))),
            counted: counted.len(),
            taken: all.len(),
        })
    }

    /// Writes the table.
    pub(crate) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let heads = ["row", "what", "median", "min..max", "bar", "", "notes"].map(str::to_owned);
        let mut lines = vec![heads];
        lines.extend(ROWS.iter().chain(TIER_ROWS).filter_map(|row| self.line(row)));
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..7).map(width).collect();
        for (number, line) in lines.iter().enumerate() {
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                let padding = " ".repeat(width - cell.chars().count());
                // Figures stand right, words left.
                if (2..5).contains(&column) { write!(out, "| {padding}{cell} ")? } else { write!(out, "| {cell}{padding} ")? }
            }
            writeln!(out, "|")?;
            if number == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let (dashes, end) = ("-".repeat(*width), if (2..5).contains(&column) { ":" } else { "-" });
                    write!(out, "|-{dashes}{end}")?;
                }
                writeln!(out, "|")?;
            }
        }
        Ok(())
    }

    fn line(&self, row: &Row) -> Option<[String; 7]> {
        let head = |rest: [String; 5]| {
            let [median, span, bar, verdict, notes] = rest;
            [row.name.to_owned(), row.what.to_owned(), median, span, bar, verdict, notes]
        };
        let bar = match row.bar {
            Bar::AtLeast(bar) => format!(">= {}", figure(row.unit, bar)),
            Bar::AtMost(bar) => format!("<= {}", figure(row.unit, bar)),
            Bar::None => String::new(),
        };
        if let Some(what) = self.wrong.get(row.name) {
            return Some(head(["WRONG".into(), String::new(), bar, "WRONG".into(), what.clone()]));
        }
        let summary = self.summary(row.name)?;
        let median = match row.unit {
            Unit::PerSecond(what) => format!("{} {what}/s", figure(row.unit, summary.median)),
            Unit::Times | Unit::Nanoseconds => figure(row.unit, summary.median),
        };
        let span = format!("{}..{}", figure(row.unit, summary.min), figure(row.unit, summary.max));
        let verdict = match row.bar.is_met(summary.median) {
            Some(true) => "ok",
            Some(false) => "MISS",
            None => "",
        };
        // Neither verdict holds for a machine that others used.
        let doubt = if summary.is_disturbed() { " !" } else { "" };
        Some(head([median, span, bar, format!("{verdict}{doubt}").trim_start().to_owned(), self.notes(row, &summary)]))
    }

    fn notes(&self, row: &Row, summary: &Summary) -> String {
        let mut notes = Vec::new();
        if summary.is_disturbed() {
            notes.push(format!("foreign {:.1} CPUs", summary.foreign_cpus));
            if let Some(rate) = summary.per_cpu_second {
                notes.push(format!("{} per CPU second", figure(row.unit, rate)));
            }
        } else if summary.counted < summary.taken {
            notes.push(format!("{} of {} samples quiet", summary.counted, summary.taken));
        }
        notes.extend(self.remarks.get(row.name).cloned());
        notes.join("; ")
    }

    /// The figures for machines: for each row its unit, bar, verdict and every sample.
    pub(crate) fn to_json(&self, header: &Value) -> Value {
        let rows: Vec<Value> = ROWS.iter().chain(TIER_ROWS).filter_map(|row| self.row_json(row)).collect();
        json!({ "machine": header, "rows": rows })
    }

    fn row_json(&self, row: &Row) -> Option<Value> {
        let summary = self.summary(row.name);
        if summary.is_none() && !self.wrong.contains_key(row.name) {
            return None;
        }
        let unit = match row.unit {
            Unit::PerSecond(what) => format!("{what}/s"),
            Unit::Times => "times".to_owned(),
            Unit::Nanoseconds => "ns".to_owned(),
        };
        let (bar, is_upper) = match row.bar {
            Bar::AtLeast(bar) => (Some(bar), false),
            Bar::AtMost(bar) => (Some(bar), true),
            Bar::None => (None, false),
        };
        let samples = self.samples.get(row.name).into_iter().flatten();
        let samples: Vec<Value> = samples
            .map(|sample| {
                let load = sample.load;
                json!({
                    "value": sample.value, "per_cpu_second": sample.per_cpu_second, "seconds": load.wall.as_secs_f64(),
                    "foreign_cpus": load.foreign_cpus, "own_cpus": load.own_cpus,
                })
            })
            .collect();
        Some(json!({
            "name": row.name, "what": row.what, "unit": unit, "bar": bar, "bar_is_upper": is_upper,
            "median": summary.as_ref().map(|summary| summary.median),
            "is_met": summary.as_ref().and_then(|summary| row.bar.is_met(summary.median)),
            "wrong": self.wrong.get(row.name), "remark": self.remarks.get(row.name), "samples": samples,
        }))
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The middle of sorted values; the mean of the two middle ones if there is an even number.
fn median(values: &[f64]) -> Option<f64> {
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len().is_multiple_of(2) { Some(f64::midpoint(*values.get(middle - 1)?, upper)) } else { Some(upper) }
}

fn figure(unit: Unit, value: f64) -> String {
    match unit {
        Unit::PerSecond(_) if value >= 9.95e6 => format!("{:.1} M", value / 1e6),
        Unit::PerSecond(_) if value >= 1e6 => format!("{:.2} M", value / 1e6),
        Unit::PerSecond(_) => format!("{:.1} k", value / 1e3),
        Unit::Times => format!("{value:.2}"),
        Unit::Nanoseconds if value >= 1e6 => format!("{:.2} ms", value / 1e6),
        Unit::Nanoseconds => format!("{value:.0} ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(value: f64, foreign_cpus: f64) -> Sample {
        Sample::new(value, Load { foreign_cpus, ..Load::default() })
    }

    fn table(report: &Report) -> String {
        let mut out = Vec::new();
        report.print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn disturbed_samples_count_only_where_there_are_no_quiet_ones() {
        let mut report = Report::default();
        for (value, foreign) in [(5e6, 0.0), (1e6, 1.0), (6e6, 0.1)] {
            report.add("get-latest", sample(value, foreign));
        }
        report.add("single", sample(1e3, 0.9));
        let table = table(&report);
        assert!(table.contains("5.50 M keys/s") && table.contains("2 of 3 samples quiet") && table.contains("ok"), "{table}");
        assert!(table.contains("foreign 0.9 CPUs") && table.contains("MISS !"), "{table}");
    }

    #[test]
    fn wrong_answers_void_a_row_and_fail_the_run() {
        let mut report = Report::default();
        report.add("load", sample(9e6, 0.0));
        report.void("load", "key 3".to_owned());
        assert!(report.has_wrong());
        let table = table(&report);
        assert!(table.contains("WRONG") && !table.contains("9.00"), "{table}");
    }

    #[test]
    fn median_of_an_even_number_lies_between() {
        assert_eq!(median(&[1.0, 2.0, 4.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0]), Some(1.5));
        assert_eq!(median(&[]), None);
    }
}
