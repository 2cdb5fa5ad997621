//! Bounded byte readers and writers, checksums and file envelopes for Thermocline's files
