//! The embedded broker: a log, groups and offsets in one SQLite file.
