//! Why a stream or a connection was closed, as the number that QUIC carries.

/// The codes. Their numbers are part of the protocol and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// Done, nothing wrong.
    Done,
    /// The other side sent what the protocol does not allow.
    Protocol,
    /// The peer may not read this, or is not known here.
    Refused,
    /// What was sent failed verification.
    Unverified,
    /// This node is shutting down.
    Shutdown,
    /// This node can't serve it now; try again later.
    Unavailable,
    /// No progress for too long.
    Stalled,
    /// A newer connection between the two took over.
    Superseded,
    /// The author's log and the subscriber's copy are not one chain.
    Diverged,
}

impl CloseCode {
    const ALL: [(Self, u32); 9] = [
        (Self::Done, 0),
        (Self::Protocol, 1),
        (Self::Refused, 2),
        (Self::Unverified, 3),
        (Self::Shutdown, 4),
        (Self::Unavailable, 5),
        (Self::Stalled, 6),
        (Self::Superseded, 7),
        (Self::Diverged, 8),
    ];

    /// The number that travels.
    pub fn code(self) -> u32 {
        Self::ALL.iter().find(|(close, _)| *close == self).map_or(1, |(_, code)| *code)
    }

    /// Reads a number; what a newer program may send counts as [`CloseCode::Unavailable`].
    pub fn from_code(code: u64) -> Self {
        Self::ALL.iter().find(|(_, known)| u64::from(*known) == code).map_or(Self::Unavailable, |(close, _)| *close)
    }

    /// The same in words, for logs.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Protocol => "protocol violated",
            Self::Refused => "access refused",
            Self::Unverified => "data failed verification",
            Self::Shutdown => "node is shutting down",
            Self::Unavailable => "not available now",
            Self::Stalled => "no progress for too long",
            Self::Superseded => "replaced by a newer connection",
            Self::Diverged => "logs diverged",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_back_and_unknown_ones_are_harmless() {
        for (close, code) in CloseCode::ALL {
            assert_eq!(close.code(), code);
            assert_eq!(CloseCode::from_code(u64::from(code)), close);
        }
        assert_eq!(CloseCode::from_code(4711), CloseCode::Unavailable);
    }
}
