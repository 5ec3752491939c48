//! A simulated cluster: exactly the state machines that ship, between servers and wires that fail.
//!
//! A seed decides everything: how many nodes there are, who reads whom, what is published when, and which faults strike
//! between which two events. The same seed gives the same run, so a failure can be looked at again and again:
//! `SIM_SEED=<seed> cargo test -p rhio-sim replay_messages -- --nocapture` (or `replay_buckets`) prints the event log.
//!
//! | module | models |
//! | --- | --- |
//! | [`base`], [`site`] | times and names; what a cluster has |
//! | [`world`], [`exec`] | the clock, the queue of events; processes as futures that a crash drops |
//! | [`jetstream`], [`nats`] | streams that forget; connections that lose requests and answers |
//! | [`bucket`] | buckets, the apps that change them, and what must hold of them |
//! | [`network`] | connections and streams between nodes, with real frames as bytes |
//! | [`node`] | the daemon's driver logic, as thin as it can be, around rhio-core's machines |
//! | [`config`], [`faults`] | what a run is made of, and what goes wrong in it |
//! | [`history`], [`checker`] | what happened, and whether that is all right |
//! | [`run`] | a seed, from beginning to verdict |
//!
//! A process does nothing between two `await`s but compute, and a fault may strike at any event, so a crash comes between
//! any two things that can be seen from outside.
#![forbid(unsafe_code)]

pub mod base;
pub mod bucket;
pub mod checker;
pub mod config;
pub mod exec;
pub mod faults;
pub mod history;
pub mod jetstream;
pub mod nats;
pub mod network;
pub mod node;
pub mod rng;
pub mod run;
pub mod site;
pub mod world;
