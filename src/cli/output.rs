//! Where a command's words go: replies to stdout, for people or for programs, complaints to stderr.

use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::sync::LazyLock;

use anyhow::Context;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions, Value};
use thiserror::Error;

use crate::proto;

/// How a reply is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Tables and sentences, for people
    Table,
    /// JSON with the reply's field names, for programs
    Json,
}

/// Why nothing more can be printed.
#[derive(Debug, Error)]
pub enum Unwritable {
    /// Whoever read it has closed the pipe: there is nobody to print for.
    #[error("the reader of the output has gone")]
    ReaderGone,
    /// It cannot be written, to a full disk say.
    #[error("cannot write the output")]
    Failed(#[source] io::Error),
}

impl From<io::Error> for Unwritable {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe { Self::ReaderGone } else { Self::Failed(error) }
    }
}

/// A reply that can be printed as JSON, by its full name in `proto/`.
pub trait Reply: Message {
    /// The message's full name.
    const NAME: &'static str;
}

macro_rules! replies {
    ($($name:ident),* $(,)?) => {
        $(impl Reply for proto::$name {
            const NAME: &'static str = concat!("wakeful.v1.", stringify!($name));
        })*
    };
}

replies!(
    BindResponse,
    CancelInstanceResponse,
    CancelResponse,
    DispatchResponse,
    ExplainResponse,
    ForgetHostResponse,
    GetStatusResponse,
    ListBindingsResponse,
    ListConsumersResponse,
    ListEventsResponse,
    ListOutboxResponse,
    ListRefusalsResponse,
    ListResponse,
    ListWaitsResponse,
    LookupResponse,
    Outcome,
    RemoveConsumerResponse,
    UnbindResponse,
    WatchResponse,
);

/// Where replies are printed, and how.
pub struct Out {
    format: Format,
    sink: Box<dyn Write>,
}

impl Out {
    /// Prints to stdout in `format`.
    pub fn new(format: Format) -> Self {
        Self::into(format, io::stdout())
    }

    /// Prints into `sink` in `format`.
    pub fn into(format: Format, sink: impl Write + 'static) -> Self {
        Self { format, sink: Box::new(BufWriter::new(sink)) }
    }

    /// Whether it prints for programs.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints `text` as it is.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn text(&mut self, text: &str) -> Result<(), Unwritable> {
        Ok(self.sink.write_all(text.as_bytes())?)
    }

    /// Prints a line, without what would steer the terminal.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn line(&mut self, line: impl Display) -> Result<(), Unwritable> {
        Ok(writeln!(self.sink, "{}", clean(&line.to_string()))?)
    }

    /// Prints a reply as one JSON document on one line.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn json<R: Reply>(&mut self, reply: &R) -> anyhow::Result<()> {
        let json = to_json(&dynamic(reply)?)?;
        Ok(self.text(&(json + "\n"))?)
    }

    /// Hands on what has been printed so far.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn flush(&mut self) -> Result<(), Unwritable> {
        Ok(self.sink.flush()?)
    }
}

/// A reply that comes in pages, printed as one JSON document of its shape: the pages' lists are one list, and
/// the other fields are the last page's. No more than a page is held in memory.
#[derive(Debug)]
pub struct JsonPages {
    list: &'static str,
    last: Option<DynamicMessage>,
    empty: bool,
}

impl JsonPages {
    /// For replies whose list is the field `list`.
    pub fn new(list: &'static str) -> Self {
        Self { list, last: None, empty: true }
    }

    /// Prints a page's entries.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    pub fn page<R: Reply>(&mut self, out: &mut Out, page: &R) -> anyhow::Result<()> {
        let mut page = dynamic(page)?;
        if self.last.is_none() {
            out.text(&format!("{{\"{}\":[", self.list))?;
        }
        if let Some(Value::List(entries)) = page.get_field_by_name(self.list).as_deref() {
            for entry in entries.iter().filter_map(Value::as_message) {
                out.text(if self.empty { "\n" } else { ",\n" })?;
                out.text(&to_json(entry)?)?;
                self.empty = false;
            }
        }
        page.clear_field_by_name(self.list);
        self.last = Some(page);
        Ok(())
    }

    /// Prints what else the last page has, and ends the document.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn end(self, out: &mut Out) -> anyhow::Result<()> {
        let Some(last) = self.last else { return Ok(()) };
        let mut rest = serde_json::to_value(JsonMessage(&last)).context("cannot make JSON of the reply")?;
        if let Some(fields) = rest.as_object_mut() {
            fields.remove(self.list);
        }
        // The rest is an object too: all after its opening brace goes on where the list ends.
        let rest = rest.to_string();
        let comma = if rest == "{}" { "" } else { "," };
        out.text(if self.empty { "]" } else { "\n]" })?;
        Ok(out.text(&format!("{comma}{}\n", rest.trim_start_matches('{')))?)
    }
}

static DESCRIPTORS: LazyLock<Result<DescriptorPool, prost_reflect::DescriptorError>> =
    LazyLock::new(|| DescriptorPool::decode(proto::DESCRIPTORS));

fn dynamic<R: Reply>(reply: &R) -> anyhow::Result<DynamicMessage> {
    let pool = DESCRIPTORS.as_ref().context("cannot read the messages' descriptors")?;
    let descriptor =
        pool.get_message_by_name(R::NAME).with_context(|| format!("{} has no descriptor", R::NAME))?;
    let mut message = DynamicMessage::new(descriptor);
    message.transcode_from(reply).context("cannot make JSON of the reply")?;
    Ok(message)
}

fn to_json(message: &DynamicMessage) -> anyhow::Result<String> {
    serde_json::to_string(&JsonMessage(message)).context("cannot make JSON of the reply")
}

struct JsonMessage<'a>(&'a DynamicMessage);

impl serde::Serialize for JsonMessage<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false);
        self.0.serialize_with_options(serializer, &options)
    }
}

/// Text from outside without what would steer the terminal: control characters are escaped.
pub fn clean(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len()), |mut cleaned, c| {
        if c.is_control() {
            cleaned.extend(c.escape_default());
        } else {
            cleaned.push(c);
        }
        cleaned
    })
}

/// Says on stderr what went wrong, or what a person should know beside the reply. Nothing can be done if
/// nobody hears it.
pub fn complain(text: &str) {
    let text: Vec<String> = text.lines().map(clean).collect();
    let _ = writeln!(io::stderr(), "wakeful: {}", text.join("\n"));
}

#[cfg(test)]
mod tests;
