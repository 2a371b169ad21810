//! The codec of every method: prost's messages in gRPC frames, with buffers that start small.
//!
//! tonic gives each call a buffer of 8 KiB. A wait's stream is one call that carries a few small messages in
//! minutes, and a host may hold 100,000 of them.

use std::marker::PhantomData;

use bytes::BufMut;
use prost::Message;
use tonic::Status;
use tonic::codec::{
    BufferSettings, Codec as TonicCodec, DecodeBuf, Decoder as TonicDecoder, EncodeBuf,
    Encoder as TonicEncoder,
};

use crate::status;

/// Where a call's buffer starts, in bytes. It grows with what it has to hold.
const BUFFER: usize = 128;
/// Replies that are ready are gathered up to so many bytes before they are written.
const YIELD_AT: usize = 32 * 1024;

/// A message that can be read from its bytes.
pub trait FromWire: Sized + Send + 'static {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// The status that says what is wrong with them.
    fn from_wire(buf: &mut DecodeBuf<'_>) -> Result<Self, Status>;
}

/// A message that can be written as bytes.
pub trait ToWire: Send + 'static {
    /// Writes it.
    fn to_wire(&self, buf: &mut impl BufMut);
}

impl<M: Message + Default + 'static> FromWire for M {
    fn from_wire(buf: &mut DecodeBuf<'_>) -> Result<Self, Status> {
        Self::decode(buf).map_err(|error| status::undecodable(&error))
    }
}

impl<M: Message + 'static> ToWire for M {
    fn to_wire(&self, buf: &mut impl BufMut) {
        self.encode_raw(buf);
    }
}

/// The codec of messages of one type out, and of one in.
#[derive(Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: ToWire, U: FromWire> TonicCodec for Codec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = Encoder<T>;
    type Decoder = Decoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        Encoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        Decoder(PhantomData)
    }
}

/// Encodes messages.
#[derive(Debug)]
pub struct Encoder<T>(PhantomData<T>);

impl<T: ToWire> TonicEncoder for Encoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.to_wire(buf);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, YIELD_AT)
    }
}

/// Decodes a message, or says what is wrong with it.
#[derive(Debug)]
pub struct Decoder<U>(PhantomData<U>);

impl<U: FromWire> TonicDecoder for Decoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        U::from_wire(buf).map(Some)
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, YIELD_AT)
    }
}
