//! Conformance cases, reference model and mutants for Thermocline tiers and stores
