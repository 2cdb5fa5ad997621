//! Thermocline's in-memory tier
