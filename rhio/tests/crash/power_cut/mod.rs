//! JetStream takes back what it acknowledged: the server stops, an older copy of its store is put back, it starts.

mod cut;
mod publisher;
mod random;
mod readers;
mod subscriber;
