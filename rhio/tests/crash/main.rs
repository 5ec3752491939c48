//! Processes die at chosen points and at random; nothing is lost, nothing comes twice, and the order holds.

mod bounded;
#[path = "../common/mod.rs"]
mod common;
mod dice;
mod points;
mod random;
mod streams;
mod support;
