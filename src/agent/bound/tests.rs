use std::sync::Arc;

use super::*;

fn at(seconds: u64) -> Time {
    Time::from_nanos(seconds * 1_000_000_000)
}

/// What is kept, for the next process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<KeptBindings>>);

impl Log {
    /// A process that has what the ones before have kept.
    fn bound(&self) -> Bound {
        let mut kept = KeptBindings::default();
        self.0.lock().expect("no panic").notes().for_each(|note| kept.take(&note));
        let log = self.clone();
        let keep = Box::new(move |what: What| log.0.lock().expect("no panic").take(&what));
        Bound::new(&["127.0.0.1:1".to_owned()], &kept, keep)
    }

    fn len(&self) -> usize {
        self.0.lock().expect("no panic").iter().count()
    }
}

fn bound() -> Bound {
    Log::default().bound()
}

fn bind(bound: &Bound, instance: InstanceId, role: Role) {
    bound.bind(at(1), instance, role, 10).expect("room for it");
}

fn held(bound: &Bound) -> BTreeMap<InstanceId, Held> {
    bound.whole().held.into_iter().collect()
}

#[test]
fn what_was_told_is_there_after_a_restart() {
    let [one, two, three] = [(); 3].map(|()| InstanceId::random());
    let log = Log::default();
    let bound = log.bound();
    bind(&bound, one, Role::MigrationSource);
    bound.wait(two, WaitId::random(), at(20));
    bound.wait(three, WaitId::random(), at(5));
    bind(&bound, two, Role::Host);
    bound.unbind(two, Why::Deleted);
    let again = log.bound();
    let claim = Claim { role: Role::MigrationSource, revision: None, bound_at: Some(at(1)) };
    assert_eq!(held(&again)[&one].role, Some(claim));
    assert_eq!(held(&again)[&two], Held { role: None, waiting: Waiting::left(at(20)) });
    assert_eq!(held(&again).len(), 3);
    // What ran out while nobody looked is over, and is no longer kept.
    assert!(again.expire(at(10)).something);
    assert_eq!((held(&again).len(), log.len()), (2, 2));
    assert!(again.expire(at(20)).something);
    assert_eq!(log.len(), 1);
    assert!(!again.is_waiting());
}

#[test]
fn that_a_driver_has_told_all_is_there_after_a_restart() {
    let (one, log) = (InstanceId::random(), Log::default());
    let bound = log.bound();
    bind(&bound, one, Role::Host);
    assert!(!log.bound().is_whole(), "a Bind tells of one instance alone");
    let (all, ..) = bound.replace(at(3), &BTreeMap::from([(one, Role::Host)]));
    assert!(all.something, "a gateway has to be told");
    assert!(log.bound().is_whole());
}

#[test]
fn a_gateway_is_told_what_has_changed_and_why() {
    let (one, two) = (InstanceId::random(), InstanceId::random());
    let bound = bound();
    bind(&bound, one, Role::Host);
    let version = bound.unbind(one, Why::Deleted).version;
    let (told, of) = bound.untold(0, 10);
    assert_eq!(
        (told.as_slice(), of),
        (&[Told { instance: one, held: Held::default(), why: Some(Why::Deleted) }][..], version)
    );
    bound.put_back(0, told);
    bind(&bound, two, Role::Host);
    assert_eq!(bound.untold(0, 1).1, 0);
    assert_eq!(bound.untold(0, 1).0.len(), 1);
    assert_eq!(bound.untold(0, 1).0, []);
}

#[test]
fn replace_leaves_waits_alone_and_unbinds_what_it_omits() {
    let (one, two) = (InstanceId::random(), InstanceId::random());
    let bound = bound();
    bind(&bound, one, Role::Host);
    bound.wait(one, WaitId::random(), at(20));
    let (_, new, gone) = bound.replace(at(3), &BTreeMap::from([(two, Role::Host)]));
    assert_eq!((new, gone), (1, 1));
    let held = held(&bound);
    assert!(held[&one].role.is_none() && held[&one].waiting.any());
    assert_eq!(bound.replace(at(3), &BTreeMap::from([(two, Role::Host)])).1, 0);
}

#[test]
fn a_bind_is_another_binding_each_time_and_a_revision_is_of_one() {
    let (one, bound) = (InstanceId::random(), bound());
    bind(&bound, one, Role::Host);
    let first = held(&bound)[&one].role.expect("a role");
    bound.bind(at(2), one, Role::Host, 10).expect("room for it");
    let given = Claim { revision: Some(Revision(1)), ..first };
    bound.revised(&[(one, given)]);
    assert_eq!(held(&bound)[&one].role.and_then(|claim| claim.revision), None);
    let given = Claim { revision: Some(Revision(2)), bound_at: Some(at(2)), ..first };
    bound.revised(&[(one, given)]);
    assert_eq!(held(&bound)[&one].role, Some(given));
}

#[test]
fn what_is_new_among_all_that_there_is_is_bound_then_once_all_was_told() {
    let (one, bound) = (InstanceId::random(), bound());
    let since = |bound: &Bound| held(bound).get(&one).and_then(|held| held.role).map(|claim| claim.bound_at);
    for (now, roles, expected) in [
        (at(1), BTreeMap::from([(one, Role::Host)]), Some(None)),
        (at(2), BTreeMap::from([(one, Role::Host)]), Some(None)),
        (at(3), BTreeMap::new(), None),
        (at(4), BTreeMap::from([(one, Role::Host)]), Some(Some(at(4)))),
    ] {
        bound.replace(now, &roles);
        assert_eq!(since(&bound), expected);
    }
}

#[test]
fn there_are_no_more_roles_than_there_may_be() {
    let [one, two] = [(); 2].map(|()| InstanceId::random());
    let bound = bound();
    assert!(bound.bind(at(1), one, Role::Host, 1).is_some());
    assert!(bound.bind(at(1), two, Role::Host, 1).is_none());
    assert!(bound.bind(at(1), one, Role::MigrationSource, 1).is_some());
    assert!(!held(&bound).contains_key(&two));
    bound.unbind(one, Why::Moved);
    assert!(bound.bind(at(1), two, Role::Host, 1).is_some());
}
