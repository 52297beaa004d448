//! `keyway dev`: everything on this machine, and what happens to every record on the terminal.
//!
//! What is shown comes from two sides: [`watch`] sits around the groups' handlers and sees every record, [`changes`]
//! compares two snapshots of the gateway and finds members that came or went and plugins that were swapped. Neither
//! can hold the gateway up: a terminal that does not keep up misses lines, and is told how many.

mod changes;
mod sources;
mod view;
mod watch;

use std::{io, sync::Arc, thread, time::Duration};

use tokio::sync::mpsc;

use super::{
    Error,
    run::runtime,
    settings::{Settings, url},
    signals,
    text::Style,
};
use crate::{
    admin::{self, inventory, snapshot},
    app::{self, Gateway, Options},
    config::{self, Config},
    plugin::build::BuildError,
};
use changes::{Scene, changes};
use sources::Workshop;
use view::View;
use watch::{Watch, Watched};

/// How often the gateway is looked at for members and plugins.
const LOOK: Duration = Duration::from_millis(500);

pub(super) fn dev(settings: &Settings) -> Result<(), Error> {
    let config::Loaded { config, file } = settings.load_from_file()?;
    let mut workshop = Workshop::new(&config);
    workshop.build_named()?;
    runtime()?.block_on(async {
        let shutdown = signals::shutdown()?;
        let (watch, watched) = Watch::new();
        let options =
            Options { config_file: file, wrap_handler: Some(watch.wrap()), ..Options::default() };
        let config = Arc::new(config);
        let gateway = Gateway::build(config.clone(), options).await?;
        let welcome = welcome(&gateway.addresses(), &config);
        let failures = workshop.follow().map_err(no_thread)?;
        start_view(welcome, Feed { watched, failures, state: gateway.state() })?;
        Ok(gateway.run(shutdown).await?)
    })
}

/// Where what is shown comes from.
struct Feed {
    watched: Watched,
    failures: mpsc::Receiver<BuildError>,
    state: admin::State,
}

fn no_thread(error: io::Error) -> Error {
    Error::Failed(format!("cannot start a thread: {error}"))
}

/// Shows what happens, on a thread and a runtime of its own: a terminal that is held with Ctrl-S holds nothing else.
/// It ends with the process, or when nobody reads what it shows.
fn start_view(welcome: view::Welcome, feed: Feed) -> Result<(), Error> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_thread)?;
    let show = move || {
        let mut view = View::new(io::stdout(), Style::of_stdout());
        let shown = view.welcome(&welcome).and_then(|()| runtime.block_on(show(&mut view, feed)));
        if let Err(error) = shown {
            tracing::debug!(%error, "What happens is no longer shown.");
        }
    };
    thread::Builder::new().name("keyway-view".into()).spawn(show).map_err(no_thread)?;
    Ok(())
}

fn welcome(addresses: &app::Addresses, config: &Config) -> view::Welcome {
    view::Welcome {
        send: addresses.http.map(|http| format!("{}/send-message", url(http))),
        status: url(addresses.admin),
        broker: addresses.broker.clone(),
        plugins: config.plugins.directory.display().to_string(),
        handles: !config.groups.is_empty(),
    }
}

async fn show(view: &mut View<io::Stdout>, feed: Feed) -> io::Result<()> {
    let Feed { mut watched, mut failures, state } = feed;
    let mut scene = Scene::default();
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some((record, missed)) = watched.next() => {
                let at = record.delivery.record.topic_partition();
                if scene.member_of(&record.group, &at).is_none() {
                    // The first records come before anybody has looked at who reads what.
                    look(view, &mut scene, &state).await?;
                }
                view.record(&record, scene.member_of(&record.group, &at))?;
                view.missed(missed)?;
            }
            Some(failure) = failures.recv() => view.not_built(&failure)?,
            _ = looks.tick() => look(view, &mut scene, &state).await?,
        }
    }
}

/// Looks at the gateway, and shows what has changed since the last look.
async fn look(
    view: &mut View<io::Stdout>,
    scene: &mut Scene,
    state: &admin::State,
) -> io::Result<()> {
    let Some(now) = scene_of(state).await else { return Ok(()) };
    for change in changes(scene, &now) {
        view.change(&change)?;
    }
    *scene = now;
    Ok(())
}

/// The gateway at this moment; `None` when the broker does not say: the log says why.
async fn scene_of(state: &admin::State) -> Option<Scene> {
    let view = state.local.view();
    let mut groups = Vec::new();
    for group in &view.groups {
        groups.push(inventory::group(&*state.broker, &view, &group.id).await.ok()?);
    }
    Some(Scene { groups, plugins: snapshot::plugins(&view) })
}
