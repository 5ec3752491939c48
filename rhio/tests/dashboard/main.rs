//! The dashboard in a real Chromium, beside real rhios, NATS servers and S3 servers.
//!
//! With `RHIO_TEST_PICTURES=<folder>` the tests leave pictures of what they saw there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod hostile;
mod page;
mod shows;
mod trouble;
