//! The harness, on engines that are right and on engines that are wrong.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "what goes wrong in a test fails it")]

mod ordered;

use std::path::Path;

use thermocline_yardstick::engine::Engine;
use thermocline_yardstick::model::Model;
use thermocline_yardstick::real::Source;
use thermocline_yardstick::report::{Cell, Report, Run};
use thermocline_yardstick::spec::{Kind, Spec};
use thermocline_yardstick::thermocline::Thermocline;
use thermocline_yardstick::versioned::Versioned;
use thermocline_yardstick::worker::{Answer, Figure, Job, Status, run};

use ordered::OrderedMap;

fn spec(kind: Kind, keys: u32, rounds: u32) -> Spec {
    Spec { name: "T".into(), kind, keys, rounds, value_size_bytes: 40, cache_bytes: 64 << 20 }
}

fn measure<E: Engine>(spec: Spec, directory: &Path, history: Option<Source>) -> Answer {
    let job =
        Job { engine: E::NAME.into(), spec, seed: 3, slice_ms: 20, directory: directory.to_path_buf(), cpus: vec![0], history };
    run::<E>(&job).unwrap()
}

#[track_caller]
fn all_measured(answer: &Answer, phases: &[&str]) {
    for Figure { phase, status, .. } in &answer.figures {
        assert!(matches!(status, Status::Measured | Status::Unsupported(_)), "{phase}: {status:?}");
    }
    for phase in phases {
        let figure = answer.figures.iter().find(|figure| figure.phase == *phase);
        assert!(figure.is_some_and(|figure| figure.status == Status::Measured && figure.value > 0.0), "{phase}: {figure:?}");
    }
}

fn check_right<E: Engine>(reclaims: bool) {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let answer = measure::<E>(spec(Kind::Whole, 1200, 3), &place("whole"), None);
    let phases =
        ["load", "reopen", "get", "get-2", "get-at", "get-16", "get-16-at", "get-missing", "scan", "scan-reverse", "scan-at"];
    all_measured(&answer, &phases);
    all_measured(&answer, &["scan-full", "scan-full-at", "diff", "cpu"]);
    if reclaims {
        all_measured(&answer, &["reclaim"]);
    }
    all_measured(&measure::<E>(spec(Kind::Curve, 400, 4), &place("curve"), None), &["load", "get", "scan-at"]);
    all_measured(&measure::<E>(spec(Kind::Mixed, 400, 1), &place("mixed"), None), &["mixed-95-4", "mixed-50-4"]);
    all_measured(&measure::<E>(spec(Kind::Commits, 400, 1), &place("commits"), None), &["sync-8", "single", "fdatasync"]);
    let real = measure::<E>(spec(Kind::Real, 0, 0), &place("real"), Some(history(directory.path())));
    all_measured(&real, &["load", "get", "get-at", "scan-full", "scan-full-at", "diff"]);
}

/// Keys that are written, deleted ten versions later, and written again.
fn history(directory: &Path) -> Source {
    let file = directory.join("history.tsv");
    let change = |version: u32| {
        format!("{version}\tput\tpath/{}\t{version:040}\n{version}\tdel\tpath/{}\t\n", version % 23, (version + 13) % 23)
    };
    std::fs::write(&file, (1..200).map(change).collect::<String>()).unwrap();
    Source(file)
}

#[test]
fn the_model_passes_every_phase() {
    check_right::<Model<0>>(true);
}

#[test]
fn thermocline_passes_every_phase() {
    check_right::<Thermocline>(true);
}

#[test]
fn versions_in_keys_pass_every_phase() {
    check_right::<Versioned<OrderedMap>>(true);
}

/// The phases that must notice a mistake, and some that cannot.
#[track_caller]
fn check_wrong<E: Engine>(wrong: &[&str], right: &[&str]) -> Answer {
    let directory = tempfile::tempdir().unwrap();
    let answer = measure::<E>(spec(Kind::Whole, 1200, 3), directory.path(), None);
    let status = |name: &str| &answer.figures.iter().find(|figure| figure.phase == name).unwrap().status;
    for phase in wrong {
        assert!(matches!(status(phase), Status::Wrong(_)), "{phase}: {:?}", status(phase));
    }
    for phase in right {
        assert_eq!(*status(phase), Status::Measured, "{phase}");
    }
    answer
}

#[test]
fn forgotten_deletions_are_noticed() {
    check_wrong::<Model<1>>(&["get", "get-16", "scan", "scan-reverse", "scan-full"], &["load", "get-missing"]);
}

#[test]
fn reads_of_the_wrong_version_are_noticed() {
    check_wrong::<Model<2>>(&["get-at", "get-16-at", "scan-at", "scan-full-at"], &["get", "get-16", "scan", "scan-full"]);
}

#[test]
fn missing_rows_are_noticed() {
    check_wrong::<Model<3>>(&["scan", "scan-reverse", "scan-at", "scan-full"], &["get", "get-at"]);
}

#[test]
fn missing_changes_are_noticed() {
    check_wrong::<Model<4>>(&["diff"], &["get", "scan-full"]);
}

#[test]
fn wrong_answers_over_a_real_history_are_noticed() {
    fn check<E: Engine>(wrong: &[&str], right: &[&str]) {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        std::fs::create_dir(&store).unwrap();
        let answer = measure::<E>(spec(Kind::Real, 0, 0), &store, Some(history(directory.path())));
        let status = |name: &str| &answer.figures.iter().find(|figure| figure.phase == name).unwrap().status;
        assert!(wrong.iter().all(|phase| matches!(status(phase), Status::Wrong(_))), "{:?}", answer.figures);
        assert!(right.iter().all(|phase| *status(phase) == Status::Measured), "{:?}", answer.figures);
    }
    check::<Model<1>>(&["get", "scan-full"], &["load"]);
    check::<Model<2>>(&["get-at", "scan-full-at"], &["get", "scan-full"]);
    check::<Model<3>>(&["scan-full", "scan-full-at"], &["get", "get-at"]);
    check::<Model<4>>(&["diff"], &["get", "scan-full"]);
}

#[test]
fn commits_that_are_lost_are_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let commits = measure::<Model<5>>(spec(Kind::Commits, 400, 1), &path("commits"), None);
    let mixed = measure::<Model<5>>(spec(Kind::Mixed, 400, 1), &path("mixed"), None);
    let status = |answer: &Answer, name: &str| answer.figures.iter().find(|figure| figure.phase == name).unwrap().status.clone();
    for name in ["single", "sync-1", "sync-8", "sync-32"] {
        assert!(matches!(status(&commits, name), Status::Wrong(_)), "{name}");
    }
    assert!(matches!(status(&mixed, "mixed-50-1"), Status::Wrong(_)));
}

#[test]
fn commits_that_are_gone_after_closing_are_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let answer = measure::<Model<7>>(spec(Kind::Commits, 400, 1), directory.path(), None);
    for figure in &answer.figures {
        assert_eq!(matches!(figure.status, Status::Wrong(_)), figure.phase.starts_with("sync-"), "{figure:?}");
    }
    assert!(answer.figures.iter().any(|figure| figure.phase == "sync-32"));
}

#[test]
fn versions_that_are_not_reclaimed_are_noticed() {
    check_wrong::<Model<6>>(&["reclaim"], &["get", "diff"]);
}

#[test]
fn an_engine_that_cannot_load_has_no_figures_at_all() {
    let directory = tempfile::tempdir().unwrap();
    // Thermocline refuses to work without any memory.
    let tight = Spec { cache_bytes: 0, ..spec(Kind::Whole, 1200, 3) };
    let answer = measure::<Thermocline>(tight, directory.path(), None);
    assert!(answer.figures.iter().all(|figure| matches!(figure.status, Status::Failed(_))), "{:?}", answer.figures);
    let runs = vec![Run { workload: "T".into(), keys: 400, engine: "thermocline".into(), round: 0, outcome: Ok(answer) }];
    let report = Report { engines: vec!["thermocline".into()], workloads: vec!["T".into()], runs };
    assert!(matches!(report.cell("T", "thermocline", "size"), Cell::Missing(Status::Failed(_))));
}

#[test]
fn a_wrong_answer_in_one_round_voids_the_row() {
    let wrong = check_wrong::<Model<3>>(&["scan"], &["get"]);
    let directory = tempfile::tempdir().unwrap();
    let right = measure::<Model<0>>(spec(Kind::Whole, 1200, 3), directory.path(), None);
    let round = |round, answer: &Answer| Run {
        workload: "T".into(),
        keys: 400,
        engine: "model".into(),
        round,
        outcome: Ok(answer.clone()),
    };
    let runs = vec![round(0, &right), round(1, &wrong), round(2, &right)];
    let report = Report { engines: vec!["model".into()], workloads: vec!["T".into()], runs };
    assert!(matches!(report.cell("T", "model", "scan"), Cell::Missing(Status::Wrong(_))));
    assert!(matches!(report.cell("T", "model", "get"), Cell::Figure(_)));
    let text = report.to_text();
    assert!(text.contains("void") && text.contains("answered wrongly"), "{text}");
    assert!(report.to_csv().contains("wrong: "));
    assert_eq!(report.wrong().iter().filter(|line| line.starts_with("T model scan:")).count(), 1);
}

#[test]
fn medians_and_ratios_are_what_they_say() {
    let figure = |phase: &str, value| Figure {
        phase: phase.into(),
        value,
        seconds: 1.0,
        own_cpus: 1.0,
        foreign_cpus: 0.0,
        status: Status::Measured,
        note: String::new(),
    };
    let settings = measure::<Model<0>>(spec(Kind::Curve, 400, 1), tempfile::tempdir().unwrap().path(), None).settings;
    let run = |engine: &str, round, gets, size| {
        let answer = Answer {
            settings: settings.clone(),
            keeps_versions: engine != "c",
            promises_less_in: vec![],
            figures: vec![figure("get", gets), figure("size", size)],
        };
        Run { workload: "T".into(), keys: 400, engine: engine.into(), round, outcome: Ok(answer) }
    };
    let mut runs = vec![run("thermocline", 0, 90.0, 3.0), run("thermocline", 1, 10.0, 3.0), run("thermocline", 2, 80.0, 3.0)];
    // The last keeps no versions, and counts for nothing.
    runs.extend([run("a", 0, 40.0, 1.0), run("b", 0, 20.0, 6.0), run("c", 0, 500.0, 0.1)]);
    let report =
        Report { engines: ["thermocline", "a", "b", "c"].map(str::to_owned).to_vec(), workloads: vec!["T".into()], runs };
    let Cell::Figure(gets) = report.cell("T", "thermocline", "get") else { panic!("no figure") };
    assert_eq!((gets.median, gets.min, gets.max), (80.0, 10.0, 90.0));
    let [get, size] = ["get", "size"].map(|name| thermocline_yardstick::spec::phase_named(name).unwrap());
    assert_eq!((report.best_peer("T", get), report.best_peer("T", size)), (Some(("a", 40.0)), Some(("a", 1.0))));
    assert_eq!(report.ratio("T", get), Some(2.0));
    assert_eq!(report.ratio("T", size), Some(1.0 / 3.0));
    let (mean, count) = report.mean_ratio("T").unwrap();
    assert!((mean - (2.0_f64 / 3.0).sqrt()).abs() < 1e-12 && count == 2, "{mean} of {count}");
    let json = report.to_json(&serde_json::Value::Null);
    let summary = &json["summary"][0];
    let gets = summary["phases"].as_array().unwrap().iter().find(|row| row["phase"] == "get").unwrap();
    assert_eq!((&gets["best_peer"], &gets["ratio"], &gets["figures"]["b"]["median"]), (&"a".into(), &2.0.into(), &20.0.into()));
    assert_eq!(summary["mean"]["rows"], 2);
    assert!(report.to_text().contains("80.0 (10.0–90.0)"), "{}", report.to_text());

    // Without its worst row a mean would flatter.
    let mut void = report.clone();
    let Ok(answer) = &mut void.runs[1].outcome else { panic!("no answer") };
    answer.figures[1].status = Status::Wrong("another value".into());
    assert_eq!(void.mean_ratio("T"), None);
}

#[test]
fn settings_are_shown_once_and_where_they_differ_by_workload() {
    let directory = tempfile::tempdir().unwrap();
    let right = measure::<Model<0>>(spec(Kind::Whole, 1200, 2), directory.path(), None);
    let run = |workload: &str, memory: &str| {
        let mut answer = right.clone();
        answer.settings.memory = memory.into();
        Run { workload: workload.into(), keys: 400, engine: "model".into(), round: 0, outcome: Ok(answer) }
    };
    let runs = vec![run("W", "much"), run("D", "much"), run("L", "little")];
    let report = Report { engines: vec!["model".into()], workloads: ["W", "D", "L"].map(str::to_owned).to_vec(), runs };
    let groups: Vec<Vec<&str>> = report.settings().into_iter().map(|group| group.workloads).collect();
    assert_eq!(groups, [vec!["W", "D"], vec!["L"]]);
    let text = report.to_text();
    assert_eq!((text.matches("Memory: much.").count(), text.matches(" In L: Memory: little.").count()), (1, 1), "{text}");
}

#[test]
fn the_page_about_benchmarks_names_every_workload_and_phase() {
    let page = include_str!("../../../../docs/BENCHMARKS.md");
    let is_named = |name: &str| {
        let family = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        [format!("| {name} "), format!(" {name},"), format!(" {name} "), format!("{family}N"), format!("| {family}")]
            .iter()
            .any(|form| page.contains(form.as_str()))
    };
    for spec in Spec::all() {
        assert!(is_named(&spec.name), "workload {}", spec.name);
    }
    for phase in thermocline_yardstick::spec::PHASES {
        assert!(is_named(phase.name), "phase {}", phase.name);
    }
}
