use super::*;

const BOTH: [&str; 2] = ["openstack-api-version", "x-openstack-nova-api-version"];

fn shown(got: &Got) -> (Option<&str>, Option<&str>) {
    (got.header(BOTH[0]), got.header(BOTH[1]))
}

#[tokio::test]
async fn every_reply_has_the_version_in_force_in_both_headers_and_errors_too() {
    let door = Fake::default().door(Auth::None, settings());
    let body = one_event("network-changed", BOUND, None).to_string();
    for (version, expected) in [
        (None, "2.1"),
        (Some("compute 2.1"), "2.1"),
        (Some("compute 2.51"), "2.51"),
        (Some("compute 2.104"), "2.104"),
        (Some("compute latest"), "2.104"),
        (Some("volume 3.60"), "2.1"),
    ] {
        let header = version.map(|version| (BOTH[0], version));
        let headers = header.as_slice();
        for request in [
            request("POST", PATH, headers, body.clone()),
            request("POST", PATH, headers, "nonsense"),
            request("GET", PATH, headers, ""),
            request("POST", "/v2.1/servers", headers, ""),
            request("GET", "/v2.1/", headers, ""),
            request("GET", "/", headers, ""),
        ] {
            let got = send(&door, request).await;
            let standard = format!("compute {expected}");
            assert_eq!(shown(&got), (Some(&*standard), Some(expected)));
            assert_eq!(got.header("vary"), Some("OpenStack-API-Version, X-OpenStack-Nova-API-Version"));
        }
    }
}

#[tokio::test]
async fn a_version_outside_is_406_and_told_back() {
    let door = Fake::default().door(Auth::None, settings());
    for version in ["2.0", "2.105", "1.1", "3.0", "2.99999999999999"] {
        let got = post(&door, version, &one_event("network-changed", BOUND, None)).await;
        let message = got.fault(406, "computeFault");
        assert!(message.contains(version) && message.contains("2.104"), "{message}");
        assert_eq!(shown(&got), (Some(&*format!("compute {version}")), Some(version)));
    }
    let lower = Settings { max_microversion: 93, ..settings() };
    let door = Fake::default().door(Auth::None, lower);
    let body = one_event("network-changed", BOUND, None);
    assert_eq!(post(&door, "2.93", &body).await.status, StatusCode::OK);
    post(&door, "2.94", &body).await.fault(406, "computeFault");
    assert_eq!(post(&door, "latest", &body).await.header(BOTH[1]), Some("2.93"));
}

#[tokio::test]
async fn a_malformed_version_is_400_without_the_headers() {
    let door = Fake::default().door(Auth::None, settings());
    for version in ["", "2", "2.x", "two", "2.01"] {
        let got = post(&door, version, &one_event("network-changed", BOUND, None)).await;
        got.fault(400, "badRequest");
        assert_eq!(shown(&got), (None, None));
        assert_eq!(got.header("vary"), None);
    }
}

#[tokio::test]
async fn under_v2_version_headers_are_neither_read_nor_sent() {
    let door = Fake::default().door(Auth::None, settings());
    let body = one_event("network-changed", BOUND, None).to_string();
    for version in ["compute 2.93", "compute 9.9", "compute nonsense"] {
        for path in ["/v2/os-server-external-events", "/v2/p/os-server-external-events", "/v2/", "/v2/no"] {
            let method = if path.ends_with('/') { "GET" } else { "POST" };
            let got = send(&door, request(method, path, &[(BOTH[0], version)], body.clone())).await;
            assert_eq!(got.status, if path == "/v2/no" { StatusCode::NOT_FOUND } else { StatusCode::OK });
            assert_eq!(shown(&got), (None, None));
            assert_eq!(got.header("vary"), None);
        }
    }
    let late = one_event("volume-reimaged", BOUND, None).to_string();
    let headers = [(BOTH[0], "compute 2.93")];
    let got = send(&door, request("POST", "/v2/os-server-external-events", &headers, late)).await;
    got.fault(400, "badRequest");
}

#[tokio::test]
async fn the_documents_say_which_versions_there_are() {
    let door = Fake::default().door(Auth::None, settings());
    let host = [("host", "api.example:8774")];
    let got = send(&door, request("GET", "/", &host, "")).await;
    assert_eq!(got.status, StatusCode::OK);
    let versions = got.body["versions"].as_array().unwrap();
    let ids: Vec<_> = versions.iter().map(|version| version["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["v2.0", "v2.1"]);
    let current = &versions[1];
    assert_eq!((&current["min_version"], &current["version"]), (&json!("2.1"), &json!("2.104")));
    assert_eq!(current["status"], "CURRENT");
    assert_eq!(current["links"][0], json!({"rel": "self", "href": "http://api.example:8774/v2.1/"}));

    for path in ["/v2.1", "/v2.1/"] {
        let got = send(&door, request("GET", path, &host, "")).await;
        assert_eq!(got.status, StatusCode::OK);
        let version = &got.body["version"];
        assert_eq!((&version["id"], &version["version"]), (&json!("v2.1"), &json!("2.104")));
        assert_eq!(version["links"][0]["href"], "http://api.example:8774/v2.1/");
        assert_eq!(version["media-types"][0]["type"], "application/vnd.openstack.compute+json;version=2.1");
        let outside = [(BOTH[1], "2.999")];
        send(&door, request("GET", path, &outside, "")).await.fault(406, "computeFault");
        assert_eq!(send(&door, request("HEAD", path, &[], "")).await.status, StatusCode::OK);
        let got = send(&door, request("POST", path, &[], "")).await;
        got.fault(405, "badMethod");
        assert_eq!(got.header("allow"), Some("GET, HEAD"));
    }
    // The root itself is under no microversion.
    let got = send(&door, request("GET", "/", &[(BOTH[1], "nonsense")], "")).await;
    assert_eq!(got.status, StatusCode::OK);
    let hostile = [("host", "a\"b<script>")];
    let got = send(&door, request("GET", "/", &hostile, "")).await;
    assert_eq!(got.body["versions"][1]["links"][0]["href"], "/v2.1/");
}

#[tokio::test]
async fn another_root_is_300_with_the_choices() {
    let door = Fake::default().door(Auth::None, settings());
    for path in ["/v9", "/v9/", "/v2.10/os-server-external-events", "/servers"] {
        let got = send(&door, request("GET", path, &[("host", "h")], "")).await;
        assert_eq!(got.status, StatusCode::MULTIPLE_CHOICES);
        let choices = got.body["choices"].as_array().unwrap();
        assert_eq!(choices.len(), 2);
        assert_eq!(choices[1]["id"], "v2.1");
        assert_eq!(choices[1]["links"][0]["href"], format!("http://h/v2.1{path}"));
    }
}
