//! Files, clock, randomness and threads for Thermocline, real and simulated
