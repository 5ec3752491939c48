//! The last minutes of every publication and subscription, so that a page that is opened now has something to plot.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::model::{History, Series};
use super::times::epoch_seconds;

/// Time between two samples.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// Samples that are kept: five minutes.
const LENGTH: usize = 150;

/// An entry at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Messages or objects done since the process started.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages or objects missing.
    pub lag: Option<u64>,
    /// How old the oldest missing one is at most.
    pub lag_seconds: Option<f64>,
}

/// The samples.
#[derive(Debug, Default)]
pub struct Recorder {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    newest: Option<SystemTime>,
    series: BTreeMap<String, VecDeque<Sample>>,
}

impl Recorder {
    /// Adds a sample of every entry that there is; what is left out is forgotten.
    pub fn record(&self, now: SystemTime, samples: impl IntoIterator<Item = (String, Sample)>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut inner.series);
        for (id, sample) in samples {
            let mut series = before.remove(&id).unwrap_or_default();
            while series.len() >= LENGTH {
                series.pop_front();
            }
            series.push_back(sample);
            inner.series.insert(id, series);
        }
        inner.newest = Some(now);
    }

    /// All of it.
    pub fn history(&self) -> History {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let series = inner.series.iter().map(|(id, samples)| Series {
            id: id.clone(),
            messages: samples.iter().map(|sample| sample.messages).collect(),
            bytes: samples.iter().map(|sample| sample.bytes).collect(),
            lag: samples.iter().map(|sample| sample.lag).collect(),
            lag_seconds: samples.iter().map(|sample| sample.lag_seconds).collect(),
        });
        History {
            interval_seconds: INTERVAL.as_secs_f64(),
            newest: inner.newest.map(epoch_seconds).unwrap_or_default(),
            series: series.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_minutes_are_kept_of_what_is_there() {
        let recorder = Recorder::default();
        for messages in 0..200 {
            let both = [("a", messages), ("b", messages)]
                .map(|(id, messages)| (id.to_owned(), Sample { messages, ..Sample::default() }));
            recorder.record(SystemTime::now(), both);
        }
        let history = recorder.history();
        assert_eq!((history.series.len(), history.series[0].messages.len()), (2, 150));
        assert_eq!((history.series[0].messages[0], history.series[0].messages[149]), (50, 199));
        recorder.record(SystemTime::now(), [("b".to_owned(), Sample::default())]);
        assert_eq!(recorder.history().series.len(), 1);
    }
}
