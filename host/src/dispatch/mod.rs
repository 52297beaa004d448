//! One group's life in this process: member events become lanes, lanes become runs for the handler, outcomes become
//! output, dead letters and commits.

mod status;

pub use status::{GroupStatus, MemberState, MemberStatus, PartitionStatus};
