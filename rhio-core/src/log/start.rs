//! In which order logs begin: which epoch a new one has, and which ones it is time to read.

use crate::wire::state::LogState;

/// The epoch of a log that begins now (in milliseconds since the Unix epoch), when `last` is the latest that its author
/// knows of: greater than that, and than those that it has forgotten.
pub fn next_epoch(now: u64, last: Option<u64>) -> u64 {
    now.max(last.map_or(0, |last| last.saturating_add(1)))
}

/// Logs whose turn it is: they are not done, and every closed log of an earlier epoch in which the same items may stand
/// is done. So what is held of the earlier one is known, and can be left out, before the later one begins.
pub fn startable(logs: &[LogState], is_done: impl Fn(&LogState) -> bool) -> Vec<&LogState> {
    let is_before = |earlier: &LogState, log: &LogState| {
        earlier.closed
            && earlier.descriptor.epoch < log.descriptor.epoch
            && earlier.descriptor.overlaps(&log.descriptor)
            && !is_done(earlier)
    };
    let is_ready = |log: &&LogState| !is_done(log) && !logs.iter().any(|earlier| is_before(earlier, log));
    logs.iter().filter(is_ready).collect()
}

#[cfg(test)]
mod tests {
    use p2panda_core::SigningKey;

    use crate::log::descriptor::{LogDescriptor, Source};
    use crate::log::total::Total;
    use crate::record::Position;
    use crate::subject::Filter;

    use super::*;

    fn log(epoch: u64, filter: &str, closed: bool) -> LogState {
        let author = SigningKey::from_bytes(&[1; 32]).verifying_key().into();
        let source = Source { stream: "s".to_owned(), created: epoch, filter: Filter::parse(filter).unwrap() };
        let descriptor = LogDescriptor::messages(author, epoch, source);
        LogState {
            descriptor,
            closed,
            head: None,
            through: Position::default(),
            total: Total::default(),
            pending: None,
        }
    }

    fn epochs(logs: &[LogState], done: &[u64]) -> Vec<u64> {
        let ready = startable(logs, |log| done.contains(&log.descriptor.epoch));
        ready.into_iter().map(|log| log.descriptor.epoch).collect()
    }

    #[test]
    fn an_epoch_is_later_than_the_one_before_whatever_the_clock_says() {
        assert_eq!(
            [next_epoch(7, None), next_epoch(7, Some(3)), next_epoch(7, Some(7)), next_epoch(1, Some(9))],
            [7, 7, 8, 10]
        );
    }

    #[test]
    fn a_log_waits_for_those_that_were_closed_before_it() {
        let logs = [log(3, ">", false), log(1, ">", true), log(2, ">", true)];
        assert_eq!(epochs(&logs, &[]), [1]);
        assert_eq!(epochs(&logs, &[1]), [2]);
        assert_eq!(epochs(&logs, &[1, 2]), [3]);
        assert!(epochs(&logs, &[1, 2, 3]).is_empty());
    }

    #[test]
    fn a_log_does_not_wait_for_one_that_is_open_or_about_something_else() {
        assert_eq!(epochs(&[log(1, ">", false), log(2, ">", false)], &[]), [1, 2]);
        assert_eq!(epochs(&[log(1, "a.>", true), log(2, "b.>", false)], &[]), [1, 2]);
        assert_eq!(epochs(&[log(1, "a.>", true), log(2, "*.x", false)], &[]), [1]);
    }
}
