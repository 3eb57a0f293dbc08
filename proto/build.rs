//! Compiles `proto/testudo/v1/*.proto` with protox, so that no `protoc` is needed on the user's machine.

use prost::Message as _;
use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(
        ["proto/testudo/v1/common.proto", "proto/testudo/v1/federation.proto", "proto/testudo/v1/admin.proto"],
        ["proto"],
    )?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("testudo_v1_descriptor.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".testudo.v1").compile_fds(files)?;
    Ok(())
}
