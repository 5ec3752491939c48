//! Makes one connection to one of several servers. Each is tried in turn, and none can hold up the others: every step has
//! a deadline of its own.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::BytesMut;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::auth::{self, AuthError};
use super::connection::{self, Reader, Writer};
use super::encode::{ClientInfo, Login, Outbox};
use super::info::ServerInfo;
use super::parse::{ParseError, Parser, ServerOp};
use crate::fault::is_refusal;
use crate::settings::{Endpoint, Nats};

/// How long finding the addresses of a name may take, and connecting to each of them.
const REACH: Duration = Duration::from_secs(2);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;
/// How long each of the server's first word, the TLS handshake and the answer to our first word may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Why there is no connection. Never shows a secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// The server knows us not.
    #[error("NATS at {servers} refused our credentials: {reason}")]
    Refused {
        /// The servers' addresses.
        servers: String,
        /// The server's own words.
        reason: String,
    },
    /// No agreement on a secure connection.
    #[error("no TLS connection to NATS at {servers}: {reason}")]
    Tls {
        /// The servers' addresses.
        servers: String,
        /// What the TLS library says.
        reason: String,
    },
    /// Nobody answers.
    #[error("NATS at {servers} cannot be reached: {reason}")]
    Unreachable {
        /// The servers' addresses.
        servers: String,
        /// What the operating system says.
        reason: String,
    },
    /// A file that the configuration names is of no use.
    #[error("{key}: {} {reason}", .path.display())]
    File {
        /// The key that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Something else about our own settings.
    #[error(transparent)]
    Auth(AuthError),
}

impl From<AuthError> for ConnectError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::File { key, path, reason } => Self::File { key, path, reason },
            other => Self::Auth(other),
        }
    }
}

/// Connects to the first of the servers, in random order, that takes us. It shows up there as `rhio <purpose>`.
///
/// # Errors
/// When a file is of no use, or no server takes us. Of several reasons the one is told that is least likely to go away
/// by itself: refused credentials before TLS, and that before a server that can't be reached.
pub async fn connect(settings: &Nats, purpose: &str) -> Result<(Writer, Reader), ConnectError> {
    // What is wrong with our own files is said at once, whatever is wrong with the servers.
    auth::login(settings.credentials.as_ref(), None).await?;
    if settings.tls.is_some() {
        auth::tls(settings.tls.as_ref()).await?;
    }
    let mut order: Vec<&Endpoint> = settings.endpoint.iter().collect();
    fastrand::shuffle(&mut order);
    let mut failures = Vec::with_capacity(order.len());
    for endpoint in order {
        match reach(settings, endpoint, purpose).await {
            Ok(connected) => return Ok(connected),
            Err(Failure::Auth(error)) => return Err(error.into()),
            Err(failure) => failures.push((endpoint, failure)),
        }
    }
    Err(explain(&failures))
}

/// Why one server does not take us.
#[derive(Debug, Error)]
enum Failure {
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Tls(String),
    #[error("{0}")]
    Unreachable(String),
    #[error(transparent)]
    Auth(#[from] AuthError),
}

impl Failure {
    fn late(what: &str, deadline: Duration) -> Self {
        Self::Unreachable(format!("{what} did not come within {} s", deadline.as_secs()))
    }

    /// TLS reports what the other side thinks of our certificate when it is read from.
    fn io(error: &io::Error) -> Self {
        let is_tls = error.get_ref().is_some_and(|inside| inside.is::<rustls::Error>());
        if is_tls { Self::Tls(error.to_string()) } else { Self::Unreachable(error.to_string()) }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Auth(_) | Self::Refused(_) => 2,
            Self::Tls(_) => 1,
            Self::Unreachable(_) => 0,
        }
    }
}

impl From<ParseError> for Failure {
    fn from(error: ParseError) -> Self {
        Self::Unreachable(format!("the server does not speak NATS: {error}"))
    }
}

fn explain(failures: &[(&Endpoint, Failure)]) -> ConnectError {
    let worst = failures.iter().map(|(_, failure)| failure.rank()).max().unwrap_or_default();
    let (mut servers, mut reasons) = (Vec::new(), Vec::new());
    for (endpoint, failure) in failures.iter().filter(|(_, failure)| failure.rank() == worst) {
        servers.push(endpoint.to_string());
        let reason = failure.to_string();
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    let (servers, reason) = (servers.join(", "), reasons.join("; "));
    match worst {
        2 => ConnectError::Refused { servers, reason },
        1 => ConnectError::Tls { servers, reason },
        _ => ConnectError::Unreachable { servers, reason },
    }
}

async fn reach(settings: &Nats, endpoint: &Endpoint, purpose: &str) -> Result<(Writer, Reader), Failure> {
    let mut hello = Hello::new(tcp(endpoint).await?);
    let ServerOp::Info(json) = hello.next("its first word").await? else {
        return Err(Failure::Unreachable("the server does not speak NATS".into()));
    };
    let info = ServerInfo::read(&json).ok_or_else(|| Failure::Unreachable("its INFO can't be read".into()))?;
    let secure = settings.tls.is_some() || endpoint.tls || info.tls_required;
    if !secure {
        return greet(hello, info, settings, purpose, false).await;
    }
    if !info.tls_required && !info.tls_available {
        return Err(Failure::Tls("the server offers none".into()));
    }
    // What came behind the server's first word came from anybody.
    if !hello.buffer.is_empty() {
        return Err(Failure::Tls("the server goes on in clear text".into()));
    }
    let config = auth::tls(settings.tls.as_ref()).await?;
    let name = ServerName::try_from(endpoint.host.clone()).map_err(|error| Failure::Tls(error.to_string()))?;
    let handshake = TlsConnector::from(config).connect(name, hello.socket);
    let socket = timeout(ANSWER, handshake).await.map_err(|_| Failure::Tls("the handshake takes too long".into()))?;
    let socket = socket.map_err(|error| Failure::Tls(error.to_string()))?;
    greet(Hello::new(socket), info, settings, purpose, true).await
}

async fn tcp(endpoint: &Endpoint) -> Result<TcpStream, Failure> {
    let found = timeout(REACH, tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port))).await;
    let found = found.map_err(|_| Failure::late("the address of its name", REACH))?;
    let found = found.map_err(|error| Failure::Unreachable(error.to_string()))?;
    let mut failure = Failure::Unreachable("its name has no address".into());
    for address in found.take(MAX_ADDRESSES) {
        match dial(address).await {
            Ok(socket) => return Ok(socket),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn dial(address: SocketAddr) -> Result<TcpStream, Failure> {
    let socket = timeout(REACH, TcpStream::connect(address)).await.map_err(|_| Failure::late("an answer", REACH))?;
    let socket = socket.map_err(|error| Failure::io(&error))?;
    // What is written goes out at once: it was gathered before.
    socket.set_nodelay(true).map_err(|error| Failure::io(&error))?;
    Ok(socket)
}

/// Says who we are, and waits for the answer to a first `PING`.
async fn greet<S>(
    mut hello: Hello<S>,
    mut info: ServerInfo,
    settings: &Nats,
    purpose: &str,
    secure: bool,
) -> Result<(Writer, Reader), Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let login = auth::login(settings.credentials.as_ref(), info.nonce.as_deref()).await?;
    let mut out = Outbox::default();
    out.connect(&client_info(&format!("rhio {purpose}"), secure, login));
    out.ping();
    hello.send(&mut out).await?;
    let answered = async {
        loop {
            match hello.next("its answer to our login").await? {
                ServerOp::Pong => return Ok(()),
                ServerOp::Ping => {
                    out.pong();
                    hello.send(&mut out).await?;
                }
                ServerOp::Info(json) => {
                    info =
                        ServerInfo::read(&json).ok_or_else(|| Failure::Unreachable("its INFO can't be read".into()))?;
                }
                ServerOp::Error(text) => return Err(told(&String::from_utf8_lossy(&text))),
                ServerOp::Ok | ServerOp::Message(_) => {}
            }
        }
    };
    // However much it says: this is for all of it.
    timeout(ANSWER, answered).await.map_err(|_| Failure::late("its answer to our login", ANSWER))??;
    Ok(connection::start(hello.socket, hello.buffer, hello.parser, info))
}

fn client_info(name: &str, tls_required: bool, login: Login) -> ClientInfo<'_> {
    ClientInfo {
        verbose: false,
        pedantic: false,
        tls_required,
        name,
        lang: "rust",
        version: env!("CARGO_PKG_VERSION"),
        protocol: 1,
        echo: true,
        headers: true,
        no_responders: true,
        login,
    }
}

fn told(text: &str) -> Failure {
    if is_refusal(text) {
        Failure::Refused(text.into())
    } else {
        Failure::Unreachable(format!("the server says: {text}"))
    }
}

/// A connection that is not logged in yet.
struct Hello<S> {
    socket: S,
    buffer: BytesMut,
    parser: Parser,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Hello<S> {
    fn new(socket: S) -> Self {
        Self { socket, buffer: BytesMut::with_capacity(8 * 1024), parser: Parser::default() }
    }

    async fn next(&mut self, what: &str) -> Result<ServerOp, Failure> {
        let read = async {
            loop {
                if let Some(op) = self.parser.next(&mut self.buffer)? {
                    return Ok(op);
                }
                if self.socket.read_buf(&mut self.buffer).await.map_err(|error| Failure::io(&error))? == 0 {
                    return Err(Failure::Unreachable(format!("the server closed the connection before {what}")));
                }
            }
        };
        timeout(ANSWER, read).await.map_err(|_| Failure::late(what, ANSWER))?
    }

    async fn send(&mut self, out: &mut Outbox) -> Result<(), Failure> {
        let write = async {
            for piece in out.pieces() {
                self.socket.write_all(piece).await?;
            }
            self.socket.flush().await
        };
        timeout(ANSWER, write)
            .await
            .map_err(|_| Failure::late("its taking of our login", ANSWER))?
            .map_err(|error| Failure::io(&error))?;
        out.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_told_that_does_not_go_away_by_itself() {
        let [a, b, c] = [1, 2, 3].map(|port| Endpoint { port, ..Endpoint::default() });
        let down = || Failure::Unreachable("Connection refused".into());
        let error = explain(&[(&a, down()), (&b, told("Authorization Violation")), (&c, Failure::Tls("x".into()))]);
        assert_eq!(error.to_string(), "NATS at localhost:2 refused our credentials: Authorization Violation");
        let error = explain(&[(&a, down()), (&b, down())]);
        assert_eq!(error.to_string(), "NATS at localhost:1, localhost:2 cannot be reached: Connection refused");
        assert!(matches!(explain(&[(&a, told("maximum connections exceeded"))]), ConnectError::Unreachable { .. }));
    }
}
