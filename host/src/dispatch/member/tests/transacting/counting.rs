//! How what was emitted counts for the shares of partitions.

use super::*;

#[tokio::test]
async fn what_is_emitted_counts_where_it_went_once_its_transaction_is_committed() {
    let mut rig = Rig::new(exactly_once(OnReject::DeadLetter), numbered);
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..1).await;
    let (_, _, done) = rig.transaction().await;
    done.send(aborted()).unwrap();
    rig.rewind(0).await;
    rig.records(0, 0..1).await;
    let (records, _, done) = rig.transaction().await;
    assert_eq!(values(&records), ["0"]);
    assert!(rig.producer.skew("out").is_none(), "one was aborted, and one is not committed yet");
    done.send(Ok(vec![Produced { partition: 2, offset: 7, timestamp: 0 }])).unwrap();
    let counted = async {
        loop {
            match rig.producer.skew("out") {
                Some(skew) => return skew,
                None => tokio::task::yield_now().await,
            }
        }
    };
    let skew = timeout(SOON, counted).await.expect("it is counted");
    let records: Vec<_> = skew.partitions.iter().map(|share| share.records).collect();
    assert_eq!(records, [0, 0, 1]);
}
