//! What becomes of a producer that cannot go on.

use std::{collections::BTreeMap, time::Duration};

use keyway::{
    broker::{Broker as _, BrokerError, ProduceError, TransactError, kafka::Kafka},
    record::NewRecord,
};
use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

use crate::{connect, eventually};

#[tokio::test]
async fn a_producer_that_lost_its_sequence_answers_that_it_does_not_know_and_is_replaced() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let broker = connect(&cluster.bootstrap_servers());
    let send = |value: &str| broker.produce(NewRecord::new("t", value.to_owned()));
    assert_eq!(send("before").await.unwrap().offset, 0);

    // On the only request in flight this is fatal to an idempotent producer: it cannot know what was written.
    let out_of_order = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    cluster.request_errors(RDKafkaApiKey::Produce, &[out_of_order]);
    let broken = send("breaks it").await;
    assert!(matches!(broken, Err(ProduceError::Indefinite { .. })), "{broken:?}");

    let after = eventually("records are written again", async || send("after").await.ok()).await;
    assert_eq!(after.offset, 1);
}

#[tokio::test]
async fn a_transactional_id_that_is_not_allowed_is_refused_and_no_outage() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let broker = connect(&cluster.bootstrap_servers());
    // The broker's own producer has its id by then: the next one that asks is the transactional one.
    broker.produce(NewRecord::new("t", "before")).await.unwrap();
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::InitProducerId, &[refused]);
    let taken = broker.transactions("t").await.map(|_transactions| ());
    assert!(matches!(&taken, Err(BrokerError::Fatal(why)) if why.contains("uthoriz")), "{taken:?}");
}

#[tokio::test]
async fn a_transaction_that_takes_longer_than_it_may_is_told_from_one_that_met_trouble() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let properties = BTreeMap::from([("transaction.timeout.ms".to_owned(), "1000".to_owned())]);
    let broker = Kafka::connect(&cluster.bootstrap_servers(), &properties).unwrap();
    let mut transactions = broker.transactions("t").await.unwrap();
    let write = |value: &str| vec![NewRecord::new("t", value.to_owned())];
    transactions.write(write("in time")).await.unwrap();
    cluster.broker_round_trip_time(1, Duration::from_millis(900)).unwrap();
    let late = transactions.write(write("late")).await;
    assert!(matches!(late, Err(TransactError::TimedOut(_))), "{late:?}");
    cluster.broker_round_trip_time(1, Duration::ZERO).unwrap();
    transactions.write(write("in time again")).await.unwrap();
}
