//! Starts a member: its clients, and the thread that they live on.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

use rdkafka::{config::ClientConfig, consumer::Consumer as _, error::KafkaResult};
use tokio_util::sync::PollSender;

use super::{
    super::{
        error,
        lookup::Lookup,
        settings::{Settings, client_id},
        transactions::Transactor,
        wake::Wakeup,
    },
    Driver, LOOK, MemberConsumer,
    context::MemberContext,
    errand::{Errandee, Errands},
    holdings::Holdings,
};
use crate::broker::{BrokerError, Member, MemberDriver, MemberSpec};

/// Starts one more member.
pub(in super::super) fn join(
    settings: &Settings,
    process: &str,
    lookup: Lookup,
    spec: MemberSpec,
) -> Result<Member, BrokerError> {
    static JOINED: AtomicU64 = AtomicU64::new(0);
    let number = JOINED.fetch_add(1, Relaxed); // tells a member from one that had its index before
    let client_id = client_id(process, &format!("{}.{number}", spec.index));
    let wakeup = Arc::new(Wakeup::default());
    let fetcher = settings.fetcher(&spec, &client_id);
    let fetcher = consumer(&fetcher, &wakeup).map_err(error::client)?;
    let consumer = settings.membership(&spec, &client_id);
    let consumer = self::consumer(&consumer, &wakeup).map_err(error::client)?;
    let transactional = settings.transactional(&transactional_id(&spec, &client_id), &client_id);
    let transactor = match &spec.instance_id {
        Some(_) => Transactor::shared(transactional, lookup),
        None => Transactor::exclusive(transactional, lookup),
    };
    let topics: Vec<&str> = spec.topics.iter().map(AsRef::as_ref).collect();
    consumer.subscribe(&topics).map_err(|error| {
        BrokerError::Fatal(format!("joining group {:?}: {}", spec.group, error::text(&error)))
    })?;
    let (member, MemberDriver { events, commands }) = Member::pair();
    let start = move || {
        wakeup.is_here();
        let errands = Errands::start(Errandee {
            consumer: Arc::clone(&consumer),
            fetcher: Arc::clone(&fetcher),
            led: HashSet::new(),
            group: Arc::clone(&spec.group),
            client_id,
            start: spec.start,
            transactor,
            is_static: spec.instance_id.is_some(),
            wakeup: Arc::clone(&wakeup),
        });
        let driver = Driver {
            waker: wakeup.waker(),
            consumer,
            events: PollSender::new(events),
            commands,
            outbox: VecDeque::new(),
            holdings: Holdings::new(fetcher, wakeup),
            revoking: Vec::new(),
            open: false,
            assigning: None,
            rewinding: None,
            errands,
            look: Instant::now() + LOOK,
            trouble: None,
        };
        driver.run();
    };
    thread::Builder::new().name("kafka-member".into()).spawn(start).map_err(|error| {
        BrokerError::Unavailable(format!("no thread for a member of the group: {error}"))
    })?;
    Ok(member)
}

/// The id of a member's transactions. A static member takes that of the one it replaces, and so ends at once what that one
/// left open; any other has one that nobody else will ever have.
fn transactional_id(spec: &MemberSpec, client_id: &str) -> String {
    let group = &spec.group;
    match &spec.instance_id {
        Some(instance) => format!("keyway/{group}/{instance}"),
        None => format!("keyway/{group}/{client_id}/{:016x}", fastrand::u64(..)),
    }
}

fn consumer(config: &ClientConfig, wakeup: &Arc<Wakeup>) -> KafkaResult<Arc<MemberConsumer>> {
    let mut consumer: MemberConsumer = config.create_with_context(MemberContext::default())?;
    let nonempty = Arc::clone(wakeup);
    consumer.set_nonempty_callback(move || nonempty.wake());
    Ok(Arc::new(consumer))
}
