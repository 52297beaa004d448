//! The load: so many connections, each with one request in flight, over HTTP keep-alive.
//!
//! By hand on the socket, because the load shares its cores with what it measures: a request is the same bytes every
//! time, and of an answer only the status and the length are read. One thread.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime, task,
};

use crate::{error::Result, statistics::percentile};

/// Bytes of a record's value.
const VALUE: usize = 200;
/// Run before anything is counted, so that connections, caches and batches are warm.
const WARM_UP: Duration = Duration::from_millis(500);

/// What one run gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) requests_per_second: f64,
    pub(crate) p50_milliseconds: f64,
    pub(crate) p99_milliseconds: f64,
    /// Every request that was answered, those before the counting began too.
    pub(crate) answered: u64,
}

/// Posts to `address` over this many connections for this long. An answer that is not 200 ends it.
pub(crate) fn post(address: SocketAddr, connections: usize, time: Duration) -> Result<Measured> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let begin = Instant::now() + WARM_UP;
        let end = begin + time;
        let mut running = task::JoinSet::new();
        for _ in 0..connections {
            running.spawn(async move { connection(address, begin, end).await });
        }
        let (mut milliseconds, mut answered) = (Vec::new(), 0);
        while let Some(finished) = running.join_next().await {
            let (counted, all) = finished??;
            milliseconds.extend(counted);
            answered += all;
        }
        milliseconds.sort_by(f64::total_cmp);
        Ok(Measured {
            requests_per_second: milliseconds.len() as f64 / time.as_secs_f64(),
            p50_milliseconds: percentile(&milliseconds, 0.5),
            p99_milliseconds: percentile(&milliseconds, 0.99),
            answered,
        })
    })
}

/// One request after the other; how long each took, of those that began and ended within the time, and how many there
/// were in all.
async fn connection(address: SocketAddr, begin: Instant, end: Instant) -> Result<(Vec<f64>, u64)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = request();
    let mut buffer = vec![0; 16 * 1024];
    let (mut milliseconds, mut answered) = (Vec::new(), 0);
    loop {
        let sent = Instant::now();
        stream.write_all(&request).await?;
        read_answer(&mut stream, &mut buffer).await?;
        answered += 1;
        let received = Instant::now();
        if received >= end {
            return Ok((milliseconds, answered));
        }
        if sent >= begin {
            milliseconds.push((received - sent).as_secs_f64() * 1000.0);
        }
    }
}

fn request() -> Vec<u8> {
    let body = format!(r#"{{"value":"{}"}}"#, "x".repeat(VALUE));
    let length = body.len();
    format!(
        "POST /send-message HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Err("the server closed the connection".into());
        }
        filled += read;
        if let Some(length) = answer_length(&buffer[..filled])? {
            if filled == length {
                return Ok(());
            }
        } else if filled == buffer.len() {
            return Err("an answer that is longer than any should be".into());
        }
    }
}

/// The length of the answer with its head, once the head is whole.
fn answer_length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = str::from_utf8(&bytes[..head])?;
    if !text.starts_with("HTTP/1.1 200 ") {
        return Err(format!("the answer is not 200: {}", String::from_utf8_lossy(bytes)).into());
    }
    let length = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .ok_or("an answer without its length")?;
    Ok(Some(head + 4 + length.1.trim().parse::<usize>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_head_says() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(answer_length(answer).ok(), Some(Some(answer.len())));
        assert_eq!(answer_length(b"HTTP/1.1 200 OK\r\nContent-").ok(), Some(None));
        assert!(answer_length(b"HTTP/1.1 503 Busy\r\n\r\n").is_err());
    }
}
