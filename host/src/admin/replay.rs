//! Replays: records that are in a topic, through a handler once more, into another topic. What is asked for, and the
//! route; who has handlers does it ([`super::Local::replay`]).

use std::sync::Arc;

use axum::{body::Bytes, extract::State as Extract, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc};

use super::{State, api, problem::Problem, seek::Target, steering};

/// Lines of a replay that wait for whoever reads them. Few: when nobody does, it ends.
const LINES: usize = 8;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The configured group whose handler it is, or with whose configuration the other handler is used. Its offsets stay
    /// what they are. Not given: the handler is used without any.
    pub group: Option<String>,
    /// The plugin. Not given: the group's.
    pub handler: Option<String>,
    /// The topic that is read. Not given: the only one of the group.
    pub topic: Option<String>,
    /// The partitions, in this order. Not given: all, by number.
    pub partitions: Option<Vec<u32>>,
    /// The first record of each partition.
    #[serde(default = "beginning")]
    pub from: Target,
    /// The record of each partition that is not handled any more; the end is the end at the beginning.
    #[serde(default = "end")]
    pub to: Target,
    /// Where the output goes, all of it.
    pub into: String,
    /// As many records at the most, over all partitions.
    pub limit: Option<u64>,
    /// Handle the records, and tell what would be written instead of writing it.
    #[serde(default)]
    pub dry_run: bool,
    /// Go on behind a record that is not handled.
    #[serde(default)]
    pub keep_going: bool,
}

fn beginning() -> Target {
    Target::Beginning
}

fn end() -> Target {
    Target::End
}

/// Answers at once, with a line of JSON for each step as it is done. Whoever stops reading stops it.
pub(super) async fn replay(
    turn: Arc<Mutex<()>>,
    Extract(state): Extract<State>,
    body: Bytes,
) -> Result<Response, Problem> {
    let request: Request = steering::json(&body)?;
    // One at a time: it takes from the same threads and the same broker as the groups.
    let Ok(turn) = turn.try_lock_owned() else {
        let detail = "a replay is under way in this process; wait for its end";
        return Err(Problem::new(StatusCode::CONFLICT, "replay-under-way", detail));
    };
    tracing::info!(?request, "An operator replays records.");
    let (lines, told) = mpsc::channel(LINES);
    tokio::spawn(async move {
        state.local.replay(request, lines).await;
        drop(turn);
    });
    Ok(api::as_lines(told))
}
