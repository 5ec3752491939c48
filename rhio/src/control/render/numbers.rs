//! Numbers as people read them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// With commas: `1,234`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number with what it counts: `1 message`, `1,234 messages`.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Bytes in binary units, with two or three digits: `56 MiB`, `5.6 MiB`.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut value = number as f64;
    let mut unit = "";
    for next in UNITS {
        // What would be shown as 1024 of one unit is 1.0 of the next.
        if value < 1023.5 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if value < 9.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// A number of seconds, in its two largest units: `3 s`, `4 min 12 s`, `2 d 3 h`. `?` for what is no duration.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    if seconds == 0.0 {
        return "0 s".to_owned();
    }
    if seconds < 1.0 {
        return "< 1 s".to_owned();
    }
    let seconds = seconds as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let pair = |large: u64, unit: &str, small: u64, below: &str| match small {
        0 => format!("{} {unit}", count(large)),
        small => format!("{} {unit} {small} {below}", count(large)),
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => pair(minutes, "min", seconds % 60, "s"),
        (0, hours, minutes) => pair(hours, "h", minutes % 60, "min"),
        (days, hours, _) => pair(days, "d", hours % 24, "h"),
    }
}

/// A round trip: `0.4 ms`, `12 ms`, `1.2 s`.
pub fn round_trip(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    match seconds * 1000.0 {
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1000.0),
    }
}

/// So many a second: `0`, `0.4`, `12`, `1,234`.
pub fn rate(per_second: f64) -> String {
    match per_second {
        rate if !rate.is_finite() || rate <= 0.0 => "0".to_owned(),
        rate if rate < 9.95 => format!("{rate:.1}"),
        rate => count(rate.round() as u64),
    }
}

/// Seconds between two times of the API; `None` when one is no time, or the order is another one.
pub fn seconds_between(earlier: &str, later: &str) -> Option<f64> {
    let read = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok();
    let seconds = (read(later)? - read(earlier)?).as_seconds_f64();
    (seconds >= 0.0).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_commas() {
        let shown: Vec<_> = [0, 12, 999, 1000, 12_345, 1_234_567].map(count).into();
        assert_eq!(shown, ["0", "12", "999", "1,000", "12,345", "1,234,567"]);
        assert_eq!((counted(1, "message"), counted(0, "message")), ("1 message".into(), "0 messages".into()));
    }

    #[test]
    fn bytes_have_units() {
        let shown: Vec<_> = [0, 1023, 1024, 1_048_575, 58_720_256, 5_872_025, u64::MAX].map(bytes).into();
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "56 MiB", "5.6 MiB", "16 EiB"]);
    }

    #[test]
    fn durations_have_two_units() {
        let shown: Vec<_> =
            [0.0, 0.2, 3.9, 60.0, 252.0, 7200.0, 11_520.0, 183_600.0, f64::NAN, -1.0].map(duration).into();
        assert_eq!(shown, ["0 s", "< 1 s", "3 s", "1 min", "4 min 12 s", "2 h", "3 h 12 min", "2 d 3 h", "?", "?"]);
    }

    #[test]
    fn rates_and_round_trips() {
        assert_eq!([0.0, 0.42, 12.4, 1234.0, f64::INFINITY].map(rate), ["0", "0.4", "12", "1,234", "0"]);
        assert_eq!([0.000_42, 0.0124, 1.25].map(round_trip), ["0.4 ms", "12 ms", "1.2 s"]);
        assert_eq!(seconds_between("2026-01-01T00:00:00Z", "2026-01-01T00:01:00.5Z"), Some(60.5));
        assert_eq!(seconds_between("2026-01-01T00:00:00Z", "2025-01-01T00:00:00Z"), None);
        assert_eq!(seconds_between("yesterday", "2025-01-01T00:00:00Z"), None);
    }
}
