//! Every call's way in and out: who calls, by when it must be answered, and what a transport error reads as.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::Service;

use super::listen::Peer;
use crate::proto::reason::Code as Reason;
use crate::status::{self, Refusal};

const TIMEOUT: &str = "grpc-timeout";
const STATUS: &str = "grpc-status";

/// The calls of one connection.
#[derive(Clone)]
pub struct Calls {
    routes: Routes,
    peer: Peer,
}

impl Calls {
    /// The calls of this peer, to these services.
    pub fn new(routes: Routes, peer: Peer) -> Self {
        Self { routes, peer }
    }
}

impl hyper::service::Service<Request<Incoming>> for Calls {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Reply>, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        let timeout = request.headers().get(TIMEOUT).and_then(parse_timeout);
        // Made before the call goes on, so that the time it takes to get there is counted.
        let mut deadline = timeout.map(|span| Box::pin(sleep(span)));
        let mut routes = self.routes.clone();
        Box::pin(async move {
            let answer = routes.call(request);
            let response = match deadline.as_mut() {
                None => answer.await,
                Some(deadline) => tokio::select! {
                    biased;
                    response = answer => response,
                    () = deadline => Ok(timed_out().into_http()),
                },
            };
            response.map(|response| {
                let response = match response.headers().contains_key(STATUS) {
                    false => response,
                    true => with_reason(response),
                };
                response.map(|body| Reply { body, deadline })
            })
        })
    }
}

/// A reply's body, which ends with DEADLINE_EXCEEDED when the caller's deadline passes on the way.
pub struct Reply {
    body: Body,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Reply {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // The deadline first: a body that always has something ready would never come to it.
        if let Some(Poll::Ready(())) = self.deadline.as_mut().map(|deadline| deadline.as_mut().poll(cx)) {
            self.deadline = None;
            self.body = Body::empty();
            let mut trailers = HeaderMap::new();
            return Poll::Ready(match timed_out().add_header(&mut trailers) {
                Ok(()) => Some(Ok(Frame::trailers(trailers))),
                Err(status) => Some(Err(status)),
            });
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn timed_out() -> Status {
    Refusal::new(Code::DeadlineExceeded, Reason::CallTimedOut, "the call's own deadline has passed").into()
}

/// The time that a caller gives the call: up to eight digits and a unit, as gRPC over HTTP/2 has it. One
/// that is malformed is not kept.
fn parse_timeout(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// tonic's own refusals come without a reason: puts one in where it is known.
fn with_reason(response: Response<Body>) -> Response<Body> {
    match Status::from_header_map(response.headers()) {
        Some(found) if found.code() != Code::Ok => status::with_reason(found).into_http(),
        _ => response,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_read_in_every_unit_and_not_if_malformed() {
        let read = |text| parse_timeout(&HeaderValue::from_static(text));
        assert_eq!(read("2H"), Some(Duration::from_secs(7_200)));
        assert_eq!(read("3M"), Some(Duration::from_secs(180)));
        assert_eq!(read("5S"), Some(Duration::from_secs(5)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("999999u"), Some(Duration::from_micros(999_999)));
        assert_eq!(read("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for malformed in ["", "S", "5", "5s", "-5S", "123456789S", "1 S"] {
            assert_eq!(read(malformed), None, "{malformed}");
        }
    }
}
