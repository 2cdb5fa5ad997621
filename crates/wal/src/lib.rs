//! Thermocline's commit log
