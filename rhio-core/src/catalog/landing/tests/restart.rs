//! What a restart knows from the stored log and progress.

use super::*;

fn settled(entries: &[u64]) -> Progress {
    let mut progress = Progress::default();
    entries.iter().for_each(|entry| progress.insert(*entry));
    progress
}

fn replay(mut landing: Landing, progress: &[u64], log: &[Entry]) -> Landing {
    landing.restore(settled(progress));
    say(&mut landing, log);
    assert_eq!((landing.next(u64::MAX), landing.next_due()), (None, None), "not before the start");
    landing.start();
    landing
}

fn entries(tasks: &[Task]) -> Vec<u64> {
    tasks.iter().map(Task::entry).collect()
}

#[test]
fn what_was_settled_is_not_done_again() {
    let log = [put("a", 1), put("b", 1), put("c", 1), delete("c"), put("d", 1)];
    let mut landing = replay(follow(), &[0, 2, 3], &log);
    assert_eq!((landing.landed(), landing.find(&hash(1))), (1, Some(&key("a"))), "b and d may be here");
    assert_eq!(entries(&work(&mut landing, QUIET)), [1, 4]);
    // What is here is known as well as before.
    say(&mut landing, &[put("a", 1), put("c", 1)]);
    assert_eq!(entries(&work(&mut landing, QUIET)), [6]);
    assert_eq!(landing.progress().low(), 7);
}

#[test]
fn what_counted_as_settled_because_of_a_later_entry_is_not_taken_for_landed() {
    // Entry 0 was never landed, or it was and 1 followed it, or it is landed and 1 was not yet begun: all the same here.
    let mut landing = replay(follow(), &[0, 1], &[put("a", 1), put("a", 2), put("a", 1)]);
    assert_eq!(entries(&work(&mut landing, 0)), [2]);
    // A delete that the next one superseded: the object is still here.
    let mut landing = replay(follow(), &[0, 1], &[put("a", 1), delete("a"), delete("a")]);
    assert_eq!(work(&mut landing, QUIET), [Task::Remove { key: key("a"), entry: 2, hash: hash(1) }]);
    // The same between a mark and a delete.
    let old = replay(follow(), &[0], &[put("a", 1)]);
    let mut landing = replay(Landing::succeed(old), &[0], &[Entry::Complete, delete("a")]);
    assert_eq!(entries(&work(&mut landing, QUIET)), [1]);
}

#[test]
fn a_transfer_that_was_under_way_may_have_landed() {
    let mut landing = replay(follow(), &[], &[put("a", 1)]);
    say(&mut landing, &[delete("a")]);
    assert_eq!(work(&mut landing, QUIET), [Task::Remove { key: key("a"), entry: 1, hash: hash(1) }]);
    let mut landing = replay(follow(), &[0], &[put("a", 1), put("a", 2)]);
    say(&mut landing, &[put("a", 1)]);
    assert_eq!(entries(&work(&mut landing, 0)), [2]);
    let mut landing = replay(follow(), &[0], &[put("a", 1), delete("a")]);
    say(&mut landing, &[put("a", 1)]);
    assert_eq!(entries(&work(&mut landing, 0)), [2], "the removal was under way");
}

#[test]
fn a_restart_in_a_new_epoch_finds_what_the_old_one_left() {
    let log = [put("a", 1), put("b", 1), put("c", 1), put("d", 1)];
    let old = || replay(follow(), &[0, 1, 2], &log);
    let new = [put("a", 1), put("b", 2), Entry::Complete];
    // Nothing of the new epoch's progress was stored: what is the same costs nothing again.
    let mut landing = replay(Landing::succeed(old()), &[], &new);
    assert!(landing.needs_older());
    assert_eq!(landing.progress().above().collect::<Vec<_>>(), [] as [std::ops::RangeInclusive<u64>; 0]);
    assert_eq!((landing.progress().low(), landing.lag().removals), (1, 2));
    let tasks = work(&mut landing, QUIET);
    let keys: Vec<_> = tasks.iter().map(|task| task.key().as_str()).collect();
    assert_eq!(keys, ["b", "c", "d"], "d may be here");
    // All of it was.
    let mut landing = replay(Landing::succeed(old()), &[0, 1, 2], &new);
    assert_eq!((landing.next(u64::MAX), landing.landed(), landing.needs_older()), (None, 2, false));
    // The old epoch is not needed then.
    let mut alone = replay(follow(), &[0, 1, 2], &new);
    assert_eq!((alone.next(u64::MAX), alone.landed()), (None, 2));
    say(&mut landing, &[put("a", 1)]);
    say(&mut alone, &[put("a", 1)]);
    assert_eq!((landing.next(0), alone.next(0)), (None, None));
}

#[test]
fn progress_beyond_the_stored_log_is_not_believed() {
    // Entry 0 was settled by entry 1, which was received and which the log has lost.
    let mut before = follow();
    say(&mut before, &[put("a", 1), put("a", 1)]);
    let mut landing = follow();
    landing.restore(before.progress().clone());
    say(&mut landing, &[put("a", 1)]);
    landing.start();
    assert_eq!((landing.next(0), landing.find(&hash(1))), (None, None));
    // Nor after another restart.
    let progress = Progress::decode(landing.progress().encode()).unwrap();
    let mut landing = follow();
    landing.restore(progress);
    say(&mut landing, &[put("a", 1)]);
    landing.start();
    assert_eq!(landing.find(&hash(1)), None);
    say(&mut landing, &[put("a", 1)]);
    assert_eq!(entries(&work(&mut landing, 0)), [1]);
    // What was settled beyond the log is not settled.
    let mut landing = replay(follow(), &[0, 1], &[put("a", 1)]);
    assert_eq!((landing.progress().low(), landing.progress().received()), (1, 2));
    say(&mut landing, &[put("b", 1)]);
    assert_eq!(entries(&work(&mut landing, 0)), [1]);
}

#[test]
fn held_deletes_are_asked_about_again() {
    let log: Vec<_> = (0..40).map(|n| put(&n.to_string(), 1)).chain((0..39).map(|n| delete(&n.to_string()))).collect();
    let puts: Vec<_> = (0..40).collect();
    let landing = replay(follow(), &puts, &log);
    assert_eq!(landing.deletes_held(), Some(Held { count: 39, of: 40 }));
}
