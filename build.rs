//! Compiles `proto/` without `protoc`, and keeps the descriptor set, comments included, for reflection.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message;

const FILES: &[&str] = &[
    "wakeful/v1/event.proto",
    "wakeful/v1/reason.proto",
    "wakeful/v1/event_receiver.proto",
    "wakeful/v1/waits.proto",
    "wakeful/v1/event_log.proto",
    "wakeful/v1/inspector.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_files(FILES)?;
    let descriptors = compiler.file_descriptor_set();

    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;

    tonic_prost_build::configure().codec_path("crate::net::codec::Codec").compile_fds(descriptors)?;
    Ok(())
}
