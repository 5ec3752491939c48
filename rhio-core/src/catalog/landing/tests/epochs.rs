//! New epochs: what is carried over, and what is not said again.

use super::*;

fn keys(tasks: &[Task]) -> Vec<&str> {
    tasks.iter().map(|task| task.key().as_str()).collect()
}

#[test]
fn a_new_epoch_that_says_the_same_costs_nothing() {
    let mut landing = Landing::succeed(filled(2));
    assert!(landing.needs_older());
    say(&mut landing, &[put("1", 1), put("0", 1), Entry::Complete]);
    assert_eq!((landing.next(u64::MAX), landing.progress().low()), (None, 3));
    assert!(!landing.needs_older());
}

#[test]
fn what_a_new_epoch_does_not_say_again_is_deleted_at_its_mark() {
    let mut landing = Landing::succeed(filled(4));
    say(&mut landing, &[put("3", 1), put("2", 2), delete("1")]);
    assert_eq!(keys(&work(&mut landing, QUIET)), ["2", "1"]);
    assert_eq!((landing.landed(), landing.progress().low()), (3, 3), "nothing is concluded before the mark");
    say(&mut landing, &[Entry::Complete]);
    assert!(landing.needs_older() && !landing.progress().contains(3));
    assert_eq!(work(&mut landing, QUIET), [Task::Remove { key: key("0"), entry: 3, hash: hash(1) }]);
    assert!(!landing.needs_older());
    // A second mark says nothing, and nor does one before anything.
    say(&mut landing, &[Entry::Complete]);
    assert_eq!((landing.next(u64::MAX), landing.progress().low(), landing.landed()), (None, 5, 2));
}

#[test]
fn the_mark_is_settled_when_all_that_it_deletes_is_superseded_or_gone() {
    let mut landing = Landing::succeed(filled(3));
    say(&mut landing, &[Entry::Complete, put("0", 1), delete("1")]);
    assert_eq!(landing.progress().above().collect::<Vec<_>>(), [1..=1]);
    let tasks = work(&mut landing, QUIET);
    assert_eq!(tasks.iter().map(|task| (task.key().as_str(), task.entry())).collect::<Vec<_>>(), [("2", 0), ("1", 2)]);
    assert_eq!((landing.progress().low(), landing.landed()), (3, 1));
}

#[test]
fn with_deletes_kept_the_mark_only_forgets() {
    let mut old = Landing::new(Deletes::Keep);
    say(&mut old, &[put("a", 1), put("b", 1)]);
    work(&mut old, 0);
    let mut landing = Landing::succeed(old);
    say(&mut landing, &[put("a", 1), Entry::Complete]);
    assert_eq!((landing.next(u64::MAX), landing.progress().low(), landing.landed()), (None, 2, 1));
}

#[test]
fn an_epoch_that_says_nothing_again_is_held() {
    let mut landing = Landing::succeed(filled(50));
    say(&mut landing, &[Entry::Complete]);
    assert_eq!(landing.deletes_held(), Some(Held { count: 50, of: 50 }));
    assert_eq!(landing.next(u64::MAX), None);
    // The author comes to its senses.
    let mut landing = Landing::succeed(landing);
    assert_eq!((landing.deletes_held(), landing.lag()), (None, Lag::default()));
    say(&mut landing, &(0..50).map(|n| put(&n.to_string(), 1)).chain([Entry::Complete]).collect::<Vec<_>>());
    assert_eq!((landing.next(u64::MAX), landing.deletes_held(), landing.landed()), (None, None, 50));
}

#[test]
fn a_transfer_goes_on_into_the_new_epoch_if_that_says_the_same() {
    for (version, goes_on) in [(1, true), (2, false)] {
        let mut old = follow();
        say(&mut old, &[put("a", 1), put("b", 1)]);
        land(&mut old, 0);
        let mut landing = Landing::succeed(old);
        assert!(landing.is_current(&key("a"), 0));
        assert_eq!((landing.next(0), landing.lag()), (None, Lag::default()), "b is not said yet");
        say(&mut landing, &[put("a", version)]);
        assert_eq!(landing.is_current(&key("a"), 0), goes_on);
        done(&mut landing, "a", 0);
        assert_eq!(landing.progress().contains(0), goes_on);
        assert_eq!(work(&mut landing, 0).len(), usize::from(!goes_on));
    }
}

#[test]
fn a_transfer_of_an_old_epoch_that_is_not_said_again_is_removed() {
    for before_the_mark in [true, false] {
        let mut old = follow();
        say(&mut old, &[put("a", 1)]);
        land(&mut old, 0);
        let mut landing = Landing::succeed(old);
        if before_the_mark {
            done(&mut landing, "a", 0);
            assert_eq!(landing.landed(), 1);
        }
        say(&mut landing, &[Entry::Complete]);
        if !before_the_mark {
            assert!(!landing.is_current(&key("a"), 0));
            assert_eq!(landing.next(QUIET), None);
            done(&mut landing, "a", 0);
        }
        assert_eq!(keys(&work(&mut landing, QUIET)), ["a"]);
        assert_eq!((landing.objects.len(), landing.progress().low()), (0, 1));
    }
}

#[test]
fn a_conflict_of_an_old_epoch_is_none_until_it_is_found_again() {
    let mut old = follow();
    say(&mut old, &[put("a", 1)]);
    land(&mut old, 0);
    old.settle(&key("a"), 0, Outcome::Kept, 0);
    let mut landing = Landing::succeed(old);
    assert_eq!((landing.conflicts(), landing.objects.len()), (0, 0));
    say(&mut landing, &[put("a", 1), Entry::Complete]);
    land(&mut landing, 0);
    landing.settle(&key("a"), 0, Outcome::Kept, 0);
    assert_eq!((landing.conflicts(), landing.progress().count()), (1, 1));
}
