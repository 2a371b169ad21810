//! Bytes that are no message, or too many, are refused with their reason, and the next call is served.

#![cfg(test)]

mod common;

use bytes::{Buf, BufMut, Bytes};
use common::calls::{Said, assert_serves, said, why};
use common::{Agent, soon};
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// Sends a call's bytes as they are, without a message type.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buf.copy_to_bytes(buf.remaining())))
    }
}

/// Calls a method of one answer with these bytes as its message.
async fn raw_call(channel: &Channel, path: &'static str, message: Bytes) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.expect("the agent is there");
    let path = PathAndQuery::from_static(path);
    soon("the answer", grpc.unary(Request::new(message), path, Raw)).await.map(drop)
}

/// The status that ends a method of many answers, called with these bytes as its one message.
async fn raw_stream(channel: &Channel, path: &'static str, message: Bytes) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.expect("the agent is there");
    let path = PathAndQuery::from_static(path);
    let messages = tokio_stream::once(message);
    let mut answers =
        soon("the stream", grpc.streaming(Request::new(messages), path, Raw)).await?.into_inner();
    while soon("an answer", answers.message()).await?.is_some() {}
    Ok(())
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused_as_undecodable() {
    let agent = Agent::start(&[]).await;
    let channel = agent.unix();
    let undecodable = Said {
        code: Code::InvalidArgument,
        reason: "UNDECODABLE".into(),
        field: String::new(),
        limit: String::new(),
    };
    let broken: [&[u8]; 6] = [
        b"\xff",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        // A field longer than the message.
        b"\x0a\x7f\x00",
        // Events, with an instance_uuid that is not UTF-8.
        b"\x0a\x04\x12\x02\xc3\x28",
        // Field 1 as a fixed64.
        b"\x09\x00\x00\x00\x00\x00\x00\x00\x00",
        // A group that never ends.
        b"\x0b",
    ];
    for bytes in broken {
        let message = Bytes::from_static(bytes);
        let path = "/wakeful.v1.EventReceiver/Dispatch";
        let status = raw_call(&channel, path, message.clone()).await.expect_err("undecodable");
        assert_eq!(said(&status), undecodable, "{bytes:x?}: {status:?}");
        let path = "/wakeful.v1.EventReceiver/DispatchStream";
        let status = raw_stream(&channel, path, message.clone()).await.expect_err("undecodable");
        assert_eq!(said(&status), undecodable, "{bytes:x?}: {status:?}");
        assert_serves(&channel).await;
    }
    for path in ["/wakeful.v1.Waits/Wait", "/wakeful.v1.EventLog/Watch"] {
        let message = Bytes::from_static(b"\x0a\x7f");
        let status = raw_stream(&channel, path, message).await.expect_err("undecodable");
        assert_eq!(said(&status), undecodable, "{path}: {status:?}");
        assert_serves(&channel).await;
    }
}

#[tokio::test]
async fn a_message_over_max_message_is_refused_and_names_it() {
    let agent = Agent::start(&["--max-message", "64KiB"]).await;
    let over = Said {
        code: Code::InvalidArgument,
        reason: "OVER_LIMIT".into(),
        field: String::new(),
        limit: "max_message".into(),
    };
    // One byte more than may be: a field that nobody knows, of the length that is left.
    let mut message = vec![0xfa, 0x01, 0xfd, 0xff, 0x03];
    message.resize(64 * 1024 + 1, 0);
    for channel in [agent.tcp(), agent.unix()] {
        let message = Bytes::from(message.clone());
        let path = "/wakeful.v1.EventReceiver/Dispatch";
        let status = raw_call(&channel, path, message.clone()).await.expect_err("too large");
        assert_eq!(said(&status), over, "{status:?}");
        assert_serves(&channel).await;
        let path = "/wakeful.v1.EventReceiver/DispatchStream";
        let status = raw_stream(&channel, path, message).await.expect_err("too large");
        assert_eq!(said(&status), over, "{status:?}");
        assert_serves(&channel).await;
    }
    let status =
        raw_stream(&agent.unix(), "/wakeful.v1.Waits/Wait", message.into()).await.expect_err("too large");
    assert_eq!(said(&status), over, "{status:?}");
    assert_serves(&agent.tcp()).await;
}

#[tokio::test]
async fn a_method_that_is_not_there_is_unimplemented() {
    let agent = Agent::start(&[]).await;
    for (channel, path) in [
        (agent.unix(), "/wakeful.v1.EventReceiver/Forget"),
        (agent.unix(), "/wakeful.v1.Nobody/Home"),
        // Drivers and operators are served on the socket alone.
        (agent.tcp(), "/wakeful.v1.Waits/Wait"),
        (agent.tcp(), "/wakeful.v1.EventLog/ListEvents"),
        (agent.tcp(), "/wakeful.v1.Inspector/GetStatus"),
    ] {
        let status = raw_call(&channel, path, Bytes::new()).await.expect_err("not there");
        assert_eq!(why(&status), (Code::Unimplemented, "NOT_SERVED_HERE".into()), "{path}");
        assert_serves(&channel).await;
    }
}
