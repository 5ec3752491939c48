//! Subjects and filters: the text stays as it is, and the three relations agree with each other.

use rhio_core::subject::{Filter, check_subject};

/// Three texts, separated by line ends: two filters and a subject.
pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (left, right, subject) = (next(), next(), next());
    for text in [left, right, subject] {
        check_text(text);
    }
    if let (Ok(left), Ok(right)) = (Filter::parse(left), Filter::parse(right)) {
        check_pair(&left, &right, subject);
        check_pair(&right, &left, subject);
    }
}

fn check_text(text: &str) {
    let filter = Filter::parse(text);
    if is_plain(text) {
        let filter = filter.as_ref().expect("a subject is a filter, too");
        assert!(filter.matches(text), "{text:?} is its own filter");
    }
    let Ok(filter) = filter else { return };
    assert_eq!(filter.as_str(), text);
    assert_eq!(filter.to_string().parse_again(), filter);
    assert!(filter.covers(&filter) && filter.overlaps(&filter));
    assert!(any(">").covers(&filter) && any(">").overlaps(&filter));
    // A token in place of each wildcard makes a subject that falls under it.
    let example: Vec<_> = text.split('.').map(|token| if matches!(token, "*" | ">") { "t" } else { token }).collect();
    let example = example.join(".");
    check_subject(example.as_bytes()).expect("an example is a subject");
    assert!(filter.matches(&example), "{filter} takes {example}");
    if let Some(short) = text.strip_suffix(".>") {
        assert!(!filter.matches(&short.replace('*', "t")), "'>' stands for at least one token");
        assert!(filter.matches(&format!("{example}.t")));
    } else if text != ">" {
        assert!(!filter.matches(&format!("{example}.t")), "{filter} has a fixed number of tokens");
    }
}

/// Whether it is a subject that is a filter, too: servers take control characters and wildcards for letters in the subject
/// of a message, and not in a filter.
fn is_plain(text: &str) -> bool {
    let odd =
        text.bytes().any(|byte| byte < b' ' || byte == 0x7f) || text.split('.').any(|token| matches!(token, "*" | ">"));
    check_subject(text.as_bytes()).is_ok() && !odd
}

fn check_pair(left: &Filter, right: &Filter, subject: &str) {
    assert_eq!(left.overlaps(right), right.overlaps(left), "{left} and {right}");
    if left.covers(right) {
        assert!(left.overlaps(right), "{left} covers {right}");
        assert!(!right.covers(left) || left == right, "{left} and {right} cover each other");
    }
    if is_plain(subject) {
        let (by_left, by_right) = (left.matches(subject), right.matches(subject));
        assert!(!(by_right && left.covers(right)) || by_left, "{left} covers {right}, but not {subject}");
        assert!(!(by_left && by_right) || left.overlaps(right), "{left} and {right} both take {subject}");
        let exact = any(subject);
        assert_eq!(left.covers(&exact), by_left);
        assert_eq!(left.overlaps(&exact), by_left);
    }
}

fn any(text: &str) -> Filter {
    Filter::parse(text).expect("a filter")
}

trait ParseAgain {
    fn parse_again(&self) -> Filter;
}

impl ParseAgain for String {
    fn parse_again(&self) -> Filter {
        any(self)
    }
}
