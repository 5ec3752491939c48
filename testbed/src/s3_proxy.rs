//! A way to a real S3 server that can fail or lie: it refuses, delays or breaks off some requests, keeps something else
//! than it was sent, confirms what it has not done, and passes on all others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use md5::Digest as _;
use testkit::{Bucket, Cluster};
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
    /// It wants a range of bytes, as what reads an object does.
    pub ranged: bool,
}

impl Asked {
    /// Whether it stores an object or a part of one.
    pub fn is_write(&self) -> bool {
        self.method == "PUT"
    }

    /// The number of the part of an upload that it stores.
    pub fn part(&self) -> Option<u32> {
        self.value("partNumber")?.parse().ok().filter(|_| self.is_write())
    }

    /// Whether it reads an object.
    pub fn is_reading(&self, key: &str) -> bool {
        self.method == "GET" && self.ranged && self.path.ends_with(&format!("/{key}"))
    }

    /// Whether it completes an upload.
    pub fn is_completion(&self) -> bool {
        self.method == "POST" && self.value("uploadId").is_some()
    }

    /// A value of its query.
    fn value(&self, name: &str) -> Option<&str> {
        self.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
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
    /// Half of its content has come, and no more comes until whoever asks is gone. Then the server does this with it.
    Stuck(Rest),
    /// The server keeps something else than it was sent, and confirms that.
    Keep(Other),
    /// It is confirmed as if it were kept, and is not.
    Lose,
    /// The server does it, and nobody hears of that.
    Mute,
    /// The server is asked twice, one after the other; its second answer is passed on.
    Twice,
}

/// What is kept of a request that broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// What a real server does: its connection breaks, too.
    Real,
    /// As much as was announced, with something else in place of what did not come.
    Other(Other),
}

/// What is kept in place of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// Its second half is zeros.
    Zeros,
    /// Its second half is missing.
    Short,
    /// Something that was written before.
    Old,
}

impl Other {
    /// What is kept of content that was announced with this length, and of which so much has come.
    fn of(self, mut came: Vec<u8>, len: usize) -> Vec<u8> {
        came.truncate(len / 2);
        match self {
            Self::Zeros => came.resize(len, 0),
            Self::Short => {}
            Self::Old => came = vec![0x6f; len],
        }
        came
    }
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
    stuck: AtomicUsize,
}

/// The proxy. It ends when dropped.
pub struct S3Proxy {
    endpoint: String,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

impl S3Proxy {
    /// One that passes everything on to the server at this endpoint.
    pub async fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let target = server.trim_start_matches("http://").to_owned();
        let state = Arc::new(State {
            target,
            rule: Mutex::new(Box::new(|_| Fate::Pass)),
            seen: Mutex::default(),
            unanswered: AtomicUsize::new(0),
            stuck: AtomicUsize::new(0),
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
        let server = cluster.s3().endpoint();
        Self::between(cluster, &server).await
    }

    /// One that a cluster's rhio reaches another S3 server by, from its next start on. It must take the same
    /// credentials.
    pub async fn between(cluster: &mut Cluster, server: &str) -> Self {
        let proxy = Self::before(server).await;
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

    /// How many requests are [stuck](Fate::Stuck), or what they leave is being kept.
    pub fn stuck(&self) -> usize {
        self.state.stuck.load(Ordering::SeqCst)
    }

    /// How many such requests there were.
    pub fn count(&self, which: impl Fn(&Asked) -> bool) -> usize {
        self.state.seen.lock().expect("a lock").iter().filter(|asked| which(asked)).count()
    }
}

/// A request as it came, but for the rest of its content.
struct Request {
    asked: Asked,
    first: String,
    headers: Vec<String>,
    body: Vec<u8>,
    missing: u64,
}

impl Request {
    /// Reads one; `None` when there is none.
    async fn read(client: &mut TcpStream) -> std::io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        let end = loop {
            if client.read_buf(&mut bytes).await? == 0 {
                return Ok(None);
            }
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let body = bytes.split_off(end);
        let mut lines = head.trim_end().split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let kept = lines.filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
        let headers: Vec<String> = kept.map(str::to_owned).collect();
        let length = headers
            .iter()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        let missing = length.unwrap_or(0u64).saturating_sub(body.len() as u64);
        let mut words = first.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let ranged = headers.iter().any(|line| line.to_ascii_lowercase().starts_with("range:"));
        let asked = Asked { method, path: path.to_owned(), query: query.to_owned(), ranged };
        Ok(Some(Self { asked, first, headers, body, missing }))
    }

    fn len(&self) -> usize {
        self.body.len() + usize::try_from(self.missing).expect("it fits into memory")
    }

    /// What is sent on before the rest of the content.
    fn head(&self) -> Vec<u8> {
        let head = format!("{}\r\n{}\r\nConnection: close\r\n\r\n", self.first, self.headers.join("\r\n"));
        [head.as_bytes(), &self.body].concat()
    }

    /// Takes more of the content, and what is missing then.
    async fn take(&mut self, client: &mut TcpStream, bytes: u64) -> std::io::Result<()> {
        let came = client.take(bytes).read_to_end(&mut self.body).await?;
        self.missing -= came as u64;
        Ok(())
    }

    /// Stores something else under its name, by a request of our own. The version that the server gives it.
    async fn store(&self, state: &State, content: Vec<u8>) -> String {
        let (bucket, key) = self.asked.path.trim_start_matches('/').split_once('/').expect("a bucket and a key");
        let bucket = Bucket::new(&format!("http://{}", state.target), bucket);
        if let (Some(number), Some(upload)) = (self.asked.value("partNumber"), self.asked.value("uploadId")) {
            let upload = percent_encoding::percent_decode_str(upload).decode_utf8().expect("UTF-8");
            return bucket.put_part(key, &upload, number.parse().expect("a number"), content).await;
        }
        let label = |line: &String| {
            let (name, value) = line.split_once(':')?;
            let name = name.to_ascii_lowercase();
            (name.starts_with("x-amz-meta-") || name == "content-type").then(|| (name, value.trim().to_owned()))
        };
        let labels: Vec<_> = self.headers.iter().filter_map(label).collect();
        let labels: Vec<_> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        bucket.put_with(key, content, &labels).await;
        let (headers, _) = bucket.head(key).await.expect("it is there");
        headers["etag"].clone()
    }
}

/// Serves one request and closes the connection: connections are not what is tested.
async fn serve(state: &State, mut client: TcpStream) -> std::io::Result<()> {
    let Some(mut request) = Request::read(&mut client).await? else { return Ok(()) };
    let fate = (state.rule.lock().expect("a lock"))(&request.asked);
    state.seen.lock().expect("a lock").push(request.asked.clone());
    let missing = request.missing;
    match fate {
        Fate::Answer(status, document) => {
            // Whoever answers before the end of the content may not be heard.
            tokio::io::copy(&mut (&mut client).take(missing), &mut tokio::io::sink()).await?;
            let length = document.len();
            let body = if request.asked.method == "HEAD" { String::new() } else { document };
            answer(&mut client, &format!("{status} Test"), &format!("Content-Length: {length}"), &body).await
        }
        Fate::Delay(delay) => {
            tokio::time::sleep(delay).await;
            pass(state, &mut request, &mut client).await
        }
        Fate::Pass => pass(state, &mut request, &mut client).await,
        Fate::Cut => {
            let mut server = TcpStream::connect(&state.target).await?;
            server.write_all(&request.head()).await?;
            tokio::io::copy(&mut (&mut client).take(missing / 2), &mut server).await?;
            Ok(())
        }
        Fate::Stuck(rest) => stuck(state, &mut request, &mut client, rest).await,
        Fate::Keep(other) => {
            request.take(&mut client, missing).await?;
            let kept = other.of(request.body.clone(), request.len());
            let etag = request.store(state, kept).await;
            answer(&mut client, "200 OK", &format!("ETag: {etag}\r\nContent-Length: 0"), "").await
        }
        Fate::Lose => {
            request.take(&mut client, missing).await?;
            let sum = md5::Md5::digest(&request.body);
            answer(&mut client, "200 OK", &format!("ETag: \"{sum:x}\"\r\nContent-Length: 0"), "").await
        }
        Fate::Mute => {
            request.take(&mut client, missing).await?;
            ask(state, &request).await.map(drop)
        }
        Fate::Twice => {
            request.take(&mut client, missing).await?;
            ask(state, &request).await?;
            client.write_all(&ask(state, &request).await?).await?;
            client.shutdown().await
        }
    }
}

async fn answer(client: &mut TcpStream, status: &str, headers: &str, body: &str) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/xml\r\n{headers}\r\nConnection: close\r\n\r\n");
    client.write_all(format!("{head}{body}").as_bytes()).await?;
    client.shutdown().await
}

/// Passes a request on, and its answer back.
async fn pass(state: &State, request: &mut Request, client: &mut TcpStream) -> std::io::Result<()> {
    let mut server = TcpStream::connect(&state.target).await?;
    server.write_all(&request.head()).await?;
    state.unanswered.fetch_add(1, Ordering::SeqCst);
    let answered = async {
        tokio::io::copy(&mut (&mut *client).take(request.missing), &mut server).await?;
        tokio::io::copy(&mut server, client).await
    };
    let answered = answered.await;
    state.unanswered.fetch_sub(1, Ordering::SeqCst);
    answered?;
    client.shutdown().await
}

/// Passes on a request that is here as a whole; the whole answer.
async fn ask(state: &State, request: &Request) -> std::io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(&state.target).await?;
    server.write_all(&request.head()).await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Takes half of the content, and waits until whoever asks is gone.
async fn stuck(state: &State, request: &mut Request, client: &mut TcpStream, rest: Rest) -> std::io::Result<()> {
    let len = request.len();
    let mut server = match rest {
        Rest::Real => Some(TcpStream::connect(&state.target).await?),
        Rest::Other(_) => None,
    };
    if let Some(server) = &mut server {
        server.write_all(&request.head()).await?;
        request.missing -= tokio::io::copy(&mut (&mut *client).take(request.missing / 2), server).await?;
    } else {
        request.take(client, request.missing / 2).await?;
    }
    state.stuck.fetch_add(1, Ordering::SeqCst);
    // The rest reaches nobody. That the connection breaks is what is waited for.
    let _ = tokio::io::copy(client, &mut tokio::io::sink()).await;
    if let Rest::Other(other) = rest {
        let kept = other.of(std::mem::take(&mut request.body), len);
        request.store(state, kept).await;
    }
    state.stuck.fetch_sub(1, Ordering::SeqCst);
    Ok(())
}
