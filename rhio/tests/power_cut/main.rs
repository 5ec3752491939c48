//! JetStream takes back what it acknowledged: the server stops, an older copy of its store is put back, it starts.

#[path = "../common/mod.rs"]
mod common;
mod cut;
#[path = "../crash/dice.rs"]
mod dice;
mod publisher;
mod random;
mod readers;
mod subscriber;
#[path = "../crash/support.rs"]
mod support;
