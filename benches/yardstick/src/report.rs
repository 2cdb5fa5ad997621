//! From the figures of many runs to what people read: medians, ratios, a table, files.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;
use serde_json::{Value, json};

use crate::engine::Settings;
use crate::meter::FOREIGN_CPUS_MAX;
use crate::runner::Plan;
use crate::spec::{Better, PHASES, Phase, phase_named};
use crate::worker::{Answer, END, Status};

/// The engine whose ratios are shown.
pub const OWN: &str = "thermocline";
/// Phases that are shorter are not marked: the kernel counts in ticks of 10 ms.
const MARKED_SECONDS_MIN: f64 = 0.2;
/// Phases that are about the machine or of no matter by themselves, and do not count in means.
const NOT_IN_MEANS: [&str; 3] = ["fdatasync", "cpu", "size-reclaimed"];

/// One engine's run through one workload.
#[derive(Clone, Debug)]
pub struct Run {
    /// The workload's name.
    pub workload: String,
    /// Its keys, as they were.
    pub keys: u32,
    /// The engine's.
    pub engine: String,
    /// From 0.
    pub round: u32,
    /// What the worker answered, or why it did not.
    pub outcome: Result<Answer, String>,
}

/// All runs.
#[derive(Clone, Debug)]
pub struct Report {
    /// The engines in the order of the columns.
    pub engines: Vec<String>,
    /// The workloads in the order of the tables.
    pub workloads: Vec<String>,
    /// As they came.
    pub runs: Vec<Run>,
}

/// How an engine was set up in some workloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsOf<'a> {
    /// The engine's name.
    pub engine: &'a str,
    /// Those workloads, at least one.
    pub workloads: Vec<&'a str>,
    /// What it said.
    pub settings: &'a Settings,
}

/// What the rounds of one phase come to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The median, the lowest and the highest figure.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
    /// Others used the processors in more than half of the rounds.
    pub is_disturbed: bool,
    /// How it was measured, where there was a choice.
    pub note: String,
}

/// One cell of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Figures, none of which is void.
    Figure(Summary),
    /// No figure, and why.
    Missing(Status),
    /// The workload has no such phase.
    Empty,
}

impl Cell {
    fn figure(&self) -> Option<&Summary> {
        if let Self::Figure(summary) = self { Some(summary) } else { None }
    }
}

/// The median of figures, of which there is at least one.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { f64::midpoint(sorted[middle - 1], sorted[middle]) } else { sorted[middle] }
}

/// Why a run has no figure of a phase, if it should have one: that of the phase itself, or of what ended the run before.
fn status_of(answer: &Answer, phase: &str) -> Option<Status> {
    let bad = |name: &str| answer.figures.iter().find(|figure| figure.phase == name && figure.status != Status::Measured);
    if answer.figures.iter().any(|figure| figure.phase == phase) {
        return bad(phase).map(|figure| figure.status.clone());
    }
    bad("load").or_else(|| bad(END)).map(|figure| figure.status.clone())
}

impl Report {
    /// A report of no runs yet.
    pub fn new(plan: &Plan) -> Self {
        let workloads = plan.specs.iter().map(|spec| spec.name.clone()).collect();
        Self { engines: plan.engines.clone(), workloads, runs: Vec::new() }
    }

    /// What an engine reached in a phase. A wrong answer in any round voids all of them.
    pub fn cell(&self, workload: &str, engine: &str, phase: &str) -> Cell {
        let runs = || self.runs.iter().filter(|run| run.workload == workload && run.engine == engine);
        let mut missing = None;
        for run in runs() {
            let status = match &run.outcome {
                Err(why) => Some(Status::Failed(why.clone())),
                Ok(answer) => status_of(answer, phase),
            };
            // A wrong answer outweighs whatever other rounds came to.
            if !matches!(missing, Some(Status::Wrong(_))) {
                missing = status.or(missing);
            }
        }
        if let Some(status) = missing {
            return Cell::Missing(status);
        }
        let figures: Vec<_> = runs()
            .filter_map(|run| run.outcome.as_ref().ok())
            .filter_map(|answer| answer.figures.iter().find(|figure| figure.phase == phase))
            .collect();
        let mut values: Vec<f64> = figures.iter().map(|figure| figure.value).collect();
        values.sort_by(f64::total_cmp);
        let (Some(min), Some(max), Some(last)) = (values.first(), values.last(), figures.last()) else { return Cell::Empty };
        let disturbed = figures
            .iter()
            .filter(|figure| figure.seconds >= MARKED_SECONDS_MIN && figure.foreign_cpus > FOREIGN_CPUS_MAX)
            .count();
        Cell::Figure(Summary {
            median: median(&values),
            min: *min,
            max: *max,
            is_disturbed: disturbed * 2 > figures.len(),
            note: last.note.clone(),
        })
    }

    /// The phases that some engine has figures of in a workload.
    pub fn phases(&self, workload: &str) -> Vec<&'static Phase> {
        let has = |phase: &&Phase| self.engines.iter().any(|engine| self.cell(workload, engine, phase.name) != Cell::Empty);
        // A worker that failed altogether, or could not even load, has every phase, as failed; what no engine has measured is no phase of
        // the workload.
        let is_measured = |phase: &&Phase| {
            let unmeasured = |cell: &Cell| {
                matches!(cell, Cell::Empty | Cell::Missing(Status::Failed(_)))
                    || phase.name != "load" && matches!(cell, Cell::Missing(Status::Unsupported(_)))
            };
            self.engines.iter().any(|engine| !unmeasured(&self.cell(workload, engine, phase.name)))
        };
        PHASES.iter().filter(has).filter(is_measured).collect()
    }

    /// The best of the others that keep versions in a phase: who, and its median.
    pub fn best_peer(&self, workload: &str, phase: &Phase) -> Option<(&str, f64)> {
        let peers = self.engines.iter().filter(|engine| *engine != OWN && self.is_peer(engine, phase.name));
        let figures =
            peers.filter_map(|engine| Some((engine.as_str(), self.cell(workload, engine, phase.name).figure()?.median)));
        figures.reduce(|best, other| {
            let is_better = if phase.better == Better::Higher { other.1 > best.1 } else { other.1 < best.1 };
            if is_better { other } else { best }
        })
    }

    /// Whether an engine says that it keeps versions, and promises in a phase what was asked for.
    pub fn is_peer(&self, engine: &str, phase: &str) -> bool {
        let mut answers = self.runs.iter().filter(|run| run.engine == engine).filter_map(|run| run.outcome.as_ref().ok());
        answers
            .all(|answer| answer.keeps_versions && !answer.promises_less_in.iter().any(|start| phase.starts_with(start.as_str())))
    }

    /// How many times better than the best of the others this project's engine is in a phase; below 1 it is worse.
    pub fn ratio(&self, workload: &str, phase: &Phase) -> Option<f64> {
        let own = self.cell(workload, OWN, phase.name).figure()?.median;
        let (_, peer) = self.best_peer(workload, phase)?;
        let ratio = if phase.better == Better::Higher { own / peer } else { peer / own };
        (ratio.is_finite() && ratio > 0.0).then_some(ratio)
    }

    /// The geometric mean of a workload's ratios, and of how many; `None` without any, and where a row of this project's engine is void or
    /// failed: a mean without its worst row would flatter.
    pub fn mean_ratio(&self, workload: &str) -> Option<(f64, usize)> {
        let counts = |phase: &&Phase| !NOT_IN_MEANS.contains(&phase.name);
        let phases = self.phases(workload);
        let is_bad = |cell: Cell| matches!(cell, Cell::Missing(Status::Wrong(_) | Status::Failed(_)));
        if phases.iter().any(|phase| is_bad(self.cell(workload, OWN, phase.name))) {
            return None;
        }
        let logarithms: Vec<f64> =
            phases.into_iter().filter(counts).filter_map(|phase| self.ratio(workload, phase)).map(f64::ln).collect();
        let mean = (logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp();
        (!logarithms.is_empty()).then_some((mean, logarithms.len()))
    }

    /// How each engine was set up, in the order of their names: in the first workload that it ran, and where another one was
    /// different, in that.
    pub fn settings(&self) -> Vec<SettingsOf<'_>> {
        let mut engines: Vec<&str> = self.engines.iter().map(String::as_str).collect();
        engines.sort_unstable();
        let mut all = Vec::new();
        for engine in engines {
            let mut groups: Vec<SettingsOf<'_>> = Vec::new();
            for workload in &self.workloads {
                let mut runs = self.runs.iter().filter(|run| run.engine == engine && run.workload == *workload);
                let Some(answer) = runs.find_map(|run| run.outcome.as_ref().ok()) else { continue };
                match groups.iter_mut().find(|group| *group.settings == answer.settings) {
                    Some(group) => group.workloads.push(workload),
                    None => groups.push(SettingsOf { engine, workloads: vec![workload], settings: &answer.settings }),
                }
            }
            all.extend(groups);
        }
        all
    }

    /// Every wrong answer.
    pub fn wrong(&self) -> Vec<String> {
        let of_run = |run: &Run| -> Vec<String> {
            let Ok(answer) = &run.outcome else { return Vec::new() };
            let wrong = answer.figures.iter().filter_map(|figure| match &figure.status {
                Status::Wrong(what) => Some(format!("{} {} {}: {what}", run.workload, run.engine, figure.phase)),
                _ => None,
            });
            wrong.collect()
        };
        self.runs.iter().flat_map(of_run).collect()
    }

    /// The tables for a terminal, and the settings and reasons below them; also valid Markdown.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for workload in &self.workloads {
            let phases = self.phases(workload);
            if phases.is_empty() {
                continue;
            }
            let mut header = vec![format!("{workload}"), "unit".to_owned()];
            header.extend(self.engines.iter().cloned());
            header.extend(["best peer".to_owned(), "ratio".to_owned()]);
            let rows = phases.iter().map(|phase| self.row(workload, phase));
            push_table(&mut text, &header, &rows.collect::<Vec<_>>());
            if let Some((mean, count)) = self.mean_ratio(workload) {
                let means = format!("{mean:.2} times, geometric mean of {count} rows");
                let other = phases.len() - count;
                push_line(
                    &mut text,
                    &format!("{OWN} against the best peer of each row: {means}; {other} have no ratio or are not counted"),
                );
            }
            push_line(&mut text, "");
        }
        let marks =
            format!("Medians, with the lowest and the highest round. `!`: others used more than {FOREIGN_CPUS_MAX} processors");
        push_line(&mut text, &format!("{marks} in most rounds. `n/a`: not supported. `void`: wrong answer."));
        push_line(&mut text, "");
        self.push_settings(&mut text);
        let reasons = self.reasons();
        if !reasons.is_empty() {
            push_line(&mut text, "");
            for reason in reasons {
                push_line(&mut text, &format!("- {reason}"));
            }
        }
        text
    }

    /// What every engine was set to, and behind it what was different in other workloads.
    fn push_settings(&self, text: &mut String) {
        let all = self.settings();
        for of_engine in all.chunk_by(|one, next| one.engine == next.engine) {
            let Some((SettingsOf { engine, settings: first, .. }, others)) = of_engine.split_first() else { continue };
            let not_in: Vec<&str> = PHASES.iter().map(|phase| phase.name).filter(|phase| !self.is_peer(engine, phase)).collect();
            let peer = match not_in.len() {
                0 => String::new(),
                all if all == PHASES.len() => " Not counted as a peer.".to_owned(),
                _ => format!(" Not counted as a peer in {}.", not_in.join(", ")),
            };
            let Settings { release, versions, durability, memory, other } = first;
            let line = format!(
                "- **{engine}** ({release}). Versions: {versions}. {durability}. Memory: {memory}. Other: {other}.{peer}"
            );
            let others = others.iter().map(|SettingsOf { workloads, settings, .. }| {
                let parts = [
                    ("Versions: ", versions, &settings.versions),
                    ("", durability, &settings.durability),
                    ("Memory: ", memory, &settings.memory),
                    ("Other: ", other, &settings.other),
                ];
                let changed = parts.iter().filter(|(_, first, here)| first != here);
                let changed: Vec<String> = changed.map(|(name, _, here)| format!("{name}{here}.")).collect();
                format!(" In {}: {}", workloads.join(", "), changed.join(" "))
            });
            push_line(text, &std::iter::once(line).chain(others).collect::<String>());
        }
    }

    fn row(&self, workload: &str, phase: &Phase) -> Vec<String> {
        let mut row = vec![phase.name.to_owned(), phase.unit.to_owned()];
        row.extend(self.engines.iter().map(|engine| show_spread(&self.cell(workload, engine, phase.name))));
        row.push(self.best_peer(workload, phase).map(|(engine, _)| engine.to_owned()).unwrap_or_default());
        row.push(self.ratio(workload, phase).map(|ratio| format!("{ratio:.2}")).unwrap_or_default());
        row
    }

    /// Why cells are missing, each reason once.
    fn reasons(&self) -> Vec<String> {
        let mut reasons = BTreeMap::<String, Vec<String>>::new();
        for workload in &self.workloads {
            for (engine, phase) in
                self.engines.iter().flat_map(|engine| self.phases(workload).into_iter().map(move |phase| (engine, phase)))
            {
                let why = match self.cell(workload, engine, phase.name) {
                    Cell::Missing(Status::Unsupported(why)) => format!("{engine} does not support it: {why}"),
                    Cell::Missing(Status::Wrong(what)) => format!("{engine} answered wrongly: {what}"),
                    Cell::Missing(Status::Failed(why)) => format!("{engine} failed: {why}"),
                    _ => continue,
                };
                reasons.entry(why).or_default().push(format!("{workload} {}", phase.name));
            }
        }
        reasons.into_iter().map(|(why, places)| format!("{} ({})", why, places.join(", "))).collect()
    }

    /// Every figure of every run, for programs; `machine` says where they were measured.
    pub fn to_json(&self, machine: &Value) -> Value {
        let runs: Vec<Value> = self
            .runs
            .iter()
            .map(|run| {
                let (answer, failure) = match &run.outcome {
                    Ok(answer) => (json!(answer), Value::Null),
                    Err(why) => (Value::Null, json!(why)),
                };
                json!({ "workload": run.workload, "engine": run.engine, "round": run.round, "answer": answer, "failure": failure })
            })
            .collect();
        let summary: Vec<Value> = self.workloads.iter().map(|workload| self.summary(workload)).collect();
        json!({
            "machine": machine, "engines": self.engines, "workloads": self.workloads, "summary": summary, "runs": runs,
        })
    }

    /// What a workload comes to: for each phase medians and ratio, and their mean.
    fn summary(&self, workload: &str) -> Value {
        let of_phase = |phase: &&Phase| {
            let figures: BTreeMap<&str, Summary> = self
                .engines
                .iter()
                .filter_map(|engine| Some((engine.as_str(), self.cell(workload, engine, phase.name).figure()?.clone())))
                .collect();
            let best_peer = self.best_peer(workload, phase).map(|(engine, _)| engine);
            let (name, unit, ratio) = (phase.name, phase.unit, self.ratio(workload, phase));
            json!({ "phase": name, "unit": unit, "figures": figures, "best_peer": best_peer, "ratio": ratio })
        };
        let phases: Vec<Value> = self.phases(workload).iter().map(of_phase).collect();
        let mean = self.mean_ratio(workload).map(|(mean, rows)| json!({ "ratio": mean, "rows": rows }));
        json!({ "workload": workload, "phases": phases, "mean": mean })
    }

    /// The same as lines of comma-separated values, one a figure.
    pub fn to_csv(&self) -> String {
        let mut text = String::from("workload,phase,unit,engine,round,value,own_cpus,foreign_cpus,seconds,status,note\n");
        for run in &self.runs {
            let answer = match &run.outcome {
                Ok(answer) => answer,
                Err(why) => {
                    let fields = [&run.workload, END, "", &run.engine].map(quoted).join(",");
                    push_line(&mut text, &format!("{fields},{},0,0,0,0,{},", run.round, quoted(&format!("failed: {why}"))));
                    continue;
                }
            };
            for figure in &answer.figures {
                let unit = phase_named(&figure.phase).map_or("", |phase| phase.unit);
                let status = match &figure.status {
                    Status::Measured => "measured".to_owned(),
                    Status::Unsupported(why) => format!("unsupported: {why}"),
                    Status::Wrong(what) => format!("wrong: {what}"),
                    Status::Failed(why) => format!("failed: {why}"),
                };
                let numbers = [figure.value, figure.own_cpus, figure.foreign_cpus, figure.seconds]
                    .map(|number| number.to_string())
                    .join(",");
                let fields = [&run.workload, &figure.phase, unit, &run.engine].map(quoted).join(",");
                push_line(&mut text, &format!("{fields},{},{numbers},{},{}", run.round, quoted(&status), quoted(&figure.note)));
            }
        }
        text
    }
}

/// A field of a line of comma-separated values (RFC 4180).
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}

fn push_line(text: &mut String, line: &str) {
    // Writing to a string does not fail.
    let _is_written = writeln!(text, "{line}").is_ok();
}

/// A table whose columns are aligned; the first line is its head.
fn push_table(text: &mut String, header: &[String], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).chain(header.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            // Names to the left, figures to the right.
            if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
    };
    push_line(text, &line(header));
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    push_line(text, &line(&rule));
    for row in rows {
        push_line(text, &line(row));
    }
}

/// A cell as people read it: three digits, a mark if it was disturbed.
pub fn show_cell(cell: &Cell) -> String {
    match cell {
        Cell::Figure(summary) => {
            let mark = if summary.is_disturbed { " !" } else { "" };
            format!("{}{mark}", show_figure(summary.median))
        }
        Cell::Missing(Status::Unsupported(_)) => "n/a".to_owned(),
        Cell::Missing(Status::Wrong(_)) => "void".to_owned(),
        Cell::Missing(_) => "failed".to_owned(),
        Cell::Empty => String::new(),
    }
}

/// The same with the lowest and the highest figure, if these look different.
fn show_spread(cell: &Cell) -> String {
    let shown = show_cell(cell);
    let Cell::Figure(summary) = cell else { return shown };
    let [min, max] = [summary.min, summary.max].map(show_figure);
    if min == max { shown } else { format!("{shown} ({min}–{max})") }
}

/// A figure with three digits.
pub fn show_figure(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        large if large >= 1e6 => (value / 1e6, " M"),
        middle if middle >= 1e4 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let decimals = match scaled.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        small if small >= 0.1 || small == 0.0 => 2,
        _ => 4,
    };
    format!("{scaled:.decimals$}{unit}")
}
