//! rhio's own speaking of the NATS client protocol, for the two directions that are hot: reading streams that are
//! published, and writing records. Bytes in, bytes out.
//!
//! [`connect`](connect::connect) makes a connection to one of several servers, as the [settings](crate::settings::Nats) say; [`auth`] is what it
//! logs in with. [`connection`] is what comes of it: a [`Writer`](connection::Writer) and a
//! [`Reader`](connection::Reader). It never connects again by itself: whoever owns it learns that it is lost, and why,
//! and decides what may have been lost with it. [`parse`] reads what a server sends, [`encode`] writes what it is told,
//! [`exchange`] asks and
//! waits for answers, and lends connections. [`headers`] looks into header blocks and leaves them as they are, and [`js`] is what JetStream says over all that.

pub mod auth;
pub mod connect;
pub mod connection;
pub mod encode;
pub mod exchange;
pub mod headers;
pub mod info;
pub mod js;
pub mod parse;
