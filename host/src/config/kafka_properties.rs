//! The librdkafka properties that an operator may not set as they please, each with the promise it would break.
//! Every other property passes through as it is; librdkafka itself refuses those it does not know.

use super::report::{Fault, listing};

/// What a property may be.
enum Rule {
    /// Nothing: Keyway sets it, and this is what to do instead.
    Never(&'static str),
    /// One of these values.
    Only(&'static [&'static str]),
    /// A whole number from the first to the second.
    Within(u64, u64),
}

use Rule::{Never, Only, Within};

const LEAVE_OUT: &str = "leave it out";

/// Property, rule, reason. Aliases of librdkafka stand beside each other.
const RULES: &[(&str, Rule, &str)] = &[
    // Named by keys of their own.
    ("bootstrap.servers", Never("give broker.bootstrap-servers"), "it has a key of its own"),
    ("metadata.broker.list", Never("give broker.bootstrap-servers"), "it has a key of its own"),
    ("group.id", Never("give the id of [[groups]]"), "every group has its own"),
    (
        "group.instance.id",
        Never("give the instance-id of [[groups]]"),
        "every member needs its own",
    ),
    ("auto.offset.reset", Never("give the start of [[groups]]"), "every group has its own"),
    ("client.id", Never(LEAVE_OUT), "it tells which process a member of a group lives in"),
    // An offset is committed only when its record is handled.
    ("enable.auto.commit", Never(LEAVE_OUT), COMMIT),
    ("auto.commit.enable", Never(LEAVE_OUT), COMMIT),
    ("auto.commit.interval.ms", Never(LEAVE_OUT), COMMIT),
    ("enable.auto.offset.store", Never(LEAVE_OUT), COMMIT),
    ("offset.store.method", Never(LEAVE_OUT), COMMIT),
    ("offset.store.path", Never(LEAVE_OUT), COMMIT),
    ("offset.store.sync.interval.ms", Never(LEAVE_OUT), COMMIT),
    ("enable.partition.eof", Never(LEAVE_OUT), "the ends of partitions are not records"),
    (
        "isolation.level",
        Only(&["read_committed"]),
        "records of aborted transactions would be handled",
    ),
    // An answer is given only when every replica in sync has the record, once and in order.
    ("acks", Only(&["all", "-1"]), ACKNOWLEDGED),
    ("request.required.acks", Only(&["all", "-1"]), ACKNOWLEDGED),
    (
        "delivery.report.only.error",
        Only(&["false"]),
        "acknowledged records would never be answered",
    ),
    ("enable.idempotence", Only(&["true"]), ONCE_IN_ORDER),
    ("max.in.flight", Within(1, 5), ONCE_IN_ORDER),
    ("max.in.flight.requests.per.connection", Within(1, 5), ONCE_IN_ORDER),
    ("message.send.max.retries", Within(1, i32::MAX as u64), ONCE_IN_ORDER),
    ("retries", Within(1, i32::MAX as u64), ONCE_IN_ORDER),
    ("queuing.strategy", Only(&["fifo"]), ONCE_IN_ORDER),
    ("transactional.id", Never(LEAVE_OUT), "every member needs its own"),
    // Long enough for a leader to be replaced; short enough that readers do not wait for ever behind a writer that is gone.
    (
        "transaction.timeout.ms",
        Within(1_000, 900_000),
        "readers would wait too long behind a writer that is gone, or no transaction would end in time",
    ),
    // Keys go to the partitions that Java clients put them on.
    (
        "partitioner",
        Only(&["murmur2_random"]),
        "keys would go to other partitions than those of Java clients",
    ),
    // Members keep what they keep without a pause, and members of one group agree on how.
    (
        "partition.assignment.strategy",
        Only(&["cooperative-sticky"]),
        "partitions would pause at every rebalance",
    ),
    ("group.protocol", Only(&["classic", "consumer"]), "there are these two"),
    // Nothing is unbounded.
    ("message.timeout.ms", Within(1, i32::MAX as u64), FOR_EVER),
    ("delivery.timeout.ms", Within(1, i32::MAX as u64), FOR_EVER),
    ("queue.buffering.max.messages", Within(1, 10_000_000), "the queue would have no bound"),
    ("allow.auto.create.topics", Only(&["false"]), "a misspelt topic would be created"),
];

const COMMIT: &str = "offsets of records that are not handled would be committed";
const ACKNOWLEDGED: &str = "records would be acknowledged that can still be lost";
const ONCE_IN_ORDER: &str = "records could be written twice or out of order";
const FOR_EVER: &str = "callers would wait for ever";

/// Checks one property.
pub(super) fn check(name: &str, value: &str) -> Result<(), Fault> {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '.' | '_')) {
        return Err(Fault::new(
            "not a property of librdkafka",
            "give a name such as \"security.protocol\"",
        ));
    }
    let Some((_, rule, reason)) = RULES.iter().find(|(property, ..)| *property == name) else {
        return Ok(());
    };
    let remedy = match rule {
        Never(remedy) => (*remedy).to_owned(),
        Only(values) if values.contains(&value) => return Ok(()),
        Only(values) => format!("leave it out or give {}", listing(values.iter().copied(), "or")),
        Within(low, high) if value.parse().is_ok_and(|n: u64| (*low..=*high).contains(&n)) => {
            return Ok(());
        }
        Within(low, high) => format!("leave it out or give a whole number from {low} to {high}"),
    };
    Err(Fault::new(format!("not yours to set, since {reason}"), remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_a_promise_is_refused_with_its_reason() {
        for (name, value) in [
            ("enable.auto.commit", "false"),
            ("acks", "1"),
            ("max.in.flight", "6"),
            ("partitioner", "random"),
            ("message.send.max.retries", "0"),
            ("partition.assignment.strategy", "range"),
        ] {
            let fault = check(name, value).err();
            assert!(fault.is_some_and(|fault| fault.wrong.contains("since")), "{name}");
        }
    }

    #[test]
    fn what_keeps_the_promises_passes() {
        for (name, value) in [
            ("security.protocol", "SASL_SSL"),
            ("acks", "all"),
            ("max.in.flight", "5"),
            ("linger.ms", "5"),
            ("log_level", "7"),
            ("group.protocol", "consumer"),
        ] {
            assert_eq!(check(name, value), Ok(()), "{name}");
        }
    }
}
