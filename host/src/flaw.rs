//! Engines that are broken on purpose, so that tests can show that the checker sees it.
//!
//! `KEYWAY_FLAW` names the one flaw that this process has. Only builds with debug assertions look at it: in a release
//! build [`is`] is a constant `false`, and nothing of a flaw is left.

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Commits one record more than is finished.
    CommitTooFar,
    /// Acknowledges that a partition is revoked, and goes on with it.
    KeepRevoked,
    /// Begins at the committed offset without the map of what is finished above it.
    SkipMap,
    /// Calls a record finished before its output is written.
    AcknowledgeEarly,
    /// Hands the rest of a lane out while a run of it is under way.
    LaneTwice,
}

/// Whether this process has that flaw.
#[cfg(debug_assertions)]
pub(crate) fn is(flaw: Flaw) -> bool {
    use std::sync::OnceLock;

    static CHOSEN: OnceLock<Option<Flaw>> = OnceLock::new();
    let read = || {
        let chosen = match std::env::var("KEYWAY_FLAW").ok()?.as_str() {
            "commit-too-far" => Flaw::CommitTooFar,
            "keep-revoked" => Flaw::KeepRevoked,
            "skip-map" => Flaw::SkipMap,
            "acknowledge-early" => Flaw::AcknowledgeEarly,
            "lane-twice" => Flaw::LaneTwice,
            _ => return None,
        };
        tracing::error!(flaw = ?chosen, "This gateway is broken on purpose.");
        Some(chosen)
    };
    *CHOSEN.get_or_init(read) == Some(flaw)
}

/// Never.
#[cfg(not(debug_assertions))]
pub(crate) const fn is(_flaw: Flaw) -> bool {
    false
}
