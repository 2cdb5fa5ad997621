//! The workload harness.
