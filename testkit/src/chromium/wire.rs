//! The DevTools protocol over a pipe: JSON messages, each with a zero byte behind it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// Commands go out here, answers and events come in. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    outgoing: mpsc::UnboundedSender<Value>,
    shared: Arc<Mutex<Shared>>,
    /// They end with the last clone.
    _tasks: Arc<JoinSet<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    last_id: u64,
    calls: HashMap<u64, oneshot::Sender<Value>>,
    events: HashMap<String, Vec<Value>>,
}

impl Wire {
    pub(super) fn new(mut sender: Sender, mut receiver: Receiver) -> Self {
        let (outgoing, mut commands) = mpsc::unbounded_channel::<Value>();
        let shared = Arc::<Mutex<Shared>>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Some(command) = commands.recv().await {
                let mut message = command.to_string().into_bytes();
                message.push(0);
                if sender.write_all(&message).await.is_err() {
                    return;
                }
            }
        });
        let incoming = Arc::clone(&shared);
        tasks.spawn(async move {
            let mut buffer = Vec::new();
            while receiver.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
                while let Some(end) = buffer.iter().position(|byte| *byte == 0) {
                    let message: Vec<u8> = buffer.drain(..=end).collect();
                    if let Ok(message) = serde_json::from_slice(&message[..end]) {
                        take_in(&incoming, message);
                    }
                }
            }
        });
        Self { outgoing, shared, _tasks: Arc::new(tasks) }
    }

    fn with<T>(&self, action: impl FnOnce(&mut Shared) -> T) -> T {
        action(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends a command and waits for its answer; a session is one page.
    pub(super) async fn call(&self, session: Option<&str>, method: &str, params: Value) -> anyhow::Result<Value> {
        let (done, answer) = oneshot::channel();
        let id = self.with(|shared| {
            shared.last_id += 1;
            shared.calls.insert(shared.last_id, done);
            shared.last_id
        });
        let mut command = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        self.outgoing.send(command).ok().context("chromium is gone")?;
        let answer = tokio::time::timeout(crate::patience(DEADLINE), answer).await;
        let mut answer = answer.with_context(|| format!("chromium does not answer to {method}"))??;
        match answer.get("error") {
            Some(error) => bail!("chromium refuses {method}: {error}"),
            None => Ok(answer["result"].take()),
        }
    }

    /// What a page has told so far, each with `method` and `params`.
    pub(super) fn events(&self, session: &str) -> Vec<Value> {
        self.with(|shared| shared.events.get(session).cloned().unwrap_or_default())
    }
}

fn take_in(shared: &Mutex<Shared>, message: Value) {
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(id) = message["id"].as_u64() {
        // Who does not wait any more is not told.
        let _ = shared.calls.remove(&id).map(|done| done.send(message));
    } else if let Some(session) = message["sessionId"].as_str() {
        shared.events.entry(session.to_owned()).or_default().push(message);
    }
}
