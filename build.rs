//! Compiles `proto/` without `protoc`, and keeps the descriptor set, comments included, for reflection.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message;

const FILES: &[&str] = &[
    "wakeful/v1/event.proto",
    "wakeful/v1/reason.proto",
    RECEIVER,
    "wakeful/v1/waits.proto",
    "wakeful/v1/event_log.proto",
    "wakeful/v1/inspector.proto",
    "wakeful/v1/bindings.proto",
    "wakeful/v1/directory.proto",
    "wakeful/v1/outbox.proto",
];

const RECEIVER: &str = "wakeful/v1/event_receiver.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_files(FILES)?;
    let descriptors = compiler.file_descriptor_set();

    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;

    let configure = || tonic_prost_build::configure().codec_path("crate::net::codec::Codec");
    configure().compile_fds(descriptors.clone())?;

    // What an agent takes in by the million is read where it lies: the same service, with messages of our own.
    let mut receiver = descriptors;
    for file in receiver.file.iter_mut().filter(|file| file.name() != RECEIVER) {
        file.service.clear();
    }
    let lean = out.join("lean");
    fs::create_dir_all(&lean)?;
    configure()
        .out_dir(lean)
        .build_client(false)
        .extern_path(".wakeful.v1.DispatchRequest", "crate::net::wire::DispatchRequest")
        .extern_path(".wakeful.v1.DispatchResponse", "crate::net::wire::DispatchResponse")
        .extern_path(".wakeful.v1", "crate::proto")
        .compile_fds(receiver)?;
    Ok(())
}
