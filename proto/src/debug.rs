//! Redacting `Debug` for the messages that carry secrets or the bytes of logs.

use std::fmt;

use crate::v1;

macro_rules! opaque {
    ($($name:ident),*) => {$(
        impl fmt::Debug for v1::$name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), " [not shown]"))
            }
        }
    )*};
}

opaque!(
    EnrollRequest,
    SignedRequest,
    GcpProof,
    Grant,
    EnvVar,
    PulumiAction,
    ShipLogRequest,
    ShipArtifactRequest,
    CompleteRequest
);
