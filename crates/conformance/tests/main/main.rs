//! The kit over the project's own tiers, and over backends that it must catch.

mod mutants;
mod table;
mod tiers;
