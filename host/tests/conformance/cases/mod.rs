//! The cases, by area.

pub(crate) mod produce;
