//! What goes wrong here is read by a person and matched by nobody: a sentence.

/// A sentence that says what went wrong.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// A sentence for a person.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
