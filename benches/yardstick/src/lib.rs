//! What Thermocline's benchmarks share: workloads whose every answer a model knows, engines behind one trait, phases that are timed and
//! checked, and reports.

#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark measures the real machine: its clock, threads and files are not simulated"
)]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded to three digits")]
#![expect(clippy::missing_errors_doc, reason = "every failure ends its row, whatever it is; `Failure` lists them")]

pub mod engine;
pub mod failure;
pub mod machine;
pub mod meter;
pub mod model;
pub mod process;
pub mod reading;
pub mod real;
pub mod report;
pub mod runner;
pub mod spec;
pub mod thermocline;
pub mod versioned;
pub mod worker;
pub mod workload;
