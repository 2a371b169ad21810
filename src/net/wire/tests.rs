use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proto::dispatch_result::Disposition;

use super::*;

/// What both say of a request's bytes: its events, or that they are none.
fn assert_as_prost(bytes: &[u8]) -> Result<(), TestCaseError> {
    let request = DispatchRequest(Bytes::copy_from_slice(bytes));
    let events: Result<Vec<_>, _> = request.events().collect();
    match (proto::DispatchRequest::decode(bytes), events) {
        (Ok(theirs), Ok(ours)) => {
            prop_assert_eq!(request.count().expect("its events were read"), theirs.events.len());
            let theirs: Vec<_> = theirs.events.iter().map(as_ours).collect();
            prop_assert_eq!(ours, theirs);
        }
        (Err(_), Err(_)) => {}
        (theirs, ours) => prop_assert!(false, "prost: {theirs:?}, here: {ours:?}"),
    }
    Ok(())
}

fn as_ours(event: &proto::Event) -> Event<'_> {
    Event {
        event_id: &event.event_id,
        instance_uuid: &event.instance_uuid,
        name: &event.name,
        tag: &event.tag,
        status: event.status,
        data: &event.data,
        occurred_at: event.occurred_at,
        held_for: event.held_for,
    }
}

prop_compose! {
    fn event()(
        texts in [".{0,4}", "[a-z-]{0,40}", ".{0,9}", "[0-9]{0,3}"],
        status in prop_oneof![0..4, any::<i32>()],
        data in vec(any::<u8>(), 0..40),
        occurred_at in option::of(any::<(i64, i32)>()),
        held_for in option::of(any::<(i64, i32)>()),
        position in any::<u64>(),
    ) -> proto::Event {
        let [event_id, instance_uuid, name, tag] = texts;
        let occurred_at = occurred_at.map(|(seconds, nanos)| Timestamp { seconds, nanos });
        let held_for = held_for.map(|(seconds, nanos)| Duration { seconds, nanos });
        let received_at = occurred_at;
        proto::Event {
            event_id, instance_uuid, name, tag, status, data, occurred_at, held_for, position, received_at,
        }
    }
}

proptest! {
    #[test]
    fn what_prost_writes_is_read_as_prost_reads_it(events in vec(event(), 0..4)) {
        assert_as_prost(&proto::DispatchRequest { events }.encode_to_vec())?;
    }

    #[test]
    fn damaged_bytes_are_read_or_refused_as_by_prost(
        events in vec(event(), 1..3),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = proto::DispatchRequest { events }.encode_to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        assert_as_prost(&bytes)?;
    }

    #[test]
    fn any_bytes_are_read_or_refused_as_by_prost(bytes in vec(any::<u8>(), 0..60)) {
        assert_as_prost(&bytes)?;
        // The same as one event's.
        let mut request = vec![0x0a, bytes.len() as u8];
        request.extend(bytes);
        assert_as_prost(&request)?;
    }

    #[test]
    fn a_reply_is_written_as_prost_writes_it(
        results in vec((0..5i32, any::<(u32, u64)>(), option::of(any::<u128>()), ".{0,9}"), 0..5),
    ) {
        let log_id = LogId(uuid::Uuid::from_u128(7));
        let mut theirs = proto::DispatchResponse { log_id: log_id.to_string(), ..Default::default() };
        let mut ours = DispatchResponse { results: Vec::new(), log_id };
        for (disposition, (woke, position), id, message) in results {
            let id = id.map(|id| EventId(uuid::Uuid::from_u128(id)));
            let disposition = Disposition::try_from(disposition).expect("one of them");
            let event_id = id.map(|id| id.to_string()).unwrap_or_default();
            let mut result =
                proto::DispatchResult { disposition: disposition.into(), woke, position, event_id, ..Default::default() };
            ours.results.push(match disposition {
                Disposition::Rejected => {
                    result.message = message;
                    DispatchResult::Rejected(Box::new(result.clone()))
                }
                _ => DispatchResult::Kept { disposition, woke, position, event_id: id },
            });
            theirs.results.push(result);
        }
        let mut bytes = Vec::new();
        ours.to_wire(&mut bytes);
        prop_assert_eq!(bytes, theirs.encode_to_vec());
    }
}
