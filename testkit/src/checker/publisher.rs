//! Publishes messages of which no two are the same, and remembers them.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::{Client, HeaderMap, jetstream};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::Record;

/// How many acknowledgements may be outstanding.
const WINDOW: usize = 256;
/// How long an acknowledgement may take before the message counts as uncertain.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(5);

/// Publishes numbered messages with unique bodies into a JetStream, and remembers which were acknowledged.
#[derive(Debug)]
pub struct Publisher {
    context: jetstream::Context,
    id: String,
    subjects: Vec<String>,
    sizes: RangeInclusive<usize>,
    headers: Vec<(String, String)>,
    number: u64,
    /// Stored by the server, in the order of their numbers.
    pub acknowledged: Vec<Record>,
    /// Sent, but without an acknowledgement in time: the stream may hold them or not.
    pub uncertain: Vec<Record>,
}

impl Publisher {
    /// Publishes on these subjects in turn; none may have a wildcard.
    pub fn new(client: &Client, subjects: &[&str]) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        assert!(!subjects.is_empty(), "a publisher needs a subject");
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ACKNOWLEDGED_WITHIN);
        Self {
            context,
            id: format!("{:x}-{:x}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed)),
            subjects: subjects.iter().map(|subject| (*subject).to_owned()).collect(),
            sizes: 256..=256,
            headers: Vec::new(),
            number: 0,
            acknowledged: Vec::new(),
            uncertain: Vec::new(),
        }
    }

    /// The size of each body, in bytes. What makes a body unique takes about 20 of them in any case.
    pub fn size(self, bytes: usize) -> Self {
        self.sizes(bytes..=bytes)
    }

    /// Sizes between two bounds, spread evenly.
    pub fn sizes(mut self, bytes: RangeInclusive<usize>) -> Self {
        self.sizes = bytes;
        self
    }

    /// Adds a header to every message. `{n}` in the value becomes the message's number.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// How many messages have been sent, acknowledged or not.
    pub fn sent(&self) -> u64 {
        self.number
    }

    /// Publishes so many messages as fast as the server takes them, and waits for every acknowledgement.
    pub async fn publish(&mut self, count: u64) {
        let mut waiting = VecDeque::with_capacity(WINDOW);
        for _ in 0..count {
            if waiting.len() == WINDOW
                && let Some(oldest) = waiting.pop_front()
            {
                self.settle(oldest).await;
            }
            let (subject, headers, payload) = self.next_message();
            waiting.push_back(self.send(subject, headers, payload).await);
        }
        for sent in waiting {
            self.settle(sent).await;
        }
    }

    /// Publishes a message of the caller's making and waits for its acknowledgement.
    pub async fn publish_message(&mut self, subject: &str, headers: HeaderMap, payload: impl Into<Bytes>) {
        self.number += 1;
        let sent = self.send(subject.into(), headers, payload.into()).await;
        self.settle(sent).await;
    }

    /// Goes on in the background, at so many messages a second, until it is [stopped](Running::stop).
    pub fn run(mut self, per_second: u32) -> Running {
        let (stop, stopped) = watch::channel(false);
        let (count, sent) = watch::channel(self.number);
        let task = tokio::spawn(async move {
            let mut waiting: VecDeque<Sent> = VecDeque::new();
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second.max(1));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            while !*stopped.borrow() {
                ticks.tick().await;
                let (subject, headers, payload) = self.next_message();
                waiting.push_back(self.send(subject, headers, payload).await);
                count.send_replace(self.number);
                while waiting.len() > WINDOW {
                    let oldest = waiting.pop_front().expect("there are many");
                    self.settle(oldest).await;
                }
            }
            for sent in waiting {
                self.settle(sent).await;
            }
            self
        });
        Running { stop, sent, task }
    }

    fn next_message(&mut self) -> (String, HeaderMap, Bytes) {
        let number = self.number;
        self.number += 1;
        let turn = usize::try_from(number).expect("a count of messages in memory") % self.subjects.len();
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(name.as_str(), value.replace("{n}", &number.to_string()));
        }
        (self.subjects[turn].clone(), headers, self.body(number))
    }

    /// A text that names publisher and number, filled up to its size with bytes that do not compress.
    fn body(&self, number: u64) -> Bytes {
        let mut random = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut draw = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let (low, high) = (*self.sizes.start() as u64, *self.sizes.end() as u64);
        let size = usize::try_from(low + draw() % (high - low + 1)).expect("a size in memory");
        let mut body = format!("{}/{number}/", self.id).into_bytes();
        while body.len() < size {
            body.extend_from_slice(&draw().to_le_bytes());
        }
        body.truncate(size.max(format!("{}/{number}/", self.id).len()));
        body.into()
    }

    async fn send(&self, subject: String, headers: HeaderMap, payload: Bytes) -> Sent {
        let record = Record::new(subject.clone(), Some(&headers), payload.clone());
        let mut message = PublishMessage::build().payload(payload);
        if !headers.is_empty() {
            message = message.headers(headers);
        }
        let sent = self.context.send_publish(subject, message).await.ok();
        // Each waits from now on. A server that dies takes hundreds of acknowledgements along, and waiting for one after
        // the other until it is overdue would take as long as all of them together.
        let acknowledgement = sent.map(|sent| tokio::spawn(async move { sent.await.ok() }));
        Sent { record, acknowledgement }
    }

    async fn settle(&mut self, sent: Sent) {
        let Sent { mut record, acknowledgement } = sent;
        let answer = match acknowledgement {
            Some(acknowledgement) => acknowledgement.await.expect("waiting does not panic"),
            None => None,
        };
        match answer {
            // The stream held one with this Nats-Msg-Id already and did not store this one.
            Some(answer) if answer.duplicate => {}
            Some(answer) => {
                record.sequence = answer.sequence;
                self.acknowledged.push(record);
            }
            None => self.uncertain.push(record),
        }
    }
}

/// A message on its way.
struct Sent {
    record: Record,
    acknowledgement: Option<JoinHandle<Option<PublishAck>>>,
}

/// A publisher at work in the background.
#[derive(Debug)]
pub struct Running {
    stop: watch::Sender<bool>,
    sent: watch::Receiver<u64>,
    task: JoinHandle<Publisher>,
}

impl Running {
    /// How many messages it has sent so far.
    pub fn sent(&self) -> u64 {
        *self.sent.borrow()
    }

    /// Ends it after the last acknowledgement and gives the publisher back.
    pub async fn stop(self) -> Publisher {
        self.stop.send_replace(true);
        self.task.await.expect("the publisher does not panic")
    }
}
