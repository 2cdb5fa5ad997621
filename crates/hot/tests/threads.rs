//! Readers beside a writer: what they may never see, whatever the timing.
