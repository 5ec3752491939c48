use super::*;
use crate::catalog::Entry;
use crate::object::Attributes;

mod epochs;
mod restart;

const QUIET: u64 = QUIET_MS;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).unwrap()
}

fn hash(version: u8) -> BlobHash {
    BlobHash::from_bytes([version; 32])
}

fn put(name: &str, version: u8) -> Entry {
    let (key, hash, etag) = (key(name), hash(version), String::new());
    Entry::Put(Put { key, hash, size: u64::from(version), modified: 1, etag, attributes: Attributes::default() })
}

fn delete(name: &str) -> Entry {
    Entry::Delete(key(name))
}

fn follow() -> Landing {
    Landing::new(Deletes::Follow)
}

/// Receives one entry after what was received.
fn say(landing: &mut Landing, entries: &[Entry]) {
    landing.receive(landing.received(), entries, 0);
}

/// Takes the next task, which must be to land, and gives its key, entry and version.
fn land(landing: &mut Landing, now: u64) -> (String, u64, u8) {
    match landing.next(now) {
        Some(Task::Land { key, entry, put }) => (key.as_str().to_owned(), entry, put.hash.as_bytes()[0]),
        other => panic!("{other:?}"),
    }
}

fn done(landing: &mut Landing, name: &str, entry: u64) {
    landing.settle(&key(name), entry, Outcome::Done, 0);
}

/// Does everything that is due.
fn work(landing: &mut Landing, now: u64) -> Vec<Task> {
    let tasks: Vec<_> = std::iter::from_fn(|| {
        let task = landing.next(now)?;
        landing.settle(task.key(), task.entry(), Outcome::Done, now);
        Some(task)
    })
    .collect();
    tasks
}

/// As many objects as asked for, landed.
fn filled(count: usize) -> Landing {
    let mut landing = follow();
    let puts: Vec<_> = (0..count).map(|n| put(&n.to_string(), 1)).collect();
    say(&mut landing, &puts);
    assert_eq!(work(&mut landing, 0).len(), count);
    landing
}

fn delete_first(landing: &mut Landing, count: usize) {
    let deletes: Vec<_> = (0..count).map(|n| delete(&n.to_string())).collect();
    say(landing, &deletes);
}

#[test]
fn entries_become_tasks_in_their_order_one_per_key() {
    let mut landing = follow();
    say(&mut landing, &[put("b", 1), put("a", 1), put("b", 2)]);
    assert_eq!(landing.lag(), Lag { objects: 2, bytes: 3, removals: 0 });
    assert!(landing.progress().contains(0), "superseded");
    assert_eq!(land(&mut landing, 0), ("a".to_owned(), 1, 1));
    assert_eq!(land(&mut landing, 0), ("b".to_owned(), 2, 2));
    assert_eq!(landing.next(0), None);
    done(&mut landing, "b", 2);
    assert_eq!(landing.progress().low(), 1);
    done(&mut landing, "a", 1);
    assert_eq!((landing.progress().low(), landing.lag(), landing.landed()), (3, Lag::default(), 2));
    // Received again: skipped.
    landing.receive(1, &[put("a", 1), put("b", 2)], 0);
    assert_eq!((landing.next(0), landing.received()), (None, 3));
}

#[test]
fn what_is_here_already_is_settled_without_a_task() {
    let mut landing = follow();
    say(&mut landing, &[put("a", 1)]);
    work(&mut landing, 0);
    say(&mut landing, &[put("a", 1)]);
    assert_eq!((landing.next(0), landing.progress().low()), (None, 2));
    // The same content with other attributes is another thing.
    let Entry::Put(mut other) = put("a", 1) else { unreachable!() };
    other.attributes = Attributes::keep([("content-type".to_owned(), "a/b".to_owned())]);
    say(&mut landing, &[Entry::Put(other)]);
    assert_eq!(land(&mut landing, 0), ("a".to_owned(), 2, 1));
}

#[test]
fn a_superseded_transfer_frees_its_key_and_settles_nothing() {
    for ends_well in [true, false] {
        let mut landing = follow();
        say(&mut landing, &[put("a", 1)]);
        work(&mut landing, 0);
        say(&mut landing, &[put("a", 2)]);
        assert_eq!(land(&mut landing, 0).1, 1);
        assert!(landing.is_current(&key("a"), 1) && !landing.is_current(&key("a"), 0));
        // Back to what was here before, but who knows what is here now.
        say(&mut landing, &[put("a", 1)]);
        assert!(!landing.is_current(&key("a"), 1) && !landing.is_current(&key("a"), 2));
        assert_eq!((landing.next(0), landing.find(&hash(1))), (None, None));
        if ends_well {
            done(&mut landing, "a", 1);
        } else {
            landing.fail(&key("a"), 1, 0);
        }
        assert!(!landing.progress().contains(2));
        assert_eq!(land(&mut landing, 0), ("a".to_owned(), 2, 1));
        // An end that nobody waits for any more.
        done(&mut landing, "a", 1);
        assert!(!landing.progress().contains(2));
        done(&mut landing, "a", 2);
        assert_eq!((landing.progress().low(), landing.find(&hash(1))), (3, Some(&key("a"))));
    }
}

#[test]
fn a_transfer_goes_on_when_the_same_is_said_again() {
    let mut landing = follow();
    say(&mut landing, &[put("a", 1)]);
    land(&mut landing, 0);
    say(&mut landing, &[put("a", 1)]);
    assert!(landing.is_current(&key("a"), 0));
    assert_eq!(landing.next(0), None);
    landing.fail(&key("a"), 0, 0);
    assert_eq!(land(&mut landing, FIRST_RETRY_MS), ("a".to_owned(), 1, 1));
    done(&mut landing, "a", 1);
    assert_eq!((landing.progress().low(), landing.lag()), (2, Lag::default()));
}

#[test]
fn failures_wait_longer_each_time_and_behind_what_is_fresh() {
    let mut landing = follow();
    say(&mut landing, &[put("a", 1)]);
    let mut now = 0;
    for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        land(&mut landing, now);
        landing.fail(&key("a"), 0, now);
        assert_eq!(landing.next_due(), Some(now + wait * 1000));
        assert_eq!(landing.next(now + wait * 1000 - 1), None);
        now += wait * 1000;
    }
    say(&mut landing, &[put("b", 1)]);
    assert_eq!(landing.next_due(), Some(0));
    assert_eq!(land(&mut landing, now).0, "b");
    assert_eq!(land(&mut landing, now).0, "a");
    landing.fail(&key("a"), 0, now);
    // What supersedes it is fresh again.
    say(&mut landing, &[put("a", 2)]);
    assert_eq!(land(&mut landing, now), ("a".to_owned(), 2, 2));
    landing.fail(&key("a"), 2, now);
    assert_eq!(landing.next_due(), Some(now + 1000));
}

#[test]
fn a_conflict_stays_visible_and_is_tried_again_slowly() {
    let mut landing = follow();
    say(&mut landing, &[put("a", 1)]);
    land(&mut landing, 0);
    landing.settle(&key("a"), 0, Outcome::Kept, 7);
    assert_eq!((landing.conflicts(), landing.conflicting().collect::<Vec<_>>()), (1, vec![&key("a")]));
    assert_eq!((landing.progress().count(), landing.lag().objects, landing.landed()), (0, 1, 0));
    assert_eq!(landing.next_due(), Some(LAST_RETRY_MS + 7));
    land(&mut landing, LAST_RETRY_MS + 7);
    done(&mut landing, "a", 0);
    assert_eq!((landing.conflicts(), landing.progress().low()), (0, 1));

    // A delete of what is not here for certain is settled at once.
    say(&mut landing, &[put("b", 1)]);
    land(&mut landing, 0);
    landing.settle(&key("b"), 1, Outcome::Kept, 0);
    say(&mut landing, &[delete("b")]);
    assert_eq!((landing.conflicts(), landing.progress().low(), landing.lag()), (0, 3, Lag::default()));
}

#[test]
fn kept_deletes_are_settled_and_their_objects_no_longer_ours() {
    let mut landing = Landing::new(Deletes::Keep);
    say(&mut landing, &[put("a", 1), put("b", 1)]);
    work(&mut landing, 0);
    say(&mut landing, &[delete("a"), delete("b"), delete("none")]);
    assert_eq!((landing.next(u64::MAX), landing.progress().low()), (None, 5));
    assert_eq!((landing.landed(), landing.find(&hash(1)), landing.objects.len()), (0, None, 0));
    // A transfer that is under way is not wanted any more, and leaves nothing behind.
    say(&mut landing, &[put("a", 1)]);
    land(&mut landing, 0);
    say(&mut landing, &[delete("a")]);
    assert!(!landing.is_current(&key("a"), 5));
    done(&mut landing, "a", 5);
    assert_eq!((landing.progress().low(), landing.landed(), landing.objects.len()), (7, 0, 0));
}

#[test]
fn followed_deletes_wait_until_it_is_quiet() {
    let mut landing = filled(3);
    landing.receive(3, &[delete("0")], 100);
    landing.receive(4, &[delete("1")], 900);
    assert_eq!((landing.next(900 + QUIET - 1), landing.next_due()), (None, Some(900 + QUIET)));
    assert_eq!(landing.lag(), Lag { objects: 0, bytes: 0, removals: 2 });
    let task = landing.next(900 + QUIET).unwrap();
    assert_eq!(task, Task::Remove { key: key("0"), entry: 3, hash: hash(1) });
    done(&mut landing, "0", 3);
    landing.next(900 + QUIET).unwrap();
    landing.settle(&key("1"), 4, Outcome::Kept, 0);
    assert_eq!((landing.progress().low(), landing.landed(), landing.objects.len()), (5, 1, 1));
}

#[test]
fn deletes_that_never_stop_are_carried_out_all_the_same() {
    let mut landing = filled(500);
    let mut first = None;
    for n in 0..100 {
        let now = n * (QUIET / 2);
        landing.receive(500 + n, &[delete(&n.to_string())], now);
        if !work(&mut landing, now).is_empty() {
            first = first.or(Some(now));
        }
    }
    assert_eq!(first, Some(LONGEST_QUIET_MS));
}

#[test]
fn a_delete_and_a_put_are_a_put() {
    let mut landing = filled(2);
    say(&mut landing, &[delete("0"), put("0", 1), delete("1"), put("1", 2), put("new", 1), delete("new")]);
    assert_eq!(work(&mut landing, QUIET).iter().map(Task::entry).collect::<Vec<_>>(), [5]);
    assert_eq!((landing.progress().low(), landing.landed()), (8, 2));
}

#[test]
fn a_delete_after_a_transfer_that_failed_removes_what_it_may_have_left() {
    let mut landing = follow();
    say(&mut landing, &[put("a", 1)]);
    land(&mut landing, 0);
    say(&mut landing, &[delete("a")]);
    assert_eq!(landing.next(QUIET), None, "the transfer has not ended");
    landing.fail(&key("a"), 0, 0);
    assert_eq!(work(&mut landing, QUIET), [Task::Remove { key: key("a"), entry: 1, hash: hash(1) }]);
    assert_eq!((landing.progress().low(), landing.objects.len()), (2, 0));
}

#[test]
fn a_mass_delete_is_held_until_it_is_confirmed() {
    let mut few = filled(10);
    delete_first(&mut few, 10);
    assert_eq!((few.deletes_held(), work(&mut few, QUIET).len()), (None, 10));
    let mut fifth = filled(100);
    delete_first(&mut fifth, 20);
    assert_eq!((fifth.deletes_held(), work(&mut fifth, QUIET).len()), (None, 20));

    let mut landing = filled(100);
    delete_first(&mut landing, 21);
    assert_eq!(landing.deletes_held(), Some(Held { count: 21, of: 100 }));
    assert_eq!((work(&mut landing, QUIET), landing.next_due()), (vec![], None));
    landing.confirm_deletes();
    let first = landing.next(QUIET).unwrap();
    landing.fail(first.key(), first.entry(), QUIET);
    assert_eq!(work(&mut landing, QUIET).len(), 20);
    assert_eq!(work(&mut landing, QUIET * 2).len(), 1);

    // What was confirmed is not what comes later.
    say(&mut landing, &(30..60).map(|n| delete(&n.to_string())).collect::<Vec<_>>());
    assert_eq!(landing.deletes_held(), Some(Held { count: 30, of: 79 }));
    // Said again: nothing is left to hold.
    say(&mut landing, &(30..60).map(|n| put(&n.to_string(), 1)).collect::<Vec<_>>());
    assert_eq!((landing.deletes_held(), work(&mut landing, u64::MAX).len()), (None, 0));
}

#[test]
fn a_failed_removal_is_not_tried_again_while_deletes_are_held() {
    let mut landing = filled(100);
    delete_first(&mut landing, 1);
    let task = landing.next(QUIET).unwrap();
    landing.fail(task.key(), task.entry(), QUIET);
    say(&mut landing, &(1..40).map(|n| delete(&n.to_string())).collect::<Vec<_>>());
    assert_eq!((landing.next(u64::MAX), landing.next_due()), (None, None));
    landing.confirm_deletes();
    assert_eq!(landing.next_due(), Some(QUIET));
    assert_eq!(work(&mut landing, u64::MAX).len(), 40);
}

#[test]
fn a_waiting_object_takes_few_bytes() {
    assert!(size_of::<Option<(ObjectKey, Object)>>() <= 88);
}
