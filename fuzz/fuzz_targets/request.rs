//! Bytes of a DispatchRequest: read here as prost reads them, and no event of them is more than its bounds allow.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use wakeful::config::Options;
use wakeful::convert::{self, Bounds};
use wakeful::engine::Opening;
use wakeful::journal::events::Events;
use wakeful::net::wire::DispatchRequest;
use wakeful::proto;

fuzz_target!(|bytes: &[u8]| {
    let bounds = Bounds::from(&Options::default().resolve().expect("the defaults are good"));
    let theirs = proto::DispatchRequest::decode(bytes);
    let ours = DispatchRequest::new(Bytes::copy_from_slice(bytes));
    let ours: Result<Vec<_>, _> = ours.events().collect::<Result<_, _>>().map_err(|_| ());
    match (theirs, ours) {
        (Ok(theirs), Ok(ours)) => {
            assert_eq!(theirs.events.len(), ours.len());
            let mut events = Events::with_capacity(ours.len());
            for (theirs, ours) in theirs.events.iter().zip(&ours) {
                assert_eq!(
                    (&*theirs.event_id, &*theirs.name, &*theirs.tag, theirs.status, &theirs.data[..]),
                    (ours.event_id, ours.name, ours.tag, ours.status, ours.data)
                );
                if let Ok(event) = convert::event(ours, &bounds) {
                    events.push(&event);
                }
            }
            for entry in events.iter() {
                events.event(entry).expect("what was just written");
            }
        }
        (Err(_), Err(())) => {}
        (theirs, ours) => panic!("prost: {theirs:?}, here: {ours:?}"),
    }
    if let Ok(request) = proto::WaitRequest::decode(bytes) {
        let _ = convert::ask(request, 7, Opening(1), &bounds);
    }
});
