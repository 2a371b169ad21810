//! The sender's side of the wire, kept cheap so that the server is what is measured: requests are patched
//! together from encoded events, and of replies only what is checked is decoded.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, bail};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::Stream;
use http::Uri;
use http::uri::PathAndQuery;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status, Streaming};
use wakeful::proto;

/// Events that requests are made from.
const TEMPLATES: usize = 4_096;
/// Stands where an id is put in.
const BLANK_ID: &str = "00000000-0000-4000-8000-000000000000";
const BLANK_TAG: &str = "11111111-1111-4111-8111-111111111111";

/// Numbers that look random (SplitMix64).
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// Another sequence each time the program runs.
    pub(crate) fn new() -> Self {
        Self(uuid::Uuid::new_v4().as_u64_pair().0)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Writes the digits of a version 4 UUID; those of its form are left as they stand.
    fn put_uuid(&mut self, text: &mut [u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        for places in [0..18, 19..36] {
            let mut bits = self.next();
            for place in &mut text[places] {
                if *place != b'-' {
                    *place = DIGITS[(bits & 15) as usize];
                    bits >>= 4;
                }
            }
        }
        text[14] = b'4';
    }

    /// A version 4 UUID.
    pub(crate) fn uuid(&mut self) -> String {
        let mut text = *b"00000000-0000-4000-8000-000000000000";
        self.put_uuid(&mut text);
        text[19] = b'8';
        text.iter().map(|digit| char::from(*digit)).collect()
    }
}

/// Requests without end: each event has an id and a tag that none had before.
#[derive(Clone)]
pub(crate) struct Requests {
    templates: Arc<[Template]>,
    at: usize,
    random: Random,
}

struct Template {
    bytes: Bytes,
    id: usize,
    tag: usize,
}

impl Requests {
    pub(crate) fn new() -> Result<Self> {
        let mut random = Random::new();
        let templates = (0..TEMPLATES).map(|_| Template::new(random.uuid()));
        Ok(Self { templates: templates.collect::<Result<_>>()?, at: 0, random })
    }

    /// The same from another place on, with other ids.
    pub(crate) fn fork(&mut self) -> Self {
        let at = self.random.next() as usize % self.templates.len();
        Self { templates: Arc::clone(&self.templates), at, random: Random(self.random.next()) }
    }

    /// The next request, of so many events.
    pub(crate) fn next(&mut self, events: usize) -> Bytes {
        let mut request = BytesMut::with_capacity(events * self.templates[0].bytes.len());
        for _ in 0..events {
            self.at = (self.at + 1) % self.templates.len();
            let template = &self.templates[self.at];
            let start = request.len();
            request.put_slice(&template.bytes);
            let event = &mut request[start..];
            self.random.put_uuid(&mut event[template.id..template.id + BLANK_ID.len()]);
            self.random.put_uuid(&mut event[template.tag..template.tag + BLANK_TAG.len()]);
        }
        request.freeze()
    }
}

impl Template {
    fn new(instance_uuid: String) -> Result<Self> {
        let event = proto::Event {
            event_id: BLANK_ID.into(),
            instance_uuid,
            name: "network-vif-plugged".into(),
            tag: BLANK_TAG.into(),
            ..Default::default()
        };
        let bytes = proto::DispatchRequest { events: vec![event] }.encode_to_vec();
        let place = |blank: &str| bytes.windows(blank.len()).position(|part| part == blank.as_bytes());
        let (id, tag) = place(BLANK_ID).zip(place(BLANK_TAG)).context("an event without its ids")?;
        Ok(Self { bytes: bytes.into(), id, tag })
    }
}

/// As much of a `DispatchResponse` as is checked.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Reply {
    #[prost(message, repeated, tag = "1")]
    results: Vec<Told>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Told {
    #[prost(enumeration = "proto::dispatch_result::Disposition", tag = "1")]
    disposition: i32,
}

impl Reply {
    /// Fails unless there is a result for each event, and each is that the event is kept.
    pub(crate) fn check(&self, events: usize) -> Result<()> {
        let kept = |told: &&Told| told.disposition() == proto::dispatch_result::Disposition::Retained;
        let kept = self.results.iter().filter(kept).count();
        if (self.results.len(), kept) != (events, events) {
            bail!("{events} events were sent, {} answered, {kept} of them RETAINED", self.results.len());
        }
        Ok(())
    }

    /// Fails unless there is one result, and it is that a wait was woken.
    pub(crate) fn check_woke(&self) -> Result<()> {
        match self.results[..] {
            [told] if told.disposition() == proto::dispatch_result::Disposition::Woke => Ok(()),
            _ => bail!("an event that is waited for was answered {:?}", self.results),
        }
    }
}

/// A connection to `EventReceiver`.
#[derive(Clone)]
pub(crate) struct Sender(Grpc<Connection>);

#[derive(Clone)]
struct Connection(SendRequest<Body>);

impl tower::Service<http::Request<Body>> for Connection {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

impl Sender {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let origin = Uri::try_from(format!("http://{address}"))?;
        Ok(Self(Grpc::with_origin(Connection(sender), origin)))
    }

    /// One call of `Dispatch`.
    pub(crate) async fn dispatch(&mut self, request: Bytes) -> Result<Reply> {
        const PATH: PathAndQuery = PathAndQuery::from_static("/wakeful.v1.EventReceiver/Dispatch");
        self.0.ready().await?;
        Ok(self.0.unary(Request::new(request), PATH, Raw).await?.into_inner())
    }

    /// A call of `DispatchStream`.
    pub(crate) async fn dispatch_stream(
        &mut self,
        requests: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Streaming<Reply>> {
        const PATH: PathAndQuery = PathAndQuery::from_static("/wakeful.v1.EventReceiver/DispatchStream");
        self.0.ready().await?;
        Ok(self.0.streaming(Request::new(requests), PATH, Raw).await?.into_inner())
    }
}

/// Sends bytes as they are.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Reply;
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
        buf.put_slice(&item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(256, 32 * 1024)
    }
}

impl Decoder for Raw {
    type Item = Reply;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Reply>, Status> {
        Reply::decode(buf).map(Some).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(256, 32 * 1024)
    }
}
