//! Processes and servers die while objects are on their way. Afterwards both buckets hold the same, nothing is left
//! behind, and nothing was fetched that was there.

mod lying;
mod points;
mod servers;
mod support;
