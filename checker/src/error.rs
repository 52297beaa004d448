//! What stops the checker itself: told as it is, to whoever ran it.

/// Any error, in words.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// The result of anything that may stop the checker.
pub(crate) type Result<T> = std::result::Result<T, Error>;
