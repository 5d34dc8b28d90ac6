//! Counters of a run (being built)
