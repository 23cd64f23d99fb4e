//! Images: local first, else pulled once at a time.

/// What the executor knows of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Reference as the user wrote it.
    pub reference: String,
    /// The engine's id of it, `sha256:...`: what containers are made from, so a tag that moves changes nothing.
    pub id: String,
    /// User of the image as it stands there (name, number, with or without group); empty for root.
    pub user: String,
    /// The image's own environment.
    pub env: Vec<(String, String)>,
}

/// How far a pull is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// For people.
    pub message: String,
    /// Bytes downloaded so far.
    pub current: u64,
    /// Bytes to download, as far as known.
    pub total: u64,
}
