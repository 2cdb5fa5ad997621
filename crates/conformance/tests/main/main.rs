//! The kit over the project's own tiers, and over backends that it must catch.

mod broken_stores;
mod mutants;
mod stores;
mod table;
mod tiers;
