//! An embeddable, ordered, multi-version key-value store with hot, warm and cold tiers
