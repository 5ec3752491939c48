//! The dashboard in a real Chromium, beside real rhios, NATS servers and S3 servers.
//!
//! With `RHIO_TEST_PICTURES=<folder>` the tests leave pictures of what they saw there.

mod hostile;
mod page;
mod shows;
mod trouble;
