//! TLS, against a server with a certificate of its own: what else a client does is seen through guests, in
//! `tests/plugins`.

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::{HttpHost, HttpOrigin, HttpTarget};

/// For `localhost`, valid for a hundred years, trusted by nobody but a test.
const CERTIFICATE: &[u8] = include_bytes!("../testdata/localhost.crt.der");
const KEY: &[u8] = include_bytes!("../testdata/localhost.key.der");

/// Answers one request over TLS; the port.
async fn server() -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivatePkcs8KeyDer::from(KEY).into();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(CERTIFICATE)], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        // A client that does not trust the certificate goes away here.
        let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else {
            return;
        };
        let mut request = vec![0; 4096];
        let read = stream.read(&mut request).await.unwrap();
        assert!(request[..read].starts_with(b"GET /x HTTP/1.1\r\n"));
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        stream.shutdown().await.ok();
    });
    port
}

async fn get(tls: ClientConfig, port: u16) -> Result<Vec<u8>, Error> {
    let host = HttpHost::Name("localhost".into());
    let allowed = HttpTarget::Origin(HttpOrigin { secure: true, host, port });
    let policy = Policy::new(&[allowed].into());
    let client = Client::with_tls(policy, runtime::Handle::current(), tls);
    let request = Request::get(format!("https://localhost:{port}/x"))
        .body(WasiBody::new(http_body_util::Empty::new().map_err(|never| match never {})))
        .unwrap();
    let ends = CancellationToken::new();
    let answer = client.send(request, RequestOptions::default(), ends, Arc::new(|_| {}));
    let response = answer.unwrap().await?;
    assert_eq!(response.status(), 200);
    Ok(response.into_body().collect().await?.to_bytes().to_vec())
}

#[tokio::test]
async fn a_server_whose_certificate_is_trusted_is_talked_to() {
    let mut trusted = RootCertStore::empty();
    trusted.add(CertificateDer::from(CERTIFICATE)).unwrap();
    let tls = builder().with_root_certificates(trusted).with_no_client_auth();
    assert_eq!(get(tls, server().await).await.unwrap(), b"ok");
}

#[tokio::test]
async fn a_server_whose_certificate_is_not_trusted_is_not_talked_to() {
    let tls = builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let answer = get(tls, server().await).await;
    assert!(matches!(answer, Err(Error::TlsCertificateError)), "{answer:?}");
}
