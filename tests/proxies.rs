//! The proxies' snippets of docs/proxies, in a real HAProxy and a real nginx: what sends events goes to the gateway, all
//! else to Nova, and no caller's events go to both.

#![cfg(test)]

mod common;

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::timeout;

use common::calls::uuid;
use common::clients::{or_skip, runs};
use common::gateway::{Gateway, codes, sent};
use common::process::Process;
use common::web::{Does, Reply, Server, call, try_call};
use common::{BOUND, POLL, folder, until};

const EVENTS: &str = "POST /v2.1/project/os-server-external-events";
/// Every form of the path, and what else belongs to it.
const FORMS: [&str; 5] = [
    "POST /v2.1/os-server-external-events",
    "POST /v2.1/project/os-server-external-events",
    "POST /v2/os-server-external-events",
    "POST /v2/project/os-server-external-events",
    "POST /v2.1/project/os-server-external-events?x=/y",
];
const OTHERS: [&str; 11] = [
    "GET /",
    "GET /v2.1/",
    "GET /healthz",
    "GET /v2.1/project/os-server-external-events",
    "POST /v2.1/project/servers",
    "POST /v2.1/project/os-server-external-events/",
    "POST /v2.1/project/os-server-external-events/x",
    "POST /v2.1/a/b/os-server-external-events",
    "POST /v2.1//os-server-external-events",
    "POST /v2.10/os-server-external-events",
    "PUT /v2.1/project/servers/x?name=/v2.1/os-server-external-events",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Haproxy,
    Nginx,
}

impl Kind {
    /// Where it is, or `None` if the test is to be skipped.
    fn find(self) -> Option<PathBuf> {
        let name = match self {
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        };
        // It need not be in a user's PATH.
        let found = runs(name.into(), "-v").or_else(|_| runs(Path::new("/usr/sbin").join(name), "-v"));
        or_skip(name, found)
    }

    fn snippet(self) -> &'static str {
        match self {
            Self::Haproxy => include_str!("../docs/proxies/haproxy.cfg"),
            Self::Nginx => include_str!("../docs/proxies/nginx.conf"),
        }
    }

    /// It, on a snippet in this folder.
    fn command(self, program: &Path, folder: &Path, snippet: &Path) -> Command {
        let mut command = Command::new(program);
        match self {
            Self::Haproxy => command.arg("-db").arg("-f").arg(snippet),
            Self::Nginx => {
                let main = folder.join("main.conf");
                let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .map(|kind| format!("{kind}_temp_path {}/{kind};", folder.display()))
                    .concat();
                let text = format!(
                    "daemon off; master_process off; pid {}/pid; events {{}}\nhttp {{ access_log off; {paths} \
                     include {}; }}\n",
                    folder.display(),
                    snippet.display()
                );
                fs::write(&main, text).expect("a file written");
                command.args(["-e", "stderr", "-p"]).arg(folder).arg("-c").arg(main)
            }
        };
        command.stdin(Stdio::null());
        command
    }
}

/// A proxy, killed when this is dropped.
struct Proxy {
    address: SocketAddr,
    _process: Process,
    folder: Arc<TempDir>,
}

impl Proxy {
    async fn start(kind: Kind, program: &Path, gateway: SocketAddr, nova: SocketAddr) -> Self {
        // Neither can be asked for a free port, and another process may take the one that was found.
        for _ in 0..5 {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            if let Some(proxy) =
                Self::start_at(kind, program, free.expect("a free port"), gateway, nova).await
            {
                return proxy;
            }
        }
        panic!("{kind:?} could not be started");
    }

    async fn start_at(
        kind: Kind,
        program: &Path,
        address: SocketAddr,
        gateway: SocketAddr,
        nova: SocketAddr,
    ) -> Option<Self> {
        let mut text = kind.snippet().to_owned();
        for (written, used) in
            [("127.0.0.1:8774", gateway), ("127.0.0.1:8775", nova), ("127.0.0.1:18774", address)]
        {
            assert!(text.contains(written), "{written} is not in the snippet");
            text = text.replace(written, &used.to_string());
        }
        let folder = folder();
        let snippet = folder.path().join("snippet");
        fs::write(&snippet, text).expect("the snippet written");
        let mut command = kind.command(program, folder.path(), &snippet);
        command.stderr(File::create(folder.path().join("log")).expect("a file for the log"));
        let mut process = Process::start(command);
        let started = async {
            while TcpStream::connect(address).await.is_err() {
                if process.has_ended() {
                    return false;
                }
                tokio::time::sleep(POLL).await;
            }
            !process.has_ended()
        };
        let started = timeout(BOUND, started).await.expect("it starts in time");
        let proxy = Self { address, _process: process, folder };
        if !started {
            eprintln!("{kind:?} has ended: {}", proxy.log());
        }
        started.then_some(proxy)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Sends an event as a caller does.
    async fn send(&self) -> Reply {
        call(self.address, EVENTS, "", &body()).await
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the proxy's log\n{}---", self.log());
        }
    }
}

fn body() -> String {
    json!({ "events": [sent(&uuid(), "network-changed", "")] }).to_string()
}

/// Which server a reply is of. The gateway's own are told by their ids.
fn from(reply: &Reply) -> &str {
    let gateway = reply.header("x-compute-request-id").map(|_| "gateway");
    reply.header("x-server").or(gateway).unwrap_or("nobody")
}

async fn the_events_alone_go_to_the_gateway(kind: Kind) {
    let Some(program) = kind.find() else { return };
    let gateway = Gateway::start(&["--unknown", "park"]).await;
    let nova = Server::start("nova", Does::Answer(202)).await;
    let proxy = Proxy::start(kind, &program, gateway.rest, nova.address).await;
    for form in FORMS {
        let reply = call(proxy.address, form, "", &body()).await;
        assert_eq!((reply.status, codes(&reply.json())), (200, vec![200]), "{form}");
        assert_eq!(from(&reply), "gateway");
    }
    let extended = json!({ "events": [sent(&uuid(), "volume-extended", "volume")] }).to_string();
    let reply = call(proxy.address, EVENTS, "OpenStack-API-Version: compute 2.51\r\n", &extended).await;
    assert_eq!((reply.status, reply.header("openstack-api-version")), (200, Some("compute 2.51")));
    assert_eq!(nova.seen().len(), 0);

    for line in OTHERS {
        let body = if line.starts_with("GET") { "" } else { "{\"server\": {}}" };
        let reply = call(proxy.address, line, "X-Auth-Token: secret\r\n", body).await;
        assert_eq!(
            (reply.status, from(&reply)),
            (if line == "GET /healthz" { 200 } else { 202 }, "nova"),
            "{line}"
        );
        if line != "GET /healthz" {
            let seen = nova.seen();
            assert_eq!((seen.len(), &*seen[0].line, &*seen[0].body), (1, line, body.as_bytes()));
            assert_eq!(seen[0].header("x-auth-token"), Some("secret"));
        }
    }
    // A body that is too large is the gateway's to refuse, in the envelope that callers know.
    let reply = call(proxy.address, EVENTS, "", &" ".repeat(2 << 20)).await;
    assert_eq!((reply.status, reply.json()["overLimit"]["code"].as_u64()), (413, Some(413)));
}

async fn who_calls_is_told_by_the_proxy_and_not_by_the_caller(kind: Kind) {
    let Some(program) = kind.find() else { return };
    let (gateway, nova) =
        (Server::start("gateway", Does::Answer(200)).await, Server::start("nova", Does::Answer(200)).await);
    let proxy = Proxy::start(kind, &program, gateway.address, nova.address).await;
    let lies = "X-Forwarded-For: 10.9.9.9\r\nX-Forwarded-Proto: gopher\r\nX-Forwarded-Host: lie\r\nForwarded: for=lie\r\n";
    for (line, server) in [(EVENTS, &gateway), ("GET /v2.1/", &nova)] {
        call(proxy.address, line, lies, "").await;
        let seen = server.seen();
        let port = proxy.address.port().to_string();
        for (name, value) in [
            ("host", Some("compute.example:8774")),
            ("x-forwarded-for", Some("127.0.0.1")),
            ("x-forwarded-host", Some("compute.example:8774")),
            ("x-forwarded-port", Some(&*port)),
            ("x-forwarded-proto", Some("http")),
            ("forwarded", None),
        ] {
            assert_eq!((seen.len(), seen[0].header(name)), (1, value), "{name}");
        }
    }
}

async fn what_may_have_been_taken_goes_nowhere_else(kind: Kind) {
    let Some(program) = kind.find() else { return };
    for does in [Does::HangUp, Does::Answer(503), Does::Answer(500), Does::Answer(404)] {
        let (gateway, nova) =
            (Server::start("gateway", does).await, Server::start("nova", Does::Answer(200)).await);
        let proxy = Proxy::start(kind, &program, gateway.address, nova.address).await;
        let reply = proxy.send().await;
        let expected = match does {
            Does::HangUp | Does::Refuse => (502, "nobody"),
            Does::Answer(status) => (status, "gateway"),
        };
        assert_eq!((reply.status, from(&reply)), expected);
        assert_eq!((gateway.seen().len(), nova.seen().len()), (1, 0), "{does:?}");
    }
}

async fn nova_stands_in_for_a_gateway_that_is_down_until_it_is_back(kind: Kind) {
    let Some(program) = kind.find() else { return };
    let nova = Server::start("nova", Does::Answer(202)).await;
    let mut gateway = Gateway::start(&["--unknown", "park"]).await;
    let proxy = Proxy::start(kind, &program, gateway.rest, nova.address).await;
    assert_eq!(from(&proxy.send().await), "gateway");
    gateway.kill();
    gateway.process.ended(BOUND).await;
    let reply = proxy.send().await;
    assert_eq!((reply.status, from(&reply), nova.seen().len()), (202, "nova", 1));
    let _gateway = gateway.again(&["--unknown", "park"]).await;
    until("the gateway has its events again", async || {
        let reply = try_call(proxy.address, EVENTS, "", &body()).await?;
        (from(&reply) == "gateway").then_some(())
    })
    .await;
}

macro_rules! with_each {
    ($($scenario:ident),*) => {
        mod haproxy {
            $(#[tokio::test]
            async fn $scenario() {
                super::$scenario(super::Kind::Haproxy).await;
            })*
        }
        mod nginx {
            $(#[tokio::test]
            async fn $scenario() {
                super::$scenario(super::Kind::Nginx).await;
            })*
        }
    };
}

with_each!(
    the_events_alone_go_to_the_gateway,
    who_calls_is_told_by_the_proxy_and_not_by_the_caller,
    what_may_have_been_taken_goes_nowhere_else,
    nova_stands_in_for_a_gateway_that_is_down_until_it_is_back
);

#[tokio::test]
async fn haproxy_waits_for_a_gateway_that_starts_anew() {
    let Some(program) = Kind::Haproxy.find() else { return };
    let nova = Server::start("nova", Does::Answer(202)).await;
    let gateway = Server::start("gateway", Does::Answer(200)).await;
    let address = gateway.address;
    let proxy = Proxy::start(Kind::Haproxy, &program, address, nova.address).await;
    // It begins with a server that one failed check is enough for; three good ones make it bear two.
    until("the gateway is known as healthy", async || (gateway.asked_for_health() > 3).then_some(())).await;
    drop(gateway);
    until("nobody listens there", async || TcpStream::connect(address).await.is_err().then_some(())).await;
    let mut reply = std::pin::pin!(proxy.send());
    let early = timeout(Duration::from_millis(300), reply.as_mut()).await;
    assert!(early.is_err(), "{early:?}");
    let gateway = Server::start_at(address, "gateway", Does::Answer(200)).await;
    assert_eq!(from(&reply.await), "gateway");
    assert_eq!((gateway.seen().len(), nova.seen().len()), (1, 0));
}

#[tokio::test]
async fn the_answer_of_a_gateway_that_cannot_keep_events_is_passed_on_and_nova_gets_nothing() {
    for kind in [Kind::Haproxy, Kind::Nginx] {
        let Some(program) = kind.find() else { continue };
        let (gateway, nova) =
            (Server::start("gateway", Does::Refuse).await, Server::start("nova", Does::Answer(202)).await);
        let proxy = Proxy::start(kind, &program, gateway.address, nova.address).await;
        if kind == Kind::Haproxy {
            // A fresh one takes a server out at the first answer that is not as it should be.
            until("it has looked", async || (gateway.asked_for_health() > 1).then_some(())).await;
        }
        for _ in 0..5 {
            let reply = proxy.send().await;
            assert_eq!((reply.status, from(&reply)), (503, "gateway"), "{kind:?}");
        }
        assert_eq!((gateway.seen().len(), nova.seen().len()), (5, 0), "{kind:?}");
    }
}
