use std::sync::{Arc, Mutex};

use super::*;

#[test]
fn json_has_the_protos_field_names_and_what_is_empty_too() {
    let reply = proto::ListEventsResponse { log_id: "l".into(), ..Default::default() };
    assert_eq!(
        to_json(&dynamic(&reply).unwrap()).unwrap(),
        r#"{"events":[],"next_page_token":"","log_id":"l"}"#
    );
}

#[test]
fn json_has_enums_by_name_times_as_text_and_positions_whole() {
    let event = proto::Event {
        position: u64::MAX,
        status: proto::event::Status::InProgress.into(),
        data: b"hi".to_vec(),
        held_for: Some(prost_types::Duration { seconds: 3, nanos: 500_000_000 }),
        received_at: Some(prost_types::Timestamp { seconds: 0, nanos: 1_000_000 }),
        ..Default::default()
    };
    let reply = proto::WatchResponse { event: Some(event), cursor: None };
    let json: serde_json::Value = serde_json::from_str(&to_json(&dynamic(&reply).unwrap()).unwrap()).unwrap();
    assert_eq!(json["event"]["position"], "18446744073709551615");
    assert_eq!(json["event"]["status"], "IN_PROGRESS");
    assert_eq!(json["event"]["data"], "aGk=");
    assert_eq!(json["event"]["held_for"], "3.500s");
    assert_eq!(json["event"]["received_at"], "1970-01-01T00:00:00.001Z");
    assert_eq!(json["event"]["tag"], "");
}

#[test]
fn every_reply_that_is_printed_has_a_descriptor() {
    fn known<R: Reply + Default>() {
        dynamic(&R::default()).unwrap();
    }
    known::<proto::CancelInstanceResponse>();
    known::<proto::CancelResponse>();
    known::<proto::DispatchResponse>();
    known::<proto::ExplainResponse>();
    known::<proto::GetStatusResponse>();
    known::<proto::ListEventsResponse>();
    known::<proto::ListWaitsResponse>();
    known::<proto::Outcome>();
    known::<proto::WatchResponse>();
}

#[test]
fn pages_are_one_document_of_the_replys_shape() {
    let page = |positions: &[u64], token: &str| proto::ListEventsResponse {
        events: positions.iter().map(|&position| proto::Event { position, ..Default::default() }).collect(),
        next_page_token: token.into(),
        log_id: "l".into(),
    };
    for pages in [vec![page(&[1, 2], "t"), page(&[3], "")], vec![page(&[], "")]] {
        let (sink, written) = Sink::new();
        let mut out = Out::into(Format::Json, sink);
        let mut json = JsonPages::new("events");
        for page in &pages {
            json.page(&mut out, page).unwrap();
        }
        json.end(&mut out).unwrap();
        out.flush().unwrap();

        let text = written.lock().unwrap().clone();
        let merged: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let expected: Vec<String> =
            pages.iter().flat_map(|page| &page.events).map(|event| event.position.to_string()).collect();
        let found: Vec<&str> = merged["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["position"].as_str().unwrap())
            .collect();
        assert_eq!(found, expected);
        assert_eq!(merged["next_page_token"], "");
        assert_eq!(merged["log_id"], "l");
    }
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn new() -> (Self, Arc<Mutex<Vec<u8>>>) {
        let sink = Self::default();
        (sink.clone(), sink.0)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn control_characters_are_shown_rather_than_obeyed() {
    assert_eq!(clean("a\u{1b}[31mb"), "a\\u{1b}[31mb");
    assert_eq!(clean("grün"), "grün");
}

#[test]
fn a_closed_pipe_is_told_from_other_failures() {
    assert!(matches!(Unwritable::from(io::Error::from(ErrorKind::BrokenPipe)), Unwritable::ReaderGone));
    assert!(matches!(Unwritable::from(io::Error::from(ErrorKind::StorageFull)), Unwritable::Failed(_)));
}
