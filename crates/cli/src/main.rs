//! The thermocline command line.

fn main() {}
