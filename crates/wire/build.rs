//! Compiles the protocol files without a protobuf compiler on the machine.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let areas = ["words", "config", "health", "drain", "router", "process"];
    let files = areas.map(|area| format!("only1mcp/{area}/v1/{area}.proto"));
    let mut compiler = protox::Compiler::new([&root])?;
    let descriptors = compiler.include_source_info(true).include_imports(true).open_files(files)?.file_descriptor_set();
    let out = std::env::var("OUT_DIR")?;
    std::fs::write(Path::new(&out).join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
