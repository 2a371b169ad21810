use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::any;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::*;
use crate::net::listen::{Listener, Peer};
use crate::net::testing::{Server, listener, nowhere};

fn bounds() -> Bounds {
    Bounds { timeout: Duration::from_secs(20), max_body: 1_000, again: true }
}

fn to(url: &BaseUrl) -> Request<Bytes> {
    Request::post(url.at("/path").unwrap()).body(Bytes::from_static(b"hello")).unwrap()
}

async fn ask(url: &BaseUrl, bounds: Bounds) -> Result<Response<Bytes>, AskError> {
    Outbound::new(url, None, bounds).unwrap().ask(to(url)).await
}

fn echo() -> Router {
    Router::new().fallback(any(async |body: Bytes| body))
}

#[tokio::test]
async fn an_answer_is_read_whole_up_to_its_bound() {
    let server = Server::start(echo()).await;
    let asked = ask(&server.url(), bounds()).await.unwrap();
    assert_eq!((asked.status().as_u16(), &asked.body()[..]), (200, &b"hello"[..]));
    let error = ask(&server.url(), Bounds { max_body: 4, ..bounds() }).await.unwrap_err();
    assert!(matches!(error, AskError::TooLarge(4)), "{error}");
}

#[tokio::test]
async fn where_nobody_listens_or_answers_it_ends() {
    let error = ask(&nowhere().await, bounds()).await.unwrap_err();
    assert!(matches!(&error, AskError::Unreachable(why) if why.contains("refused")), "{error}");

    let (silent, address) = listener().await;
    let url = format!("http://{address}").parse().unwrap();
    let short = Duration::from_millis(50);
    let error = ask(&url, Bounds { timeout: short, ..bounds() }).await.unwrap_err();
    assert!(matches!(error, AskError::TimedOut(limit) if limit == short), "{error}");
    drop(silent);
}

/// Answers the first request on each connection, and closes it once the second has come.
async fn closes_after_one(listener: TcpListener) {
    let mut connections = 0;
    while let Ok((mut stream, _)) = listener.accept().await {
        connections += 1;
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{connections}");
        tokio::spawn(async move {
            let mut read = [0; 1_000];
            let _ = stream.read(&mut read).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.read(&mut read).await;
        });
    }
}

#[tokio::test]
async fn a_connection_that_was_kept_and_closed_meanwhile_costs_no_answer() {
    let (listener, address) = listener().await;
    let serving = tokio::spawn(closes_after_one(listener));
    let url: BaseUrl = format!("http://{address}").parse().unwrap();
    let outbound = Outbound::new(&url, None, bounds()).unwrap();
    for connection in [b"1", b"2", b"3"] {
        assert_eq!(&outbound.ask(to(&url)).await.unwrap().body()[..], connection);
    }
    serving.abort();
}

#[tokio::test]
async fn what_may_be_sent_but_once_is_sent_but_once_though_its_connection_is_lost() {
    let (listener, address) = listener().await;
    let seen = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&seen);
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            if stream.read(&mut [0; 1_000]).await.is_ok_and(|read| read > 0) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let url: BaseUrl = format!("http://{address}").parse().unwrap();
    for (again, times) in [(false, 1), (true, 2)] {
        let error = ask(&url, Bounds { again, ..bounds() }).await.unwrap_err();
        assert!(matches!(error, AskError::Broken(_)), "{error}");
        assert_eq!(seen.swap(0, Ordering::Relaxed), times);
    }
    serving.abort();
}

#[test]
fn a_url_has_a_host_and_maybe_a_port_and_a_path() {
    for (text, base, path) in [
        ("http://h", "http://h", ""),
        ("HTTP://h/X", "http://h/X", "/X"),
        ("https://h:5000/", "https://h:5000", ""),
        ("http://[::1]:80/identity/v3", "http://[::1]:80/identity/v3", "/identity/v3"),
    ] {
        let url: BaseUrl = text.parse().unwrap();
        assert_eq!((url.as_str(), url.path()), (base, path));
        assert_eq!(url.at("/x?y").unwrap().to_string(), format!("{base}/x?y"));
    }
    for (text, here) in [
        ("http://localhost:1/x", true),
        ("http://127.0.0.2", true),
        ("https://[::1]:5", true),
        ("http://10.0.0.1", false),
        ("http://localhost.example", false),
    ] {
        assert_eq!(text.parse::<BaseUrl>().unwrap().is_here(), here, "{text}");
    }
    for text in
        ["", "h", "h:1", "/path", "ftp://h", "http://", "http://u:s3cret@h", "http://h?s3cret", "http://h#x"]
    {
        let error = text.parse::<BaseUrl>().unwrap_err();
        assert!(!error.contains("s3cret"), "{error}");
    }
}

/// TLS on loopback.
struct Tls(TcpListener, TlsAcceptor);

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;

    async fn accept(&self) -> io::Result<(Self::Io, Peer)> {
        loop {
            let (stream, peer) = self.0.accept().await?;
            // Who does not trust us breaks it off.
            if let Ok(stream) = self.1.accept(stream).await {
                return Ok((stream, Peer::Tcp(peer)));
            }
        }
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

#[tokio::test]
async fn tls_is_spoken_with_who_has_a_certificate_of_the_named_authority_alone() {
    let (ours, others) = (authority(), authority());
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &ours).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let (listener, address) = listener().await;
    let _server = Server::on(Tls(listener, TlsAcceptor::from(Arc::new(config))), address, echo());
    let url: BaseUrl = format!("https://localhost:{}", address.port()).parse().unwrap();

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, ours.pem()).unwrap();
    let asked = Outbound::new(&url, Some(&file), bounds()).unwrap().ask(to(&url)).await.unwrap();
    assert_eq!(&asked.body()[..], b"hello");

    std::fs::write(&file, others.pem()).unwrap();
    let error = Outbound::new(&url, Some(&file), bounds()).unwrap().ask(to(&url)).await.unwrap_err();
    assert!(matches!(&error, AskError::Unreachable(why) if why.contains("certificate")), "{error}");

    std::fs::write(&file, "").unwrap();
    let error = Outbound::new(&url, Some(&file), bounds()).err().unwrap().to_string();
    assert!(error.contains("ca.pem") && error.contains("none"), "{error}");
}
