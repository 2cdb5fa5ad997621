//! Thermocline's multi-version store over tiers and a commit log
