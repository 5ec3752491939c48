//! A way to a real S3 server that can fail: it refuses, delays or breaks off some requests and passes on all others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::{Cluster, WeedServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request, as far as it decides about its fate.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// Bucket and key.
    pub path: String,
    pub query: String,
}

impl Asked {
    /// Whether it stores an object or a part of one.
    pub fn is_write(&self) -> bool {
        self.method == "PUT"
    }

    /// Whether it lists a bucket's objects.
    pub fn is_listing(&self) -> bool {
        self.method == "GET" && self.query.contains("list-type=2")
    }
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Fate {
    /// The server answers it.
    Pass,
    /// The server answers it, but later.
    Delay(Duration),
    /// It is answered here with this status and document.
    Answer(u16, String),
    /// The connection breaks when half of its content has been passed on.
    Cut,
}

impl Fate {
    /// A refusal as S3 words it.
    pub fn refusal(status: u16, code: &str) -> Self {
        let code =
            format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>As the test wants.</Message></Error>");
        Self::Answer(status, code)
    }
}

type Rule = Box<dyn Fn(&Asked) -> Fate + Send>;

struct State {
    target: String,
    rule: Mutex<Rule>,
    seen: Mutex<Vec<Asked>>,
    unanswered: AtomicUsize,
}

/// The proxy. It ends when dropped.
pub struct S3Proxy {
    endpoint: String,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

impl S3Proxy {
    /// One that passes everything on.
    pub async fn before(server: &WeedServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let target = server.endpoint().trim_start_matches("http://").to_owned();
        let state = Arc::new(State {
            target,
            rule: Mutex::new(Box::new(|_| Fate::Pass)),
            seen: Mutex::default(),
            unanswered: AtomicUsize::new(0),
        });
        let (shared, mut tasks) = (Arc::clone(&state), JoinSet::new());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                connections.spawn(async move {
                    // A request that breaks off is the concern of whoever made it.
                    let _ = serve(&state, stream).await;
                });
            }
        });
        Self { endpoint, state, _tasks: tasks }
    }

    /// One that a cluster's rhio reaches its S3 server by, from its next start on.
    pub async fn of(cluster: &mut Cluster) -> Self {
        let proxy = Self::before(cluster.s3()).await;
        let endpoint = proxy.endpoint.clone();
        cluster.rhio.rewrite_config(|config| config.s3.as_mut().expect("an S3 server").endpoint = endpoint);
        proxy
    }

    /// From now on this decides.
    pub fn set(&self, rule: impl Fn(&Asked) -> Fate + Send + 'static) {
        *self.state.rule.lock().expect("a lock") = Box::new(rule);
    }

    /// From now on everything is passed on.
    pub fn heal(&self) {
        self.set(|_| Fate::Pass);
    }

    /// How many requests the server has not answered yet.
    pub fn unanswered(&self) -> usize {
        self.state.unanswered.load(Ordering::SeqCst)
    }

    /// How many such requests there were.
    pub fn count(&self, which: impl Fn(&Asked) -> bool) -> usize {
        self.state.seen.lock().expect("a lock").iter().filter(|asked| which(asked)).count()
    }
}

/// Serves one request and closes the connection: connections are not what is tested.
async fn serve(state: &State, mut client: TcpStream) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let end = loop {
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let body = bytes.split_off(end);
    let mut lines = head.trim_end().split("\r\n");
    let first = lines.next().unwrap_or_default();
    let headers: Vec<&str> = lines.filter(|line| !line.to_ascii_lowercase().starts_with("connection:")).collect();
    let length =
        headers.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let missing = length.unwrap_or(0u64).saturating_sub(body.len() as u64);

    let mut words = first.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let (path, query) =
        words.next().unwrap_or_default().split_once('?').unwrap_or((first.split(' ').nth(1).unwrap_or_default(), ""));
    let asked = Asked { method, path: path.to_owned(), query: query.to_owned() };
    let fate = (state.rule.lock().expect("a lock"))(&asked);
    state.seen.lock().expect("a lock").push(asked.clone());

    if let Fate::Answer(status, document) = fate {
        // Whoever answers before the end of the content may not be heard.
        tokio::io::copy(&mut (&mut client).take(missing), &mut tokio::io::sink()).await?;
        let length = document.len();
        let body = if asked.method == "HEAD" { String::new() } else { document };
        let answer = format!(
            "HTTP/1.1 {status} Test\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        client.write_all(answer.as_bytes()).await?;
        return client.shutdown().await;
    }
    if let Fate::Delay(delay) = fate {
        tokio::time::sleep(delay).await;
    }
    let mut server = TcpStream::connect(&state.target).await?;
    let head = format!("{first}\r\n{}\r\nConnection: close\r\n\r\n", headers.join("\r\n"));
    server.write_all(&[head.as_bytes(), &body].concat()).await?;
    if matches!(fate, Fate::Cut) {
        tokio::io::copy(&mut (&mut client).take(missing / 2), &mut server).await?;
        return Ok(());
    }
    state.unanswered.fetch_add(1, Ordering::SeqCst);
    let answered = async {
        tokio::io::copy(&mut (&mut client).take(missing), &mut server).await?;
        tokio::io::copy(&mut server, &mut client).await
    };
    let answered = answered.await;
    state.unanswered.fetch_sub(1, Ordering::SeqCst);
    answered?;
    client.shutdown().await
}
