//! The cases, by area.

pub(crate) mod groups;
pub(crate) mod keys;
pub(crate) mod offsets;
pub(crate) mod positions;
pub(crate) mod produce;
pub(crate) mod steering;
pub(crate) mod transactions;
pub(crate) mod views;
