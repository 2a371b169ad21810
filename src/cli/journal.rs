//! `wakeful journal`: looks into the log of a stopped agent.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::json;

use super::output::{Out, clean, complain};
use super::table::Table;
use super::words;
use crate::convert;
use crate::event::Position;
use crate::journal::disk::real::RealDisk;
use crate::journal::folder::Folder;
use crate::journal::inspect::{self, Batch};
use crate::journal::note::Note;
use crate::journal::record::{Raw, Record};
use crate::proto::WatchResponse;

/// Look into the log of a stopped agent; changes nothing
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: Look,
}

#[derive(Debug, clap::Subcommand)]
enum Look {
    /// Say what there is and whether it is whole: exits 1 if it is damaged
    Check {
        /// The agent's --data-dir
        folder: PathBuf,
    },
    /// Print each record, a line each
    Dump {
        /// The agent's --data-dir
        folder: PathBuf,
    },
}

/// Prints what is asked.
///
/// # Errors
///
/// If the folder is not there or in use, or what is in it cannot be read.
pub fn run(args: Args, out: &mut Out) -> anyhow::Result<ExitCode> {
    let (Look::Check { folder } | Look::Dump { folder }) = &args.what;
    if !folder.is_dir() {
        bail!("{} is not a folder", folder.display());
    }
    let _lock = Folder::lock(folder)?;
    let disk = RealDisk::open(folder).with_context(|| format!("cannot open {}", folder.display()))?;
    match args.what {
        Look::Check { .. } => check(&disk, out),
        Look::Dump { .. } => dump(&disk, out),
    }
}

fn check(disk: &RealDisk, out: &mut Out) -> anyhow::Result<ExitCode> {
    let report = inspect::look(disk, |_| {})?;
    let (meta, damages) = (&report.meta, &report.damages);
    if out.is_json() {
        let segments = report.segments.iter().map(|segment| {
            json!({
                "number": segment.number,
                "batches": segment.batches,
                "first_position": segment.first.0,
                "records": segment.records,
                "bytes": segment.bytes,
            })
        });
        let damages: Vec<_> = damages.iter().map(ToString::to_string).collect();
        out.line(json!({
            "log_id": meta.log_id().to_string(),
            "format": meta.format,
            "synced": meta.synced,
            "clean": meta.clean,
            "segments": segments.collect::<Vec<_>>(),
            "damages": damages,
        }))?;
    } else {
        out.line(format!("log         {}", meta.log_id()))?;
        out.line(format!("format      {}", meta.format))?;
        out.line(format!("durability  {}", if meta.synced { "sync" } else { "os" }))?;
        out.line(format!("stopped     {}", if meta.clean { "cleanly" } else { "without a word" }))?;
        let rows: Vec<[String; 5]> = report
            .segments
            .iter()
            .map(|s| [s.number, s.batches, s.first.0, s.records, s.bytes].map(|number| number.to_string()))
            .collect();
        out.text(&Table::new(&["SEGMENT", "BATCHES", "FROM POSITION", "RECORDS", "BYTES"]).lines(&rows))?;
        if let Some((file, byte)) = &report.torn {
            let file = file.display();
            out.line(format!("{file}: the last write was torn at byte {byte}, and a start cuts it off"))?;
        }
        for damage in damages {
            out.line(damage)?;
        }
        out.line(if damages.is_empty() { "whole" } else { "damaged" })?;
    }
    Ok(if damages.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn dump(disk: &RealDisk, out: &mut Out) -> anyhow::Result<ExitCode> {
    let mut unwritten = Ok(());
    let report = inspect::look(disk, |batch| {
        if unwritten.is_ok() {
            unwritten = print(&batch, out);
        }
    })?;
    unwritten?;
    out.flush()?;
    for damage in &report.damages {
        complain(&damage.to_string());
    }
    Ok(if report.damages.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(batch: &Batch<'_>, out: &mut Out) -> anyhow::Result<()> {
    let mut rest = batch.body;
    for position in (batch.first.0..).map(Position).take(batch.count as usize) {
        let raw = Raw::cut(&mut rest, batch.received_at)?;
        match raw.decode()? {
            Record::Event(record) if out.is_json() => {
                out.json(&WatchResponse { cursor: None, event: Some(convert::to_event(position, &record)) })?;
            }
            Record::Event(record) => {
                let event = convert::to_event(position, &record);
                out.line(format!(
                    "{position}  {}  {}  event {}  {}  {}  {} B of data",
                    batch.received_at,
                    event.instance_uuid,
                    words::key(&event.name, &event.tag),
                    words::status(&event),
                    event.event_id,
                    event.data.len()
                ))?;
            }
            Record::CancelInstance(cancel) => {
                let (at, instance, uid) = (batch.received_at, cancel.instance, cancel.caller.uid);
                match out.is_json() {
                    true => out.line(json!({
                        "position": position.0, "received_at": at.to_string(), "instance_uuid": instance.to_string(),
                        "uid": uid, "why": cancel.why,
                    }))?,
                    false => {
                        let why = clean(cancel.why);
                        out.line(format!("{position}  {at}  {instance}  cancelled by uid {uid}  {why}"))?;
                    }
                }
            }
        }
    }
    while let Some(note) = Note::take(&mut rest)? {
        let what = clean(&format!("{:?}", note.what));
        match out.is_json() {
            true => out.line(json!({ "note": what }))?,
            false => out.line(format!("-  {}  note {what}", batch.received_at))?,
        }
    }
    Ok(())
}
