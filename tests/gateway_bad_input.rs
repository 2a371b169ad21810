//! Bad input at the front door: each gets its code, and the next good request is served.

#![cfg(test)]

mod common;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wakeful::proto::role::Code as Role;

use common::calls::uuid;
use common::gateway::{Gateway, sent};
use common::{folder, soon};

const PATH: &str = "/v2.1/project/os-server-external-events";

/// The status of the reply to these bytes; `None` if the connection is closed without one.
async fn status(gateway: &Gateway, bytes: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(gateway.rest).await.expect("a connection");
    // The gateway may have answered, and closed, before it has all of it.
    let _ = stream.write_all(bytes).await;
    let mut reply = Vec::new();
    let _ = soon("the reply", stream.read_to_end(&mut reply)).await;
    let line = String::from_utf8_lossy(&reply);
    line.split(' ').nth(1)?.parse().ok()
}

fn request(method: &str, version: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{method} {PATH} HTTP/{version}\r\nHost: front\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[tokio::test]
async fn every_kind_of_bad_input_gets_its_code_and_the_next_request_is_served() {
    let gateway = Gateway::start(&[]).await;
    let agent = gateway.agent(&folder(), "alpha").await;
    let instance = uuid();
    agent.bind(&instance, Role::Host).await;
    let json = "Content-Type: application/json\r\n";
    let good = json!({ "events": [sent(&instance, "network-changed", "")] }).to_string();
    let twice =
        format!("{{\"events\": [], \"events\": {}}}", json!([sent(&instance, "network-changed", "")]));
    let deep = format!("{{\"events\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let long = format!("{{\"events\": [\"{}\"]}}", "x".repeat(1 << 20));
    let huge_header = format!("X-Large: {}\r\n", "x".repeat(100_000));
    let post = |body: &[u8]| request("POST", "1.1", json, body);
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("broken JSON", post(b"{\"events\": ["), 400),
        ("no body", post(b""), 400),
        ("a number", post(b"7"), 400),
        ("a list", post(b"[]"), 400),
        ("events is no list", post(b"{\"events\": {}}"), 400),
        ("no events", post(b"{\"events\": []}"), 400),
        ("an event is no object", post(b"{\"events\": [7]}"), 400),
        ("a name is no string", post(b"{\"events\": [{\"name\": 7, \"server_uuid\": \"x\"}]}"), 400),
        ("nested deeply", post(deep.as_bytes()), 400),
        ("the same key twice: the last counts", post(twice.as_bytes()), 200),
        ("over a mebibyte", post(long.as_bytes()), 413),
        ("not UTF-8", post(b"{\"events\": [{\"name\": \"\xff\"}]}"), 400),
        ("another content type", request("POST", "1.1", "Content-Type: text/html\r\n", good.as_bytes()), 415),
        ("another method", request("PUT", "1.1", json, good.as_bytes()), 405),
        ("HTTP/1.0", request("POST", "1.0", json, good.as_bytes()), 200),
        ("a header of 100 kB", request("POST", "1.1", &huge_header, good.as_bytes()), 431),
        ("no HTTP at all", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), 400),
    ];
    for (what, bytes, expected) in cases {
        assert_eq!(status(&gateway, &bytes).await, Some(expected), "{what}");
        assert_eq!(status(&gateway, &post(good.as_bytes())).await, Some(200), "after: {what}");
    }
}

#[tokio::test]
async fn slow_peers_and_a_thousand_idle_ones_keep_nobody_else_waiting() {
    let gateway = Gateway::start(&["--header-timeout", "2s", "--body-timeout", "2s"]).await;
    let agent = gateway.agent(&folder(), "alpha").await;
    let instance = uuid();
    agent.bind(&instance, Role::Host).await;
    let mut idle = Vec::new();
    for _ in 0..1_000 {
        idle.push(TcpStream::connect(gateway.rest).await.expect("a connection"));
    }
    let mut slow_head = TcpStream::connect(gateway.rest).await.expect("a connection");
    slow_head.write_all(b"POST / HTTP/1.1\r\nHo").await.expect("written");
    let mut slow_body = TcpStream::connect(gateway.rest).await.expect("a connection");
    let whole = request("POST", "1.1", "Content-Type: application/json\r\n", &[b' '; 1_000]);
    slow_body.write_all(&whole[..whole.len() - 900]).await.expect("written");
    for _ in 0..20 {
        assert_eq!(gateway.post(json!([sent(&instance, "network-changed", "")])).await.0, 200);
    }
    // Each is closed in its time; the body's is told why.
    let mut reply = Vec::new();
    let _ = soon("the slow head's end", slow_head.read_to_end(&mut reply)).await;
    let mut reply = Vec::new();
    let _ = soon("the slow body's end", slow_body.read_to_end(&mut reply)).await;
    assert!(reply.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&reply));
    for mut stream in idle {
        let _ = soon("an idle one's end", stream.read_to_end(&mut Vec::new())).await;
    }
    assert_eq!(gateway.post(json!([sent(&instance, "network-changed", "")])).await.0, 200);
}
