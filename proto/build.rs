//! Compiles the `.proto` files without a system `protoc`.

use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["proto/longshore/agent/v1/agent.proto"], ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // Secrets travel in these: no derived Debug may print them.
    let opaque = [
        "EnrollRequest",
        "Grant",
        "EnvVar",
        "PulumiAction",
        "ShipLogRequest",
        "ShipArtifactRequest",
        "CompleteRequest",
    ];
    tonic_prost_build::configure()
        .build_transport(false)
        .codec_path("crate::codec::SmallCodec")
        .skip_debug(opaque.map(|name| format!(".longshore.agent.v1.{name}")))
        .compile_fds(descriptors)?;
    Ok(())
}
