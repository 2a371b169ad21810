use std::fs;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::super::auth::{Roles, Tokens};
use super::*;
use crate::clock::Time;

const OTHERS: &str = "/v2.1/other/os-server-external-events";
const OWN: &str = "/v2.1/p1/os-server-external-events";

fn entry(token: &str, roles: &[&str], project_id: Option<&str>) -> String {
    let digest = Sha256::digest(token.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let project = project_id.map_or(String::new(), |id| format!("project_id = {id:?}\n"));
    format!("[[token]]\nsha256 = \"{hex}\"\nroles = {roles:?}\nname = \"of {token}\"\n{project}\n")
}

fn roles() -> Roles {
    Roles(vec!["service".to_owned(), "admin".to_owned()])
}

fn open(path: &Path) -> Auth {
    Auth::Tokens(Arc::new(Tokens::open(path, roles(), None, Time::default()).unwrap()))
}

/// Four tokens, and the folder that their file is in.
pub(super) fn tokens() -> (tempfile::TempDir, Auth) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.toml");
    let entries = [
        entry("neutron", &["service"], None),
        entry("boss", &["member", "Admin"], None),
        entry("bound", &["service"], Some("p1")),
        entry("user", &["member"], Some("p1")),
    ];
    fs::write(&path, entries.concat()).unwrap();
    let auth = open(&path);
    (folder, auth)
}

/// A door that knows them.
fn guarded() -> (Door<Fake>, tempfile::TempDir) {
    let (folder, auth) = tokens();
    (Fake::default().door(auth, settings()), folder)
}

fn body() -> String {
    one_event("network-changed", BOUND, None).to_string()
}

#[tokio::test]
async fn a_token_of_the_file_with_the_role_may_send() {
    let (door, _folder) = guarded();
    for (token, path) in
        [("neutron", PATH), ("neutron", OTHERS), ("boss", OTHERS), ("bound", OWN), ("bound", PATH)]
    {
        let got = call(&door, "POST", path, Some(token), &body()).await;
        assert_eq!(got.status, StatusCode::OK, "{token} {path}");
    }
}

#[tokio::test]
async fn without_a_known_token_it_is_401_before_path_method_version_and_body() {
    let (door, _folder) = guarded();
    for token in [None, Some(""), Some("nobody"), Some("neutron2")] {
        for (method, path) in [
            ("POST", PATH),
            ("GET", PATH),
            ("POST", "/v2.1/servers"),
            ("POST", "/v2/os-server-external-events"),
            ("POST", "/v2.1/"),
        ] {
            let mut headers = vec![("x-openstack-nova-api-version", "9.9"), ("host", "h:1")];
            headers.extend(token.map(|token| ("x-auth-token", token)));
            let got = send(&door, request(method, path, &headers, "nonsense")).await;
            assert_eq!(got.status, StatusCode::UNAUTHORIZED, "{method} {path}");
            let error = &got.body["error"];
            assert_eq!((&error["code"], &error["title"]), (&json!(401), &json!("Unauthorized")));
            assert!(error["message"].is_string());
            assert_eq!(got.header("www-authenticate"), Some("Keystone uri=\"http://h:1/\""));
            assert!(got.header("x-compute-request-id").is_some());
        }
    }
}

#[tokio::test]
async fn where_tokens_are_to_be_had_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.toml");
    fs::write(&path, "").unwrap();
    let uri = Some("https://keystone.example/".to_owned());
    let auth = Auth::Tokens(Arc::new(Tokens::open(&path, roles(), uri, Time::default()).unwrap()));
    let got = call(&Fake::default().door(auth, settings()), "POST", PATH, None, &body()).await;
    assert_eq!(got.header("www-authenticate"), Some("Keystone uri=\"https://keystone.example/\""));
}

#[tokio::test]
async fn version_documents_need_no_token() {
    let (door, _folder) = guarded();
    for path in ["/", "/v2.1", "/v2.1/", "/v2", "/v2/"] {
        assert_eq!(call(&door, "GET", path, None, "").await.status, StatusCode::OK, "{path}");
    }
    assert_eq!(call(&door, "GET", "/v9", None, "").await.status, StatusCode::MULTIPLE_CHOICES);
}

#[tokio::test]
async fn a_project_that_is_not_the_tokens_is_400_and_comes_before_the_schema() {
    let (door, _folder) = guarded();
    let message = call(&door, "POST", OTHERS, Some("bound"), &body()).await.fault(400, "badRequest");
    assert!(message.contains("project"));
    let message = call(&door, "POST", OTHERS, Some("bound"), "{}").await.fault(400, "badRequest");
    assert!(message.contains("project"));
    let message = call(&door, "POST", OTHERS, Some("bound"), "{").await.fault(400, "badRequest");
    assert!(message.contains("JSON"));
    call(&door, "POST", OTHERS, Some("user"), &body()).await.fault(400, "badRequest");
}

#[tokio::test]
async fn without_the_role_it_is_403_and_the_schema_comes_first() {
    let (door, _folder) = guarded();
    call(&door, "POST", OWN, Some("user"), &body()).await.fault(403, "forbidden");
    call(&door, "POST", OWN, Some("user"), "{}").await.fault(400, "badRequest");
    call(&door, "GET", OWN, Some("user"), "").await.fault(405, "badMethod");
    call(&door, "POST", "/v2.1/no", Some("user"), "").await.fault(404, "itemNotFound");
}

#[tokio::test]
async fn the_file_is_read_again_when_it_changes_and_a_bad_one_leaves_the_old_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.toml");
    fs::write(&path, entry("old", &["service"], None)).unwrap();
    let auth = open(&path);
    let known = async |token: &'static str, millis: u64| {
        let mut headers = HeaderMap::new();
        headers.insert("x-auth-token", http::HeaderValue::from_static(token));
        let now = Time::default().plus(Duration::from_millis(millis));
        auth.caller(&headers, now).await.unwrap().is_some()
    };
    assert!(known("old", 0).await && !known("new", 0).await);

    fs::write(&path, entry("new", &["service"], None) + &entry("third", &["admin"], None)).unwrap();
    assert!(known("old", 999).await, "it is looked at once a second");
    assert!(known("new", 1_000).await && !known("old", 1_000).await);

    fs::write(&path, "[[token]]\nsha256 = \"not a hash\"").unwrap();
    assert!(known("new", 2_000).await);
    fs::remove_file(&path).unwrap();
    assert!(known("new", 3_000).await);
    fs::write(&path, entry("old", &["service"], None)).unwrap();
    assert!(known("old", 4_000).await && !known("new", 4_000).await);
}

#[test]
fn a_file_that_is_not_valid_is_refused_without_showing_what_stands_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.toml");
    let twice = entry("a", &[], None) + &entry("a", &[], None);
    for text in [
        "[[token]]\nsha256 = \"s3cret\"\nroles = []\nname = \"n\"",
        "[[token]]\nsha256 = \"s3cret\"",
        "[[token]]\ns3cret = 1",
        "token = \"s3cret\"",
        "s3cret",
        &twice,
    ] {
        fs::write(&path, text).unwrap();
        let error = Tokens::open(&path, roles(), None, Time::default()).unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }
    assert!(Tokens::open(&folder.path().join("none"), roles(), None, Time::default()).is_err());
}
