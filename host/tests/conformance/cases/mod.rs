//! The cases, by area.

pub(crate) mod keys;
pub(crate) mod produce;
