//! A connection with another node, as the rest of rhio sees it.

use std::fmt;

use iroh::endpoint::{ConnectionError, RecvStream, SendStream, VarInt};
use rhio_core::wire::CloseCode;

/// A connection. Cheap to clone; it ends when it is closed, or when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Connection {
    quic: iroh::endpoint::Connection,
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The peer closed it, with this code.
    ByPeer(CloseCode),
    /// The peer does not answer any more.
    Silent,
    /// This node closed it.
    ByUs,
    /// Anything else, in the library's words.
    Broken(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Also what the library says when a process ends.
            Self::ByPeer(CloseCode::Done) => f.write_str("the peer closed the connection"),
            Self::ByPeer(code) => write!(f, "closed by the peer: {}", code.reason()),
            Self::Silent => f.write_str("the peer does not answer any more"),
            Self::ByUs => f.write_str("closed by this node"),
            Self::Broken(reason) => f.write_str(reason),
        }
    }
}

impl From<ConnectionError> for Ended {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(closed) => {
                Self::ByPeer(CloseCode::from_code(closed.error_code.into_inner()))
            }
            ConnectionError::TimedOut => Self::Silent,
            ConnectionError::LocallyClosed => Self::ByUs,
            other => Self::Broken(other.to_string()),
        }
    }
}

impl Connection {
    pub(crate) fn new(quic: iroh::endpoint::Connection) -> Self {
        Self { quic }
    }

    pub(crate) fn quic(&self) -> &iroh::endpoint::Connection {
        &self.quic
    }

    /// How many bytes the peer may have under way to this node, on all streams together.
    pub(crate) fn set_receive_window(&self, bytes: u32) {
        self.quic.set_receive_window(VarInt::from_u32(bytes));
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn open_bi(&self) -> Result<(SendStream, RecvStream), Ended> {
        self.quic.open_bi().await.map_err(Ended::from)
    }

    /// The next stream that the peer opens.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn accept_bi(&self) -> Result<(SendStream, RecvStream), Ended> {
        self.quic.accept_bi().await.map_err(Ended::from)
    }

    /// Waits until the connection is gone.
    pub async fn closed(&self) -> Ended {
        self.quic.closed().await.into()
    }

    /// Why it is gone; `None` while it is not.
    pub fn close_reason(&self) -> Option<Ended> {
        self.quic.close_reason().map(Ended::from)
    }

    /// Closes it with a code.
    pub fn close(&self, code: CloseCode) {
        self.quic.close(VarInt::from_u32(code.code()), code.reason().as_bytes());
    }
}
