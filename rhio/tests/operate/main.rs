//! What an operator has in hand: the command line, the configuration, HTTP, traces, and the process itself.

mod check;
mod cli;
mod config;
mod http;
mod lifecycle;
mod reload;
mod status;
mod tracing;
