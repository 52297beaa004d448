//! What becomes of a producer that cannot go on.

use keyway::{
    broker::{Broker as _, BrokerError, ProduceError},
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
    let broker = connect(&cluster.bootstrap_servers());
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::InitProducerId, &[refused]);
    let taken = broker.transactions("t").await.map(|_transactions| ());
    assert!(matches!(&taken, Err(BrokerError::Fatal(why)) if why.contains("uthoriz")), "{taken:?}");
}
