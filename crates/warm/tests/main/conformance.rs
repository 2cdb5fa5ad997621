//! The conformance kit on the warm tier.

use crate::backends::{compressed, plain};

thermocline_conformance::tier_conformance! { plain: plain(), compressed: compressed() }
