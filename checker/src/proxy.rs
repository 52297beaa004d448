//! A proxy between the gateways and one broker, which delays, cuts or swallows what passes when it is told to.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Runtime,
    sync::watch,
    time,
};

use crate::error::Result;

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// It works.
    Sound,
    /// Everything takes so much longer.
    Slow(Duration),
    /// Connections break, and none is made.
    Cut,
    /// Connections stay, and nothing comes through.
    Silent,
}

/// A proxy. Dropped, it breaks its connections.
pub(crate) struct Proxy {
    /// Where clients connect.
    pub(crate) port: u16,
    listener: Option<TcpListener>,
    network: watch::Sender<Network>,
    runtime: Runtime,
}

impl Proxy {
    /// Takes a port. Nobody is served before [`Proxy::serve`].
    pub(crate) fn new() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            port: listener.local_addr()?.port(),
            listener: Some(listener),
            network: watch::Sender::new(Network::Sound),
            runtime: Runtime::new()?,
        })
    }

    /// Passes on to a broker from now on.
    pub(crate) fn serve(&mut self, broker: SocketAddr) -> Result<()> {
        let Some(listener) = self.listener.take() else { return Ok(()) };
        let _entered = self.runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let network = self.network.subscribe();
        self.runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, broker, network.clone()));
            }
        });
        Ok(())
    }

    /// Has the network do this from now on.
    pub(crate) fn set(&self, network: Network) {
        self.network.send_replace(network);
    }
}

async fn connect(client: TcpStream, broker: SocketAddr, network: watch::Receiver<Network>) {
    if *network.borrow() == Network::Cut {
        return;
    }
    let Ok(broker) = TcpStream::connect(broker).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let mut cut = network.clone();
    tokio::select! {
        () = pass(from_client, to_broker, network.clone()) => {}
        () = pass(from_broker, to_client, network) => {}
        _ = cut.wait_for(|network| *network == Network::Cut) => {}
    }
}

/// Passes bytes on until one end closes. What came while nothing passes is kept, and passed on late.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        let now = *network.borrow_and_update();
        if let Network::Slow(delay) = now {
            time::sleep(delay).await;
        }
        if network.wait_for(|network| *network != Network::Silent).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read, Write},
        net::TcpStream,
        thread,
    };

    use super::*;

    /// A proxy before a server that sends back what it gets, and a connection through it.
    fn echo() -> (Proxy, TcpStream) {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut proxy = Proxy::new().unwrap();
        proxy.serve(server.local_addr().unwrap()).unwrap();
        thread::spawn(move || {
            let (mut connection, _) = server.accept().unwrap();
            let mut buffer = [0; 64];
            while let Ok(read @ 1..) = connection.read(&mut buffer) {
                connection.write_all(&buffer[..read]).unwrap();
            }
        });
        let client = TcpStream::connect(("127.0.0.1", proxy.port)).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        (proxy, client)
    }

    fn ask(client: &mut TcpStream) -> std::result::Result<u8, ErrorKind> {
        client.write_all(b"x").map_err(|error| error.kind())?;
        answer(client)
    }

    fn answer(client: &mut TcpStream) -> std::result::Result<u8, ErrorKind> {
        let mut byte = [0];
        client.read_exact(&mut byte).map_err(|error| error.kind())?;
        Ok(byte[0])
    }

    #[test]
    fn what_is_silent_comes_late_and_what_is_cut_not_at_all() {
        let (proxy, mut client) = echo();
        assert_eq!(ask(&mut client), Ok(b'x'));
        proxy.set(Network::Silent);
        assert_eq!(ask(&mut client), Err(ErrorKind::WouldBlock));
        proxy.set(Network::Sound);
        assert_eq!(answer(&mut client), Ok(b'x'));
        proxy.set(Network::Cut);
        assert!(ask(&mut client).is_err_and(|kind| kind != ErrorKind::WouldBlock));
    }
}
