//! Tests of the facade, over stores as users open them.

mod examples;
mod migration;
