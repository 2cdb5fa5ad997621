//! The page that people look at: one file, with the charts drawn into it as SVG.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use thermocline_yardstick::failure::{Failure, Outcome};
use thermocline_yardstick::report::{Cell, OWN, Report, SettingsOf, show_cell, show_figure};
use thermocline_yardstick::spec::{Better, KEY_CURVE, PHASES, Phase, VERSION_CURVE};

const STYLE: &str = "
:root { color-scheme: light; --ink: #1c2530; --soft: #5c6b7a; --line: #dfe5ea; --own: #c8502d; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: #f6f8fa; margin: 0 auto; max-width: 1240px; padding: 2rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { margin: 2.4rem 0 .4rem; font-size: 1.25rem; }
pre.machine, p.note { color: var(--soft); margin: .2rem 0; white-space: pre-wrap; font: inherit; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(370px, 1fr)); gap: 14px; margin-top: .8rem; }
figure { margin: 0; background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: .7rem .8rem .4rem; }
figcaption b { font-size: .95rem; } figcaption { color: var(--soft); font-size: .8rem; line-height: 1.3; min-height: 3.2em; }
svg { width: 100%; height: auto; display: block; }
details { margin-top: 1rem; } summary { cursor: pointer; color: var(--soft); }
table { border-collapse: collapse; background: #fff; font-size: .8rem; margin-top: .6rem; display: block; overflow-x: auto; }
th, td { border: 1px solid var(--line); padding: .25rem .5rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child, .settings td { text-align: left; white-space: normal; } td.best { font-weight: 700; }
.ratio { font-weight: 700; } .ahead { color: #1d7a46; } .behind { color: var(--own); }
";

/// A colour for each engine, the same in all charts: Thermocline's first, then eleven that are told apart well (after Tableau 10).
const COLOURS: [RGBColor; 12] = [
    RGBColor(200, 80, 45),
    RGBColor(78, 121, 167),
    RGBColor(118, 183, 178),
    RGBColor(89, 161, 79),
    RGBColor(237, 201, 72),
    RGBColor(176, 122, 161),
    RGBColor(156, 117, 95),
    RGBColor(186, 176, 172),
    RGBColor(242, 142, 43),
    RGBColor(95, 106, 180),
    RGBColor(140, 140, 140),
    RGBColor(225, 87, 140),
];
const _: () = assert!(COLOURS.len() > crate::engines::NAMES.len(), "a colour for each");
const INK: RGBColor = RGBColor(28, 37, 48);
const SOFT: RGBColor = RGBColor(92, 107, 122);
const FONT: &str = "system-ui, sans-serif";

fn drawing(error: impl std::fmt::Display) -> Failure {
    Failure::Usage(format!("could not draw a chart: {error}"))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The whole page. `header` says where and when it was measured.
pub fn page(report: &Report, header: &str) -> Outcome<String> {
    let mut body = String::new();
    push(&mut body, &format!("<h1>Thermocline beside its peers</h1><pre class=\"machine\">{}</pre>", escaped(header)));
    let legend = "Medians of all rounds; whiskers from the lowest to the highest. Longer bars are better, but where the caption says lower. \
                  Pale bars are of engines that promise less in that phase, and are no peers there. ! marks figures beside a busy neighbour.";
    push(&mut body, &format!("<p class=\"note\">{legend}</p>"));
    push(&mut body, &curves(report)?);
    let is_curve = |workload: &str| workload.starts_with('V') || workload.starts_with('K');
    for workload in report.workloads.iter().filter(|workload| !is_curve(workload)) {
        push(&mut body, &section(report, workload)?);
    }
    push(&mut body, &settings(report));
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Thermocline beside its peers</title><style>{STYLE}</style></head>\n<body>\n{body}</body></html>\n"
    ))
}

fn push(text: &mut String, part: &str) {
    text.push_str(part);
    text.push('\n');
}

fn colour(report: &Report, engine: &str) -> RGBColor {
    let place = report.engines.iter().position(|other| other == engine).unwrap_or(0);
    COLOURS[place % COLOURS.len()]
}

/// One workload: a chart for each phase, and the table behind a click.
fn section(report: &Report, workload: &str) -> Outcome<String> {
    let phases = report.phases(workload);
    if phases.is_empty() {
        return Ok(String::new());
    }
    let mut text = format!("<h2>Workload {}</h2>\n", escaped(workload));
    if let Some((mean, count)) = report.mean_ratio(workload) {
        let class = if mean >= 1.0 { "ahead" } else { "behind" };
        let mean = format!("<span class=\"ratio {class}\">{mean:.2} times</span>, geometric mean of {count} rows");
        push(&mut text, &format!("<p class=\"note\">{OWN} against the best peer of each row: {mean}.</p>"));
    }
    push(&mut text, "<div class=\"grid\">");
    for phase in &phases {
        let lower = if phase.better == Better::Lower { "; lower is better" } else { "" };
        let ratio = report.ratio(workload, phase).map(|ratio| {
            let class = if ratio >= 1.0 { "ahead" } else { "behind" };
            format!(" · <span class=\"ratio {class}\">{ratio:.2}×</span>")
        });
        let caption = format!("<b>{}</b>{}<br>{}, {}{lower}", phase.name, ratio.unwrap_or_default(), phase.what, phase.unit);
        push(&mut text, &format!("<figure><figcaption>{caption}</figcaption>{}</figure>", bars(report, workload, phase)?));
    }
    push(&mut text, "</div>");
    push(&mut text, &format!("<details><summary>Table</summary>{}</details>", table(report, workload, &phases)));
    Ok(text)
}

/// Horizontal bars, the best first; engines without a figure below, with the reason's kind.
fn bars(report: &Report, workload: &str, phase: &Phase) -> Outcome<String> {
    const WIDTH: i32 = 380;
    const ROW: i32 = 22;
    const LABEL: i32 = 96;
    const FIGURE: i32 = 64;
    let mut rows: Vec<(&String, Cell)> =
        report.engines.iter().map(|engine| (engine, report.cell(workload, engine, phase.name))).collect();
    rows.retain(|(_, cell)| *cell != Cell::Empty);
    let rank = |cell: &Cell| match cell {
        Cell::Figure(figure) if phase.better == Better::Higher => -figure.median,
        Cell::Figure(figure) => figure.median,
        _ => f64::INFINITY,
    };
    rows.sort_by(|(_, left), (_, right)| rank(left).total_cmp(&rank(right)));
    let top = |cell: &Cell| if let Cell::Figure(figure) = cell { figure.max } else { 0.0 };
    let largest = rows.iter().map(|(_, cell)| top(cell)).fold(f64::MIN_POSITIVE, f64::max);
    let height = ROW * i32::try_from(rows.len()).unwrap_or(0) + 4;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32)).into_drawing_area();
        let x = |value: f64| LABEL + (f64::from(WIDTH - LABEL - FIGURE) * value / largest) as i32;
        for (number, (engine, cell)) in (0..).zip(&rows) {
            let y = number * ROW + 2;
            let weight = if *engine == OWN { FontStyle::Bold } else { FontStyle::Normal };
            let label = (FONT, 12).into_font().style(weight).color(&INK).pos(Pos::new(HPos::Right, VPos::Center));
            root.draw(&Text::new((*engine).clone(), (LABEL - 7, y + ROW / 2), label)).map_err(drawing)?;
            let mut end = LABEL;
            if let Cell::Figure(figure) = cell {
                end = x(figure.median).max(LABEL + 1);
                let strength = if report.is_peer(engine, phase.name) { 1.0 } else { 0.3 };
                let fill = colour(report, engine).mix(strength).filled();
                root.draw(&Rectangle::new([(LABEL, y + 3), (end, y + ROW - 3)], fill)).map_err(drawing)?;
                if figure.max > figure.min {
                    let middle = y + ROW / 2;
                    let whisker = [(x(figure.min), middle), (x(figure.max), middle)];
                    root.draw(&PathElement::new(whisker, INK.mix(0.55).stroke_width(1))).map_err(drawing)?;
                    end = end.max(x(figure.max));
                }
            }
            let style = (FONT, 12).into_font().color(&SOFT).pos(Pos::new(HPos::Left, VPos::Center));
            root.draw(&Text::new(show_cell(cell), (end + 6, y + ROW / 2), style)).map_err(drawing)?;
        }
        root.present().map_err(drawing)?;
    }
    Ok(svg)
}

fn table(report: &Report, workload: &str, phases: &[&Phase]) -> String {
    let mut text = String::from("<table><tr><th>phase</th><th>unit</th>");
    for engine in &report.engines {
        push(&mut text, &format!("<th>{}</th>", escaped(engine)));
    }
    push(&mut text, "<th>best peer</th><th>ratio</th></tr>");
    for phase in phases {
        push(&mut text, &format!("<tr><td>{}</td><td>{}</td>", phase.name, phase.unit));
        let peer = report.best_peer(workload, phase);
        for engine in &report.engines {
            let class = if peer.is_some_and(|(best, _)| best == engine) { " class=\"best\"" } else { "" };
            let cell = report.cell(workload, engine, phase.name);
            let hint = match &cell {
                Cell::Figure(figure) => format!("{} to {} {}", show_figure(figure.min), show_figure(figure.max), figure.note),
                Cell::Missing(status) => format!("{status:?}"),
                Cell::Empty => String::new(),
            };
            let hint = escaped(&hint).replace('"', "&quot;");
            push(&mut text, &format!("<td{class} title=\"{hint}\">{}</td>", escaped(&show_cell(&cell))));
        }
        let ratio = report.ratio(workload, phase).map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        push(&mut text, &format!("<td>{}</td><td>{ratio}</td></tr>", peer.map(|(engine, _)| engine).unwrap_or_default()));
    }
    text.push_str("</table>");
    text
}

fn settings(report: &Report) -> String {
    let names =
        ["engine", "release", "versions", "durability", "memory", "other"].map(|name| format!("<th>{name}</th>")).concat();
    let mut text = format!("<h2>Settings</h2><table class=\"settings\"><tr>{names}</tr>\n");
    for of_engine in report.settings().chunk_by(|one, next| one.engine == next.engine) {
        for (number, SettingsOf { engine, workloads, settings }) in of_engine.iter().enumerate() {
            let engine = if number == 0 { (*engine).to_owned() } else { format!("{engine} in {}", workloads.join(", ")) };
            let cells = [&engine, &settings.release, &settings.versions, &settings.durability, &settings.memory, &settings.other];
            push(&mut text, &format!("<tr>{}</tr>", cells.map(|cell| format!("<td>{}</td>", escaped(cell))).concat()));
        }
    }
    text.push_str("</table>");
    text
}

/// The charts over versions per key and over keys, if they were measured.
fn curves(report: &Report) -> Outcome<String> {
    let of_versions: Vec<(String, f64)> =
        VERSION_CURVE.iter().map(|versions| (format!("V{versions}"), f64::from(*versions))).collect();
    // As many as there were: with --quick fewer than the name says.
    let keys = |name: &String| report.runs.iter().find(|run| run.workload == *name).map_or(0.0, |run| f64::from(run.keys));
    let of_keys: Vec<(String, f64)> =
        KEY_CURVE.iter().map(|power| format!("K{power}")).map(|name| (name.clone(), keys(&name))).collect();
    let mut text = String::new();
    for (title, axis, points) in [
        ("What history costs", "versions per key, as many entries in all", of_versions),
        ("What size costs", "keys, one version each", of_keys),
    ] {
        if points.iter().filter(|(workload, _)| report.workloads.contains(workload)).count() < 2 {
            continue;
        }
        let mut charts = String::new();
        for phase in PHASES.iter().filter(|phase| ["get", "get-at", "scan", "scan-at", "load"].contains(&phase.name)) {
            if let Some(svg) = curve(report, &points, phase, axis)? {
                push(
                    &mut charts,
                    &format!(
                        "<figure><figcaption><b>{}</b><br>{}, {}</figcaption>{svg}</figure>",
                        phase.name, phase.what, phase.unit
                    ),
                );
            }
        }
        push(&mut text, &format!("<h2>{title}</h2><div class=\"grid\">{charts}</div>"));
        for (workload, _) in points.iter().filter(|(workload, _)| report.workloads.contains(workload)) {
            let table = table(report, workload, &report.phases(workload));
            push(&mut text, &format!("<details><summary>Table of {workload}</summary>{table}</details>"));
        }
    }
    Ok(text)
}

fn curve(report: &Report, points: &[(String, f64)], phase: &Phase, axis: &str) -> Outcome<Option<String>> {
    let line = |engine: &String| -> Vec<(f64, f64)> {
        let figure = |(workload, x): &(String, f64)| match report.cell(workload, engine, phase.name) {
            Cell::Figure(figure) if figure.median > 0.0 => Some((*x, figure.median)),
            _ => None,
        };
        points.iter().filter_map(figure).collect()
    };
    let lines: Vec<(&String, Vec<(f64, f64)>)> = report.engines.iter().map(|engine| (engine, line(engine))).collect();
    let lines: Vec<_> = lines.into_iter().filter(|(_, line)| line.len() > 1).collect();
    let all = || lines.iter().flat_map(|(_, line)| line);
    let (low, high) = all().fold((f64::INFINITY, 0.0_f64), |(low, high), (_, y)| (low.min(*y), high.max(*y)));
    let (first, last) = all().fold((f64::INFINITY, 0.0_f64), |(low, high), (x, _)| (low.min(*x), high.max(*x)));
    if lines.is_empty() || first >= last {
        return Ok(None);
    }
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (420, 330)).into_drawing_area();
        draw_curve(&root, report, &lines, (first..last, low / 1.6..high * 1.6), axis).map_err(drawing)?;
        root.present().map_err(drawing)?;
    }
    Ok(Some(svg))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Ranges = (std::ops::Range<f64>, std::ops::Range<f64>);

fn draw_curve(
    root: &Area<'_>,
    report: &Report,
    lines: &[(&String, Vec<(f64, f64)>)],
    (across, up): Ranges,
    axis: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let (plot, legend) = root.split_horizontally(318);
    let mut chart = ChartBuilder::on(&plot)
        .margin(8)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(across.log_scale(), up.log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(RGBColor(240, 243, 246))
        .bold_line_style(RGBColor(223, 229, 234))
        .axis_style(SOFT)
        .label_style((FONT, 11).into_font().color(&SOFT))
        .x_desc(axis)
        .x_labels(5)
        .y_labels(6)
        .x_label_formatter(&|x| show_figure(*x))
        .y_label_formatter(&|y| show_figure(*y))
        .draw()?;
    for (number, (engine, line)) in (0..).zip(lines) {
        let colour = colour(report, engine);
        let width = if *engine == OWN { 3 } else { 2 };
        chart.draw_series(LineSeries::new(line.iter().copied(), colour.stroke_width(width)))?;
        chart.draw_series(line.iter().map(|point| Circle::new(*point, width, colour.filled())))?;
        let y = 14 + number * 17;
        legend.draw(&Rectangle::new([(0, y), (12, y + 4)], colour.filled()))?;
        legend.draw(&Text::new((*engine).clone(), (17, y - 4), (FONT, 11).into_font().color(&INK)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use thermocline_yardstick::engine::Settings;
    use thermocline_yardstick::report::Run;
    use thermocline_yardstick::worker::{Answer, Figure, Status};

    #[test]
    fn a_page_of_nothing_is_a_page() {
        let report = Report { engines: vec![OWN.into()], workloads: vec!["W".into()], runs: Vec::<Run>::new() };
        let page = page(&report, "<machine>").expect("a page");
        assert!(page.starts_with("<!doctype html>") && page.contains("&lt;machine&gt;") && !page.contains("<svg"));
    }

    fn run(workload: &str, engine: &str, round: u32, figures: &[(&str, f64, Status)]) -> Run {
        let word = || "as it comes".to_owned();
        let settings = Settings { release: word(), versions: word(), durability: word(), memory: word(), other: word() };
        let figure = |(phase, value, status): &(&str, f64, Status)| Figure {
            phase: (*phase).into(),
            value: *value,
            seconds: 1.0,
            own_cpus: 1.0,
            foreign_cpus: 0.0,
            status: status.clone(),
            note: String::new(),
        };
        let figures = figures.iter().map(figure).collect();
        let answer = Answer { settings, keeps_versions: true, promises_less_in: Vec::new(), figures };
        Run { workload: workload.into(), keys: 400, engine: engine.into(), round, outcome: Ok(answer) }
    }

    #[test]
    fn bars_whiskers_curves_and_void_cells_are_drawn() {
        let right = |get: f64| [("get", get, Status::Measured), ("scan", 2.0 * get, Status::Measured)];
        let wrong = |get: f64| [("get", get, Status::Measured), ("scan", 0.0, Status::Wrong("a row".into()))];
        let mut runs = Vec::new();
        for round in 0..3 {
            let rate = 1000.0 + 100.0 * f64::from(round);
            runs.extend([run("W", OWN, round, &right(2.0 * rate)), run("W", "lmdb", round, &wrong(rate))]);
        }
        for workload in ["V1", "V4", "V16"] {
            runs.extend([run(workload, OWN, 0, &right(5000.0)), run(workload, "lmdb", 0, &right(3000.0))]);
        }
        let workloads = ["W", "V1", "V4", "V16"].map(String::from).to_vec();
        let report = Report { engines: vec![OWN.into(), "lmdb".into()], workloads, runs };
        let page = page(&report, "machine").expect("a page");
        let (curves, of_w) = page.split_once("<h2>Workload W</h2>").expect("curves, then the workload");
        assert!(of_w.contains("<svg") && of_w.contains("<rect") && of_w.contains("<polyline"), "bars and whiskers");
        assert!(of_w.contains("void") && of_w.contains("1100"), "a cell that is void, and the median of the others");
        assert_eq!(curves.matches("<svg").count(), 2, "a curve for each of two phases");
        assert!(curves.contains("<circle") && curves.contains("lmdb") && curves.contains("versions per key"));
        assert_eq!(curves.matches("<summary>Table of V").count(), 3, "and the tables that they are drawn from");
        assert!(!page.contains("NaN") && !page.contains("src=\"http") && !page.contains("href=\"http"), "self-contained");
    }
}
