//! A server that does what a test says.

use std::time::Duration;

use rhio_nats::raw::connect::{ConnectError, connect};
use rhio_nats::raw::connection::{Reader, Writer};
use rhio_nats::settings::Nats;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{SOON, settings};

pub const INFO: &str = "INFO {\"server_id\":\"N1\",\"max_payload\":1048576,\"headers\":true,\"proto\":1}\r\n";

/// Waits for clients.
pub struct Scripted {
    listener: TcpListener,
}

/// One client's connection, from the server's side.
pub struct Client {
    socket: TcpStream,
    read: Vec<u8>,
}

impl Scripted {
    pub async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.expect("a port") }
    }

    pub fn settings(&self) -> Nats {
        settings(&self.listener.local_addr().expect("an address").to_string())
    }

    /// Takes a client and says nothing yet.
    pub async fn accept(&self) -> Client {
        let accepted = tokio::time::timeout(SOON, self.listener.accept()).await.expect("in time");
        Client { socket: accepted.expect("a client").0, read: Vec::new() }
    }

    /// A connection that is made, and the server's side of it.
    pub async fn connected(&self) -> (Client, Writer, Reader) {
        let settings = self.settings();
        let (client, connected) = tokio::join!(
            async {
                let mut client = self.accept().await;
                client.greet().await;
                client
            },
            connect(&settings, "test")
        );
        let (writer, reader) = connected.unwrap_or_else(|error| panic!("{error}"));
        (client, writer, reader)
    }

    /// What a client says that is told `text` and nothing more.
    pub async fn refusal(&self, text: &[u8]) -> ConnectError {
        let settings = self.settings();
        let (_client, connected) = tokio::join!(
            async {
                let mut client = self.accept().await;
                client.say(text).await;
                client
            },
            connect(&settings, "test")
        );
        connected.expect_err("an error")
    }
}

impl Client {
    pub async fn greet(&mut self) {
        self.say(INFO).await;
        self.expect("PING\r\n").await;
        self.say("PONG\r\n").await;
    }

    pub async fn say(&mut self, text: impl AsRef<[u8]>) {
        self.try_say(text.as_ref()).await.expect("the client is there");
    }

    pub async fn try_say(&mut self, text: &[u8]) -> std::io::Result<()> {
        tokio::time::timeout(SOON, self.socket.write_all(text)).await.expect("in time")
    }

    /// Reads until the client has said this; returns all of it up to there.
    pub async fn expect(&mut self, end: &str) -> String {
        let find = |read: &[u8]| read.windows(end.len()).position(|window| window == end.as_bytes());
        loop {
            if let Some(at) = find(&self.read) {
                let text = self.read.drain(..at + end.len()).collect();
                return String::from_utf8(text).expect("text");
            }
            let len = tokio::time::timeout(SOON, self.socket.read_buf(&mut self.read)).await;
            let len = len.unwrap_or_else(|_| panic!("no {end:?} in {:?}", String::from_utf8_lossy(&self.read)));
            assert!(len.expect("the client is there") > 0, "the client has gone");
        }
    }

    /// Whether the client has closed the connection within this time.
    pub async fn is_left_within(&mut self, time: Duration) -> bool {
        let end = async { while self.socket.read_buf(&mut self.read).await.is_ok_and(|len| len > 0) {} };
        tokio::time::timeout(time, end).await.is_ok()
    }
}
