//! Metadata that another client has committed and that is not text. Apache Kafka makes text of it, not every broker does:
//! the one that librdkafka simulates keeps the bytes, and a request made by hand puts them there.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use keyway::broker::{Broker as _, Committed, MemberEvent};
use rdkafka::mocking::MockCluster;

use crate::{connect, spec, unique, until};

#[tokio::test]
async fn a_commit_whose_metadata_is_not_text_is_gone_on_from() {
    let cluster = MockCluster::new(1).unwrap();
    let (group, topic) = (unique("group"), unique("topic"));
    cluster.create_topic(&topic, 1, 1).unwrap();
    commit(&cluster.bootstrap_servers(), &group, &topic, 3, b"\xff\xfe");
    let broker = connect(&cluster.bootstrap_servers());
    let mut member = broker.join(spec(&group, &topic)).unwrap();
    let committed = until(&mut member, "it is assigned", |event| match event {
        MemberEvent::Assigned { mut partitions, .. } => partitions.pop(),
        _ => None,
    })
    .await
    .committed;
    assert_eq!(committed, Some(Committed { offset: 3, metadata: "\u{fffd}".into() }));
    member.commands.leave().await;
}

/// An OffsetCommit request, version 2, of a client that is no member, for partition 0.
fn commit(address: &str, group: &str, topic: &str, offset: u64, metadata: &[u8]) {
    let text = |bytes: &[u8]| [&(bytes.len() as i16).to_be_bytes(), bytes].concat();
    let request = [
        &8_i16.to_be_bytes()[..], // OffsetCommit
        &2_i16.to_be_bytes(),
        &7_i32.to_be_bytes(), // the request's number
        &text(b"by hand"),
        &text(group.as_bytes()),
        &(-1_i32).to_be_bytes(), // no generation
        &text(b""),              // no member
        &(-1_i64).to_be_bytes(), // kept as long as usual
        &1_i32.to_be_bytes(),
        &text(topic.as_bytes()),
        &1_i32.to_be_bytes(),
        &0_i32.to_be_bytes(), // the partition
        &(offset as i64).to_be_bytes(),
        &text(metadata),
    ]
    .concat();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&(request.len() as i32).to_be_bytes()).unwrap();
    stream.write_all(&request).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; i32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[answer.len() - 2..], [0, 0], "an error of the only partition");
}
