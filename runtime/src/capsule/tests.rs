//! Round trips, damage, replays.
