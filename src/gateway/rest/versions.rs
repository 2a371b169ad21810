//! The version documents, which clients negotiate by.

use http::header::HOST;
use http::{HeaderMap, Uri};
use serde_json::{Value, json};

use super::microversion::LOWEST;

/// Which API a path is under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    /// `/v2.1`: microversions.
    V21,
    /// `/v2`: the rules of 2.1, before there were microversions.
    V2,
    /// None.
    Other,
}

impl Root {
    /// The one that `path` is under.
    pub(super) fn of(path: &str) -> Self {
        match path.split('/').nth(1) {
            Some("v2.1") => Self::V21,
            Some("v2") => Self::V2,
            _ => Self::Other,
        }
    }
}

/// The URL of this gateway as the caller wrote it, without a slash at its end; empty if it wrote none, and then
/// links are relative.
pub(super) fn base_url(uri: &Uri, headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    match uri.authority().map(|authority| authority.as_str()).or(host) {
        Some(host) if host.bytes().all(is_host) && !host.is_empty() => format!("http://{host}"),
        _ => String::new(),
    }
}

fn is_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_:[]%".contains(&byte)
}

/// Every version: the document at `/`.
pub(super) fn all(base: &str, max: u16) -> Value {
    json!({"versions": [
        described(Root::V2, max, vec![own_link(format!("{base}/v2/"))]),
        described(Root::V21, max, vec![own_link(format!("{base}/v2.1/"))]),
    ]})
}

/// One version: the document at its root.
pub(super) fn one(root: Root, base: &str, max: u16) -> Value {
    let path = if root == Root::V2 { "v2" } else { "v2.1" };
    let mut version = described(root, max, vec![own_link(format!("{base}/{path}/")), documentation()]);
    version["media-types"] = media_types(root);
    json!({"version": version})
}

/// The versions that `path`, under no root that there is, may be asked of.
pub(super) fn choices(base: &str, path: &str) -> Value {
    let choice = |root, id, status, at| {
        let links = vec![own_link(format!("{base}/{at}{path}"))];
        json!({"id": id, "status": status, "links": links, "media-types": media_types(root)})
    };
    json!({"choices": [
        choice(Root::V2, "v2.0", "DEPRECATED", "v2"),
        choice(Root::V21, "v2.1", "CURRENT", "v2.1"),
    ]})
}

fn described(root: Root, max: u16, links: Vec<Value>) -> Value {
    match root {
        Root::V2 => json!({
            "id": "v2.0", "status": "DEPRECATED", "version": "", "min_version": "",
            "updated": "2011-01-21T11:33:21Z", "links": links,
        }),
        Root::V21 | Root::Other => json!({
            "id": "v2.1", "status": "CURRENT",
            "version": format!("2.{max}"), "min_version": format!("2.{LOWEST}"),
            "updated": "2013-07-23T11:33:21Z", "links": links,
        }),
    }
}

fn own_link(href: String) -> Value {
    json!({"rel": "self", "href": href})
}

fn documentation() -> Value {
    json!({"rel": "describedby", "type": "text/html", "href": "https://docs.openstack.org/api-ref/compute/"})
}

fn media_types(root: Root) -> Value {
    let version = if root == Root::V2 { "2" } else { "2.1" };
    json!([{
        "base": "application/json",
        "type": format!("application/vnd.openstack.compute+json;version={version}"),
    }])
}
