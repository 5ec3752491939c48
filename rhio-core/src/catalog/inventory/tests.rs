use super::*;
use crate::catalog::Put;
use crate::object::Attributes;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).unwrap()
}

/// Version `version` of an object.
fn put(name: &str, version: u8) -> Entry {
    Entry::Put(Put {
        key: key(name),
        hash: BlobHash::from_bytes([version; 32]),
        size: 10 + u64::from(version),
        modified: 100,
        etag: format!("e{version}"),
        attributes: Attributes::default(),
    })
}

fn of(entries: &[Entry]) -> Inventory {
    let mut inventory = Inventory::new();
    entries.iter().for_each(|entry| inventory.apply(entry));
    inventory
}

fn observe(inventory: &mut Inventory, name: &str, version: u8) -> Observed {
    inventory.observe(&key(name), 10 + u64::from(version), 100, &format!("e{version}"))
}

fn found<'a>(inventory: &'a Inventory, version: u8) -> Vec<&'a str> {
    let mut keys: Vec<&'a str> =
        inventory.find(&BlobHash::from_bytes([version; 32])).map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn a_listing_tells_what_is_new_changed_and_gone() {
    let mut inventory = of(&[put("a", 1), put("b", 1), put("c", 1)]);
    inventory.begin_listing();
    assert_eq!(observe(&mut inventory, "d", 1), Observed::New);
    assert_eq!(observe(&mut inventory, "b", 2), Observed::Changed);
    assert_eq!(observe(&mut inventory, "a", 1), Observed::Same);
    assert_eq!(inventory.end_listing(true), Ended::Gone(vec![key("c")]));
    inventory.begin_listing();
    for name in ["a", "b", "c"] {
        observe(&mut inventory, name, 1);
    }
    assert_eq!(inventory.end_listing(true), Ended::Gone(vec![]));
}

#[test]
fn size_time_and_etag_each_make_another_version() {
    let mut inventory = of(&[put("a", 1)]);
    for (size, modified, etag) in [(12, 100, "e1"), (11, 101, "e1"), (11, 100, "e2")] {
        assert_eq!(inventory.observe(&key("a"), size, modified, etag), Observed::Changed);
        assert!(!inventory.is_current(&key("a"), size, modified, etag));
    }
    assert!(inventory.is_current(&key("a"), 11, 100, "e1"));
    assert!(!inventory.is_current(&key("b"), 11, 100, "e1"));
}

#[test]
fn a_listing_that_failed_or_found_nothing_concludes_nothing() {
    let mut inventory = of(&[put("a", 1), put("b", 1)]);
    assert_eq!(inventory.end_listing(true), Ended::Incomplete, "none was begun");
    inventory.begin_listing();
    observe(&mut inventory, "a", 1);
    assert_eq!(inventory.end_listing(false), Ended::Incomplete);
    assert_eq!(inventory.end_listing(true), Ended::Incomplete, "it has ended");
    inventory.begin_listing();
    assert_eq!(inventory.end_listing(true), Ended::Empty { known: 2 });
    // One that is begun anew does not count what the one before it saw.
    inventory.begin_listing();
    observe(&mut inventory, "a", 1);
    inventory.begin_listing();
    assert_eq!(inventory.end_listing(true), Ended::Empty { known: 2 });
    let mut empty = Inventory::new();
    empty.begin_listing();
    assert_eq!(empty.end_listing(true), Ended::Gone(vec![]));
}

#[test]
fn what_is_published_while_a_listing_runs_is_not_gone() {
    let mut inventory = of(&[put("a", 1)]);
    inventory.begin_listing();
    observe(&mut inventory, "a", 1);
    inventory.apply(&put("b", 1));
    assert_eq!(inventory.end_listing(true), Ended::Gone(vec![]));
    inventory.begin_listing();
    observe(&mut inventory, "a", 1);
    assert_eq!(inventory.end_listing(true), Ended::Gone(vec![key("b")]));
}

#[test]
fn what_came_from_elsewhere_is_not_published() {
    let mut inventory = of(&[put("a", 1)]);
    inventory.exclude(&key("f"), "e7");
    inventory.begin_listing();
    observe(&mut inventory, "a", 1);
    assert_eq!(observe(&mut inventory, "f", 7), Observed::Foreign);
    assert_eq!(inventory.end_listing(true), Ended::Gone(vec![]));
    assert_eq!(inventory.len(), 1);

    // Overwritten here, and published.
    assert_eq!(observe(&mut inventory, "f", 8), Observed::New);
    inventory.apply(&put("f", 8));
    assert_eq!(observe(&mut inventory, "f", 8), Observed::Same);

    // A published one is replaced from elsewhere: it leaves the catalog.
    inventory.exclude(&key("a"), "e9");
    assert_eq!(observe(&mut inventory, "a", 9), Observed::BecameForeign);
    inventory.apply(&Entry::Delete(key("a")));
    assert_eq!(observe(&mut inventory, "a", 9), Observed::Foreign);
}

#[test]
fn a_foreign_mark_ends_with_its_version_and_not_before() {
    let mut inventory = of(&[put("a", 1)]);
    inventory.exclude(&key("f"), "e7");
    inventory.begin_listing();
    observe(&mut inventory, "a", 1);
    // Landed behind the listing's back.
    inventory.exclude(&key("g"), "e7");
    observe(&mut inventory, "f", 7);
    inventory.end_listing(true);
    assert_eq!(observe(&mut inventory, "g", 7), Observed::Foreign);

    // An import that was under way when the key was landed: the catalog's entry comes late, the mark stays.
    inventory.apply(&put("f", 3));
    assert_eq!(observe(&mut inventory, "f", 7), Observed::BecameForeign);
    // Somebody looked and found that it is not from elsewhere.
    inventory.apply(&put("f", 7));
    assert_eq!(observe(&mut inventory, "f", 7), Observed::Same);

    // Neither a failed listing nor an empty one forgets a mark; one without it does.
    for complete in [false, true] {
        inventory.begin_listing();
        inventory.end_listing(complete);
        assert_eq!(observe(&mut inventory, "g", 7), Observed::Foreign);
    }
    inventory.begin_listing();
    observe(&mut inventory, "a", 1);
    inventory.end_listing(true);
    assert_eq!(observe(&mut inventory, "g", 7), Observed::New);
}

#[test]
fn contents_are_found_under_every_key_that_has_them() {
    let mut inventory = of(&[put("a", 1), put("b", 1), put("c", 2), put("b", 2)]);
    assert_eq!((found(&inventory, 1), found(&inventory, 2)), (vec!["a"], vec!["b", "c"]));
    inventory.apply(&Entry::Delete(key("c")));
    inventory.apply(&Entry::Delete(key("c")));
    assert_eq!((found(&inventory, 1), found(&inventory, 2)), (vec!["a"], vec!["b"]));
    assert_eq!((inventory.len(), inventory.bytes()), (2, 11 + 12));
}

#[test]
fn a_new_epoch_begins_with_everything() {
    let mut inventory = of(&[put("a", 1), put("b", 1), put("c", 2), Entry::Delete(key("a")), put("b", 3)]);
    let said: Vec<_> = inventory.snapshot().collect();
    assert_eq!(said.last(), Some(&Entry::Complete));
    let again = of(&said);
    assert_eq!((again.len(), again.bytes(), again.is_complete()), (2, 25, true));
    assert_eq!(again.get(&key("b")), inventory.get(&key("b")));

    let (first, from) = inventory.page(0, 1);
    assert_eq!(first, said[..1]);
    // What comes between two pages is said on its own, and may be said twice.
    inventory.apply(&put("z", 1));
    let (second, from) = inventory.page(from.unwrap(), 9);
    assert_eq!((&second[..], from), (&said[1..2], None));
    assert_eq!(Inventory::new().page(0, 5), (vec![], None));
}

#[test]
fn a_log_that_is_mostly_outdated_is_worth_a_new_one() {
    let inventory = of(&[put("a", 1)]);
    assert!(!inventory.worth_new_epoch(&Total { items: 10_002, bytes: 0 }));
    assert!(inventory.worth_new_epoch(&Total { items: 10_003, bytes: 0 }));
}

#[test]
fn an_object_takes_few_bytes() {
    assert!(size_of::<Option<(ObjectKey, Object)>>() <= 112);
}

#[test]
fn an_empty_listing_proves_nothing_in_an_epoch_that_has_not_said_what_the_one_before_knew() {
    let list = |inventory: &mut Inventory| {
        inventory.begin_listing();
        inventory.end_listing(true)
    };
    let mut inventory = Inventory::new();
    assert_eq!(list(&mut inventory), Ended::Gone(vec![]), "a bucket that is published for the first time");
    inventory.expect(2);
    assert_eq!(list(&mut inventory), Ended::Empty { known: 2 });
    inventory.apply(&put("a", 1));
    inventory.apply(&Entry::Delete(key("a")));
    assert_eq!(list(&mut inventory), Ended::Empty { known: 2 });
    inventory.apply(&Entry::Complete);
    assert_eq!(list(&mut inventory), Ended::Gone(vec![]));
    inventory.expect(2);
    assert_eq!(list(&mut inventory), Ended::Gone(vec![]), "everything was said before");
}
