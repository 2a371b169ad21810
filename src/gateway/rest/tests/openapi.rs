use axum::response::Response;
use http::Method;

use super::super::envelope::CODES;
use super::super::names::NAMES;
use super::super::openapi::document;
use super::super::{EVENTS, VERSIONS};
use super::*;

/// Checks that the document has a reply, as any of these tests is given it, with the headers that it has to have.
/// Where the path has no such method, or is none of the document's, the document says so of them all.
#[track_caller]
pub(super) fn check_is_documented(method: &Method, path: &str, response: &Response) {
    let document = document(&settings(), true, false);
    let of_path = EVENTS.iter().find(|template| fits(template, path)).map_or(path, |template| template);
    let described = document["paths"].get(of_path).and_then(Value::as_object);
    let own = if EVENTS.contains(&of_path) { (Method::POST, "post") } else { (Method::GET, "get") };
    let is_own = described.is_some() && (*method == own.0 || *method == Method::HEAD && own.0 == Method::GET);
    let code = response.status().as_u16();
    let answer = match described {
        // The token is looked at before the path and the method; it may be that nobody can say whose it is.
        _ if (code == 401 || code == 503) && !is_own => return,
        Some(operations) if is_own || code == 405 => &operations[own.1]["responses"][code.to_string()],
        None if code == 404 => &document["components"]["responses"]["NotFound"],
        None if code == 300 => &document["components"]["responses"]["Choices"],
        _ => &Value::Null,
    };
    assert!(answer.is_object(), "{method} {path} was answered {code}, which is not documented");
    for (name, header) in answer["headers"].as_object().unwrap() {
        let header = document.pointer(&header["$ref"].as_str().unwrap()[1..]).unwrap();
        let given = response.headers().contains_key(name);
        assert!(given || header["required"] == false, "{method} {path} was answered {code} without {name}");
    }
}

/// Whether a path is one of a template's, whose project is not empty.
fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    let part =
        |(template, path): (&&str, &&str)| template == path || (*template == "{tenant}" && !path.is_empty());
    template.len() == path.len() && template.iter().zip(&path).all(part)
}

async fn got(auth: Auth, settings: Settings) -> Value {
    let door = Fake::default().door(auth, settings);
    let got = send(&door, request("GET", "/openapi.json", &[], "")).await;
    assert_eq!((got.status, got.header("content-type")), (StatusCode::OK, Some("application/json")));
    got.body
}

fn names(document: &Value, schema: &str) -> Vec<String> {
    let event = &document["components"]["schemas"][schema]["properties"]["events"]["items"];
    let names = event["properties"]["name"]["oneOf"].as_array().unwrap();
    names.iter().map(|name| name["const"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_document_has_every_name_and_under_v2_those_of_the_lowest_version() {
    let document = got(Auth::None, settings()).await;
    assert_eq!(names(&document, "Events"), NAMES.map(|known| known.name));
    let lowest = NAMES.iter().filter(|known| known.since == 1).map(|known| known.name);
    assert_eq!(names(&document, "EventsV2"), lowest.collect::<Vec<_>>());
    let text = document.to_string();
    for known in NAMES {
        let tag = if known.needs_tag { ", with a tag." } else { "." };
        let rule = format!(
            "\"const\":\"{}\",\"description\":\"From microversion 2.{}{tag}\"",
            known.name, known.since
        );
        assert!(text.contains(&rule), "{rule}");
    }
}

#[tokio::test]
async fn the_document_has_what_its_gateway_admits() {
    let extra_event_names = vec!["test-event".to_owned(), "volume-reimaged".to_owned()];
    let settings = Settings { max_microversion: 51, extra_event_names, max_body: 4_321, ..settings() };
    let document = got(Auth::None, settings).await;
    let names = names(&document, "Events");
    assert_eq!(names.len(), 7, "{names:?}");
    assert!(names.contains(&"volume-extended".to_owned()) && !names.contains(&"power-update".to_owned()));
    assert!(names.contains(&"test-event".to_owned()) && names.contains(&"volume-reimaged".to_owned()));
    let operation = &document["paths"]["/v2.1/os-server-external-events"]["post"];
    assert!(operation["requestBody"]["description"].as_str().unwrap().contains("4321 bytes"));
    let versions = operation["parameters"][0]["schema"]["anyOf"][0]["pattern"].as_str().unwrap();
    assert!(versions.ends_with("|50|51))$"), "{versions}");
}

#[tokio::test]
async fn every_code_of_the_table_is_answered_somewhere() {
    let document = document(&settings(), true, false);
    let operations =
        document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap());
    let answers: Vec<_> =
        operations.flat_map(|(_, it)| it["responses"].as_object().unwrap().keys()).collect();
    for code in CODES {
        assert!(answers.contains(&&code.code.to_string()), "{}", code.code);
        let envelope = &document["components"]["schemas"][format!("Fault{}", code.code)];
        assert_eq!(envelope["required"], json!([code.name]));
    }
}

#[tokio::test]
async fn every_reference_has_what_it_names() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = document(&settings(), true, false);
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 100);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn a_token_is_asked_for_where_callers_are_told_apart_and_never_for_a_document() {
    let open = document(&settings(), false, false);
    assert!(open.get("security").is_none() && open["components"].get("securitySchemes").is_none());
    assert!(open["paths"]["/v2/os-server-external-events"]["post"]["responses"].get("401").is_none());
    let closed = document(&settings(), true, false);
    assert_eq!(closed["security"], json!([{"token": []}]));
    assert_eq!(closed["components"]["securitySchemes"]["token"]["name"], "X-Auth-Token");
    for path in VERSIONS.iter().chain(&["/", "/healthz", "/openapi.json"]) {
        assert_eq!(closed["paths"][path]["get"]["security"], json!([]), "{path}");
    }
}
