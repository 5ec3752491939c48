//! Messages of one cluster in another: once, in order, unchanged but for headers that would steer JetStream twice.

mod formats;
mod headers;
mod replication;
mod sizes;
