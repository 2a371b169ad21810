//! Bytes that are no batch's body: they are refused, and what is not is written as it was read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wakeful::clock::Time;
use wakeful::event::CancelInstance;
use wakeful::journal::note::Note;
use wakeful::journal::record::{Raw, Record, put_cancel_instance, put_event};

fuzz_target!(|body: &[u8]| {
    let mut rest = body;
    while let Ok(raw) = Raw::cut(&mut rest, Time::default()) {
        let mut again = Vec::new();
        match raw.decode() {
            Ok(Record::Event(record)) => put_event(&mut again, &record.event),
            Ok(Record::CancelInstance(record)) => {
                let why = record.why.to_owned();
                let cancel = CancelInstance { instance: record.instance, caller: record.caller, why };
                put_cancel_instance(&mut again, &cancel);
            }
            Err(_) => break,
        }
        let mut written = &again[..];
        let decoded = Raw::cut(&mut written, Time::default()).and_then(|raw| raw.decode().map(|_| ()));
        assert!(decoded.is_ok() && written.is_empty());
        if rest.is_empty() {
            break;
        }
    }
    let mut rest = body;
    while let Ok(Some(note)) = Note::take(&mut rest) {
        drop(note);
    }
});
