//! A handler that an operator names for dead letters, in place of writing their records back. Who has handlers implements
//! it.

use async_trait::async_trait;

use crate::{
    config::Group,
    record::{NewRecord, Record},
};

/// Handles the records of letters with one plugin, under the limits of the group that gave each of them up.
#[async_trait]
pub trait Through: Send + Sync {
    /// The plugin's name.
    fn name(&self) -> &str;

    /// Handles a record as often as its group tries one. What comes of it is not written yet, and where it goes is chosen.
    async fn handle(&self, group: &Group, record: Record) -> Result<Vec<NewRecord>, Unhandled>;
}

/// Why a record was not handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unhandled {
    /// The handler gave it up, so its letter stays what it is.
    GivenUp(String),
    /// No record can be handled.
    Failed(String),
}
