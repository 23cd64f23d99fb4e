//! Libraries, as they are typed.

use clap::{Args, Subcommand};

/// `library ...`
#[derive(Debug, Subcommand)]
pub enum LibraryCommand {
    /// Make a library; projects include it under `libraries` of their spec.
    Create(LibraryName),
    /// Set a variable of a library; its value is read from standard input.
    ///
    /// The value is taken exactly as it comes, as by `longshore variable set`. Releases that were made before keep the old
    /// value.
    Set(LibrarySet),
    /// Show a library's variables; secret values are never shown.
    Show(LibraryName),
    /// List the libraries.
    List,
}

/// One library.
#[derive(Debug, Clone, Args)]
pub struct LibraryName {
    /// The library.
    pub name: String,
}

/// `library set`
#[derive(Debug, Clone, Args)]
pub struct LibrarySet {
    /// The library.
    pub library: String,
    /// The variable.
    pub name: String,
    /// Keep it secret: stored encrypted, never shown again, masked in logs.
    #[arg(long)]
    pub secret: bool,
    /// Only for this environment.
    #[arg(long, value_name = "E")]
    pub env: Option<String>,
    /// Take one newline off the value's end.
    #[arg(long)]
    pub trim: bool,
}
