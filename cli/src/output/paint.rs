//! Colours, or none.

/// Colours text when colours are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint(bool);

impl Paint {
    /// With colours or without.
    #[must_use]
    pub const fn new(wanted: bool) -> Self {
        Self(wanted)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A state, in the colour of what it means.
    #[must_use]
    pub fn state(self, state: &str) -> String {
        let code = match state {
            "succeeded" | "connected" | "ready" => "32",
            "failed" | "lost" => "31",
            "unknown" | "disconnected" => "35",
            "canceled" | "canceling" | "waiting" => "33",
            "running" => "36",
            _ => "2",
        };
        self.with(code, state)
    }

    /// A line of a difference, in the colour of its sign: `+`, `-` or `~`.
    #[must_use]
    pub fn change(self, sign: char, text: &str) -> String {
        let code = match sign {
            '+' => "32",
            '-' => "31",
            _ => "33",
        };
        self.with(code, text)
    }

    /// What stands at the head of an error.
    #[must_use]
    pub fn error(self, text: &str) -> String {
        self.with("1;31", text)
    }

    /// What people may skip.
    #[must_use]
    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    /// What people look for.
    #[must_use]
    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }
}
