//! Connections to NATS: authentication, TLS, several servers, and reconnecting for as long as it takes.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::client::Client;
use super::fault::is_refusal;
use super::raw::auth::section;
pub use super::raw::connect::ConnectError;
use super::raw::exchange::Pool;
use super::settings::{Credentials, Nats, Tls};
use async_nats::rustls;
use async_nats::{Auth, AuthError, ClientError, ConnectErrorKind, ConnectOptions, Event, Server, ServerError};

/// Longest wait between two attempts to reconnect.
const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// The wait before the second round of attempts; it doubles from there.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// A connection that lasted shorter than this does not count as success: the next attempt waits.
const SHORT_LIVED: Duration = Duration::from_secs(1);
/// How often the server is asked whether it is still there. After two unanswered pings the connection counts as lost,
/// so a server that vanished without a word is noticed within half a minute. (The library's default is a minute.)
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// How long connecting to one server may take, the handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the same complaint is logged.
const REPEAT: Duration = Duration::from_secs(60);

/// How a connection is meant to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectSettings {
    /// Do not fail when no server answers now, but go on trying in the background.
    pub retry_on_initial_connect: bool,
    /// Messages that wait for a slow reader of a subscription before the library drops some. Default 65,536.
    pub subscription_capacity: usize,
}

impl Default for ConnectSettings {
    fn default() -> Self {
        Self { retry_on_initial_connect: false, subscription_capacity: 64 * 1024 }
    }
}

/// Connects to NATS. The client shows up there as `rhio <purpose>`, reconnects by itself for ever, and logs when it
/// loses the connection and when it has it again.
///
/// # Errors
/// When a file is of no use; and, unless the connection is to be made in the background, when no server takes us.
pub async fn connect(config: &Nats, purpose: &str, settings: ConnectSettings) -> Result<Client, ConnectError> {
    let options = options(config, purpose, settings)?;
    let servers = config.endpoint.iter().map(super::settings::Endpoint::url).collect::<Vec<_>>();
    let sdk = options.connect(servers).await.map_err(|error| explain(config, &error))?;
    Ok(Client { sdk, pool: Pool::new(Arc::new(config.clone())) })
}

/// What [`connect`] connects with, to change before connecting.
///
/// # Errors
/// When a file that the configuration names is of no use.
fn options(config: &Nats, purpose: &str, settings: ConnectSettings) -> Result<ConnectOptions, ConnectError> {
    // Several crates of ours use rustls. With one provider compiled in it finds that by itself; this holds also when a
    // dependency brings another one. An error means that it is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();

    let mut options = match &config.credentials {
        Some(Credentials::CredsFile(path)) => {
            let path = path.clone();
            read_creds(&path)?;
            ConnectOptions::with_auth_callback(move |nonce| {
                let auth = sign_with_creds(&path, &nonce);
                async move { auth }
            })
        }
        Some(Credentials::UserPassword { username, password }) => {
            ConnectOptions::with_user_and_password(username.clone(), password.expose().to_owned())
        }
        Some(Credentials::Token(token)) => ConnectOptions::with_token(token.expose().to_owned()),
        Some(Credentials::Nkey(seed)) => ConnectOptions::with_nkey(seed.expose().to_owned()),
        None => ConnectOptions::new(),
    };
    if let Some(tls) = &config.tls {
        options = with_tls(options, tls)?;
    }
    if settings.retry_on_initial_connect {
        options = options.retry_on_initial_connect();
    }
    let watch = Arc::new(Watch::new(config, purpose));
    let (events, attempts, delays) = (Arc::clone(&watch), Arc::clone(&watch), watch);
    let endpoints = config.endpoint.len();
    Ok(options
        .name(format!("rhio {purpose}"))
        .custom_inbox_prefix(&config.inbox_prefix)
        .max_reconnects(None)
        .ping_interval(PING_INTERVAL)
        .connection_timeout(CONNECT_TIMEOUT)
        .subscription_capacity(settings.subscription_capacity)
        .event_callback(move |event| {
            events.event(&event);
            async {}
        })
        // Chooses no server; it is the only place where the library tells why the last attempt failed.
        .reconnect_to_server_callback(move |servers, _| {
            attempts.attempt(&servers);
            async { None }
        })
        .reconnect_delay_callback(move |attempt| backoff(attempt, endpoints, delays.is_short_lived())))
}

fn with_tls(options: ConnectOptions, tls: &Tls) -> Result<ConnectOptions, ConnectError> {
    let mut options = options.require_tls(true);
    if let Some(ca) = &tls.ca {
        check_pem("nats.tls.ca", ca, "CERTIFICATE")?;
        options = options.add_root_certificates(ca.clone());
    }
    if let Some(client) = &tls.client {
        check_pem("nats.tls.cert", &client.cert, "CERTIFICATE")?;
        check_pem("nats.tls.key", &client.key, "PRIVATE KEY")?;
        options = options.add_client_certificate(client.cert.clone(), client.key.clone());
    }
    Ok(options)
}

/// The library reads these files on every connect; this is to say at once, and clearly, what is wrong with one.
fn check_pem(key: &'static str, path: &Path, kind: &str) -> Result<(), ConnectError> {
    let failed = |reason: String| ConnectError::File { key, path: path.into(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| failed(format!("cannot be read: {error}")))?;
    if text.lines().any(|line| line.starts_with("-----BEGIN") && line.contains(kind)) {
        Ok(())
    } else {
        Err(failed(format!("holds no {} in PEM format", kind.to_lowercase())))
    }
}

/// A user's JWT and its nkey.
struct Creds {
    jwt: String,
    key: nkeys::KeyPair,
}

fn read_creds(path: &Path) -> Result<Creds, ConnectError> {
    let failed = |reason: String| ConnectError::File { key: "nats.credentials.creds_file", path: path.into(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| failed(format!("cannot be read: {error}")))?;
    let jwt = section(&text, "NATS USER JWT").ok_or_else(|| failed("holds no user JWT".into()))?;
    let seed = section(&text, "USER NKEY SEED").ok_or_else(|| failed("holds no user nkey seed".into()))?;
    let key = nkeys::KeyPair::from_seed(seed).map_err(|_| failed("holds an nkey seed that is none".into()))?;
    Ok(Creds { jwt: jwt.to_owned(), key })
}

fn sign_with_creds(path: &Path, nonce: &[u8]) -> Result<Auth, AuthError> {
    let creds = read_creds(path).map_err(AuthError::new)?;
    let mut auth = Auth::new();
    auth.signature = Some(creds.key.sign(nonce).map_err(AuthError::new)?);
    auth.jwt = Some(creds.jwt);
    Ok(auth)
}

/// How long to wait before an attempt, the first being 1. All servers are tried once before any waiting; then the wait
/// doubles with every round, and is cut by up to a half at random, so that many clients do not come back all at once.
fn backoff(attempt: usize, servers: usize, after_short_life: bool) -> Duration {
    let round = attempt.saturating_sub(1) / servers.max(1) + usize::from(after_short_life);
    let Some(doublings) = round.checked_sub(1) else { return Duration::ZERO };
    let wait = FIRST_BACKOFF.saturating_mul(1 << doublings.min(16)).min(MAX_BACKOFF);
    wait.mul_f64(0.5 + fastrand::f64() / 2.0)
}

fn explain(config: &Nats, error: &async_nats::ConnectError) -> ConnectError {
    let servers = addresses(config);
    let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    let mut causes = std::iter::successors(error.source(), |cause: &&(dyn StdError + 'static)| (*cause).source());
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            ConnectError::Refused { servers, reason }
        }
        ConnectErrorKind::Tls => ConnectError::Tls { servers, reason },
        _ if causes.any(is_tls) => ConnectError::Tls { servers, reason },
        _ if is_refusal(&reason) => ConnectError::Refused { servers, reason },
        _ => ConnectError::Unreachable { servers, reason },
    }
}

fn is_tls(cause: &(dyn StdError + 'static)) -> bool {
    let inside = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inside.is_some_and(|inside| inside.is::<rustls::Error>())
}

fn addresses(config: &Nats) -> String {
    config.endpoint.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Watches one connection and logs what an operator should know, each thing once.
struct Watch {
    servers: String,
    purpose: String,
    state: Mutex<WatchState>,
}

#[derive(Default)]
struct WatchState {
    connected: Option<Instant>,
    lost: Option<Instant>,
    was_connected: bool,
    /// Why the last attempts failed, as logged.
    failure: String,
    /// When each complaint was logged, and how many times it came since.
    complaints: HashMap<String, (Instant, u64)>,
}

impl Watch {
    fn new(config: &Nats, purpose: &str) -> Self {
        Self { servers: addresses(config), purpose: purpose.into(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, WatchState> {
        // Nothing in here is left half done by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_short_lived(&self) -> bool {
        self.state().connected.is_some_and(|since| since.elapsed() < SHORT_LIVED)
    }

    fn event(&self, event: &Event) {
        let (servers, purpose) = (&self.servers, &self.purpose);
        match event {
            Event::Connected => {
                let mut state = self.state();
                state.connected = Some(Instant::now());
                state.failure.clear();
                if let Some(lost) = state.lost.take() {
                    let seconds = lost.elapsed().as_secs_f64();
                    tracing::info!(%servers, purpose, "connected to NATS again after {seconds:.1} s");
                } else if !state.was_connected {
                    tracing::info!(%servers, purpose, "connected to NATS");
                }
                state.was_connected = true;
            }
            Event::Disconnected => {
                let mut state = self.state();
                if state.lost.is_none() {
                    state.lost = Some(Instant::now());
                    tracing::warn!(%servers, purpose, "lost the connection to NATS, reconnecting");
                }
            }
            Event::LameDuckMode => tracing::info!(%servers, purpose, "NATS is about to shut down, it says"),
            Event::SlowConsumer(id) => {
                self.complain(&format!("subscription {id} is read too slowly, messages were dropped"));
            }
            Event::ServerError(ServerError::Other(text)) => self.complain(&format!("NATS says: {text}")),
            Event::ServerError(error) => self.complain(&format!("NATS says: {error}")),
            // Failed attempts are logged by `attempt`, with their reasons; but for this one it is not told any.
            Event::ClientError(ClientError::Other(text)) if *text == ConnectErrorKind::Dns.to_string() => {
                self.complain("no address is known for a NATS server's name");
            }
            _ => {}
        }
    }

    fn complain(&self, text: &str) {
        let mut state = self.state();
        let (servers, purpose) = (&self.servers, &self.purpose);
        match state.complaints.get_mut(text) {
            Some((at, again)) if at.elapsed() < REPEAT => *again += 1,
            found => {
                let again = found.map_or(0, |(_, again)| *again);
                tracing::warn!(%servers, purpose, again, "{text}");
                // Server messages may name subjects, so there is no end to their variety.
                if state.complaints.len() >= 100 {
                    state.complaints.clear();
                }
                state.complaints.insert(text.into(), (Instant::now(), 0));
            }
        }
    }

    /// Called before each attempt, with what became of the last one.
    fn attempt(&self, servers: &[Server]) {
        let mut failures: Vec<String> = servers
            .iter()
            .filter_map(|server| {
                let error = server.last_error.as_ref()?;
                // Never the whole address: the library keeps what a server advertises, whatever is in there.
                Some(format!("{}:{}: {error}", server.addr.host(), server.addr.port()))
            })
            .collect();
        failures.sort();
        let failure = failures.join("; ");
        let mut state = self.state();
        if failure.is_empty() || failure == state.failure {
            return;
        }
        let purpose = &self.purpose;
        if is_refusal(&failure) {
            tracing::error!(purpose, "NATS refuses our credentials, trying again and again: {failure}");
        } else {
            tracing::warn!(purpose, "no connection to NATS, trying again and again: {failure}");
        }
        state.failure = failure;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_starts_at_once_doubles_and_is_bounded() {
        assert_eq!(backoff(1, 1, false), Duration::ZERO);
        assert_eq!(backoff(3, 3, false), Duration::ZERO);
        for (attempt, servers, most) in
            [(2, 1, 50), (3, 1, 100), (4, 3, 50), (7, 1, 1600), (8, 1, 2000), (usize::MAX, 1, 2000)]
        {
            let most = Duration::from_millis(most);
            for _ in 0..50 {
                let wait = backoff(attempt, servers, false);
                assert!(wait >= most / 2 && wait <= most, "attempt {attempt} of {servers}: {wait:?}");
            }
        }
        assert!(backoff(1, 1, true) > Duration::ZERO);
    }

    #[test]
    fn a_creds_file_gives_its_two_lines() {
        let text = "-----BEGIN NATS USER JWT-----\nabc.def\n------END NATS USER JWT------\n\n*** IMPORTANT ***\n\n\
                    -----BEGIN USER NKEY SEED-----\r\n  SUXYZ\r\n------END USER NKEY SEED------\n";
        assert_eq!(section(text, "NATS USER JWT"), Some("abc.def"));
        assert_eq!(section(text, "USER NKEY SEED"), Some("SUXYZ"));
        assert_eq!(section("-----BEGIN X-----\n------END X------\n", "X"), None);
        assert_eq!(section("", "X"), None);
    }
}
