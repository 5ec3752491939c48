//! Why something that a user asked for was not done.

/// Why a request was not done.
#[derive(Debug)]
pub struct Failure {
    /// As in HTTP: 4xx the request is wrong, 5xx something here is.
    pub code: u16,
    /// One sentence.
    pub reason: String,
}

impl Failure {
    /// A failure with its sentence.
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}
