//! JetStream streams as they are in the field: missing, full, purged, work queues.

mod altered;
mod source;
mod troubles;
