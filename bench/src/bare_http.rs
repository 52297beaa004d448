//! The least that takes a POST and writes it to Kafka: hyper, serde and rdkafka with the best known settings, one choice
//! left open (`linger.ms`), no key selector, no bounds, no problems worth reading.

use std::{
    convert::Infallible,
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use rdkafka::{
    ClientConfig,
    producer::{FutureProducer, FutureRecord},
};
use serde::Deserialize;
use tokio::{net::TcpListener, runtime};

use crate::error::Result;

#[derive(Deserialize)]
struct Message {
    value: String,
}

/// Serves on a free loopback port, which it prints, until it is killed.
pub(crate) fn serve(kafka: String, topic: String, linger: u32) -> Result<()> {
    runtime::Runtime::new()?.block_on(async {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", kafka)
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", linger.to_string())
            .create()?;
        let topic: Arc<str> = topic.into();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        io::stdout().flush()?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let (producer, topic) = (producer.clone(), topic.clone());
            let service = service_fn(move |request| {
                let (producer, topic) = (producer.clone(), topic.clone());
                async move { Ok::<_, Infallible>(answer(&producer, &topic, request).await) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    })
}

async fn answer(
    producer: &FutureProducer,
    topic: &str,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    match send(producer, topic, request).await {
        Ok(json) => Response::new(json.into()),
        Err(error) => {
            let mut response = Response::new(error.to_string().into());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}

async fn send(
    producer: &FutureProducer,
    topic: &str,
    request: Request<Incoming>,
) -> Result<String> {
    let body = request.into_body().collect().await?.to_bytes();
    let message: Message = serde_json::from_slice(&body)?;
    let record = FutureRecord::<(), _>::to(topic).payload(&message.value);
    let delivery =
        producer.send(record, Duration::from_secs(5)).await.map_err(|(error, _)| error)?;
    Ok(serde_json::json!({
        "topic": topic,
        "partition": delivery.partition,
        "offset": delivery.offset,
        "timestamp": delivery.timestamp.to_millis(),
        "key": null,
        "selected_by": "none",
    })
    .to_string())
}
