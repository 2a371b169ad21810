use super::*;

fn instance(n: u128) -> InstanceId {
    InstanceId(uuid::Uuid::from_u128(n))
}

fn host(name: &str) -> Host {
    name.parse().expect("a host")
}

fn table() -> Table {
    Table::new(Duration::from_secs(100), 3)
}

fn tell(table: &mut Table, at: u64, name: &str, whole: bool, changes: &[(u128, Change)]) -> Vec<Bound> {
    let changes = changes.iter().map(|(n, change)| (instance(*n), *change)).collect();
    let announced = Announced { host: host(name), address: Some(format!("{name}:1")), whole, changes };
    table.announce(Time::from_nanos(at * 1_000_000_000), &announced, &mut Touched::default())
}

fn hosts(table: &Table, n: u128, starts_work: bool) -> Vec<String> {
    let known = table.get(instance(n)).cloned().unwrap_or_default();
    known.hosts_for(starts_work).map(ToString::to_string).collect()
}

const HOST: Change = as_told(Role::Host);

/// What a driver tells among all that there is.
const fn as_told(role: Role) -> Change {
    Change::Bind(Claim { role, revision: None, bound_at: None })
}

/// What it binds at a moment.
fn bound_at(role: Role, at: u64) -> Change {
    Change::Bind(Claim { role, revision: None, bound_at: Some(Time::from_nanos(at)) })
}

fn again(role: Role, revision: u64) -> Change {
    Change::Bind(Claim { role, revision: Some(Revision(revision)), bound_at: None })
}

fn why(table: &Table, n: u128) -> Option<Why> {
    table.get(instance(n)).and_then(|known| known.unbound).map(|(why, _)| why)
}

#[test]
fn the_newest_host_is_the_host_and_older_ones_are_stale() {
    let mut table = table();
    assert_eq!(tell(&mut table, 0, "a", false, &[(1, HOST)])[0].revision, Revision(1));
    assert_eq!(tell(&mut table, 0, "b", false, &[(1, HOST)])[0].revision, Revision(2));
    assert_eq!(hosts(&table, 1, true), ["b"]);
    assert_eq!(hosts(&table, 1, false), ["a", "b"]);
    // What it was given it announces again, and stays stale.
    assert_eq!(tell(&mut table, 0, "a", true, &[(1, again(Role::Host, 1))]), []);
    assert_eq!(hosts(&table, 1, true), ["b"]);
}

#[test]
fn the_older_host_has_the_instance_again_once_the_newer_one_says_that_it_has_moved() {
    let mut table = table();
    tell(&mut table, 0, "a", false, &[(1, HOST)]);
    tell(&mut table, 0, "b", false, &[(1, HOST)]);
    tell(&mut table, 0, "b", false, &[(1, Change::Unbind(Why::Moved))]);
    assert_eq!((hosts(&table, 1, true), why(&table, 1)), (vec!["a".to_owned()], None));
}

#[test]
fn a_stale_host_is_no_host_again_once_the_instance_is_over_unless_its_driver_binds_it_anew() {
    for left in [Why::Offloaded, Why::Deleted] {
        let mut table = table();
        tell(&mut table, 0, "a", false, &[(1, HOST)]);
        tell(&mut table, 0, "b", false, &[(1, HOST)]);
        tell(&mut table, 0, "b", false, &[(1, Change::Unbind(left))]);
        for _ in 0..2 {
            assert_eq!((hosts(&table, 1, true), hosts(&table, 1, false)), (vec![], vec![]));
            assert_eq!(why(&table, 1), Some(left));
            // Whatever it was given before, or has lost: it knows of nothing newer.
            tell(&mut table, 0, "a", true, &[(1, again(Role::Host, 1))]);
            tell(&mut table, 0, "a", true, &[(1, HOST)]);
        }
        tell(&mut table, 0, "a", false, &[(1, bound_at(Role::Host, 9))]);
        assert_eq!((hosts(&table, 1, true), why(&table, 1)), (vec!["a".to_owned()], None));
    }
}

#[test]
fn a_directory_that_has_lost_its_disk_gives_higher_revisions_than_it_gave() {
    let (mut before, mut after) = (table(), table());
    let given = tell(&mut before, 100, "a", false, &[(1, HOST)])[0].revision;
    tell(&mut after, 101, "b", false, &[(1, HOST)]);
    tell(&mut after, 102, "a", true, &[(1, again(Role::Host, given.0))]);
    assert_eq!(hosts(&after, 1, true), ["b"]);
}

#[test]
fn a_stale_host_does_not_say_what_became_of_the_instance() {
    let mut table = table();
    tell(&mut table, 0, "a", false, &[(1, HOST)]);
    tell(&mut table, 0, "b", false, &[(1, HOST)]);
    tell(&mut table, 0, "b", false, &[(1, Change::Unbind(Why::Offloaded))]);
    tell(&mut table, 0, "a", false, &[(1, Change::Unbind(Why::Moved))]);
    assert_eq!(why(&table, 1), Some(Why::Offloaded));
}

#[test]
fn an_instance_that_went_and_came_back_unseen_is_bound_anew() {
    let mut table = table();
    let first = bound_at(Role::Host, 1);
    tell(&mut table, 0, "a", false, &[(1, first)]);
    tell(&mut table, 0, "b", false, &[(1, bound_at(Role::Host, 2))]);
    // The same binding, whose revision its agent never heard of.
    assert_eq!(tell(&mut table, 0, "a", false, &[(1, first)])[0].revision, Revision(1));
    assert_eq!(hosts(&table, 1, true), ["b"]);
    assert_eq!(tell(&mut table, 0, "a", false, &[(1, bound_at(Role::Host, 3))])[0].revision, Revision(3));
    assert_eq!(hosts(&table, 1, true), ["a"]);
}

#[test]
fn a_migrating_instance_has_its_events_sent_to_both_hosts() {
    let mut table = table();
    tell(&mut table, 0, "a", false, &[(1, as_told(Role::MigrationSource))]);
    tell(&mut table, 0, "b", false, &[(1, as_told(Role::MigrationDestination))]);
    assert_eq!(hosts(&table, 1, true), ["a", "b"]);
    assert!(table.get(instance(1)).is_some_and(|known| known.is_migrating()));
    tell(&mut table, 0, "b", false, &[(1, HOST)]);
    assert_eq!(hosts(&table, 1, true), ["a", "b"]);
    tell(&mut table, 0, "a", false, &[(1, Change::Unbind(Why::Moved))]);
    assert_eq!(hosts(&table, 1, true), ["b"]);
}

#[test]
fn where_an_operation_waits_come_the_events_that_end_waits_alone() {
    let mut table = table();
    tell(&mut table, 0, "a", false, &[(1, HOST)]);
    tell(&mut table, 0, "b", false, &[(1, Change::Wait)]);
    assert_eq!(hosts(&table, 1, true), ["a"]);
    assert_eq!(hosts(&table, 1, false), ["a", "b"]);
    tell(&mut table, 0, "b", false, &[(1, Change::WaitEnded)]);
    assert_eq!(hosts(&table, 1, false), ["a"]);
}

#[test]
fn what_the_whole_omits_is_unbound_as_moved() {
    let mut table = table();
    tell(&mut table, 0, "a", true, &[(1, HOST), (2, HOST), (2, Change::Wait)]);
    tell(&mut table, 5, "a", false, &[]);
    assert_eq!(hosts(&table, 1, true), ["a"]);
    tell(&mut table, 5, "a", true, &[(2, HOST)]);
    assert_eq!(hosts(&table, 1, true), [""; 0]);
    let moved = Some((Why::Moved, Time::from_nanos(5_000_000_000)));
    assert_eq!(table.get(instance(1)).and_then(|known| known.unbound), moved);
    assert_eq!(table.get(instance(2)).map(|known| known.bindings[0].waiting), Some(false));
}

#[test]
fn an_agent_that_announces_itself_tells_all_its_waits_if_not_all_its_roles() {
    let mut table = table();
    tell(&mut table, 0, "a", true, &[(1, HOST), (2, HOST), (2, Change::Wait), (3, Change::Wait)]);
    tell(&mut table, 5, "a", false, &[(3, Change::Wait)]);
    assert_eq!(hosts(&table, 1, true), ["a"]);
    assert_eq!(table.get(instance(2)).map(|known| known.bindings[0].waiting), Some(false));
    assert_eq!(table.get(instance(3)).map(|known| known.bindings[0].waiting), Some(true));
}

#[test]
fn a_role_that_is_told_again_keeps_its_revision_and_another_role_gets_a_new_one() {
    let mut table = table();
    tell(&mut table, 0, "a", false, &[(1, HOST)]);
    assert_eq!(tell(&mut table, 0, "a", false, &[(1, HOST)])[0].revision, Revision(1));
    let source = as_told(Role::MigrationSource);
    assert_eq!(tell(&mut table, 0, "a", false, &[(1, source)])[0].revision, Revision(2));
    // A directory that has lost its disk takes the agent's word.
    let mut other = Table::new(Duration::from_secs(1), 1);
    assert_eq!(tell(&mut other, 0, "a", true, &[(1, again(Role::Host, 40))]), []);
    assert_eq!(tell(&mut other, 0, "b", true, &[(1, HOST)])[0].revision, Revision(41));
}

#[test]
fn why_an_instance_is_nowhere_is_kept_for_its_time_and_in_bounds() {
    let mut table = table();
    for n in 0..5 {
        tell(&mut table, n, "a", false, &[(u128::from(n), Change::Unbind(Why::Deleted))]);
    }
    let known = |table: &Table| (0..5).filter(|n| table.get(instance(*n)).is_some()).collect::<Vec<_>>();
    assert_eq!(known(&table), [2, 3, 4]);
    tell(&mut table, 104, "a", false, &[]);
    assert_eq!(known(&table), [4]);
    // A binding ends it, too.
    tell(&mut table, 104, "a", false, &[(4, HOST)]);
    assert_eq!(table.get(instance(4)).and_then(|known| known.unbound), None);
}

#[test]
fn a_host_that_never_had_the_instance_does_not_say_what_became_of_it() {
    let mut table = table();
    tell(&mut table, 0, "a", false, &[(1, HOST)]);
    tell(&mut table, 1, "a", false, &[(1, Change::Unbind(Why::Offloaded))]);
    tell(&mut table, 2, "b", false, &[(1, Change::Unbind(Why::Moved))]);
    assert_eq!(why(&table, 1), Some(Why::Offloaded));
    tell(&mut table, 3, "b", false, &[(1, Change::Unbind(Why::Deleted))]);
    assert_eq!(why(&table, 1), Some(Why::Deleted));
}

#[test]
fn a_forgotten_host_has_nothing() {
    let mut table = table();
    tell(&mut table, 0, "a", false, &[(1, HOST), (2, Change::Wait)]);
    assert_eq!(table.forget(Time::default(), &host("a"), &mut Touched::default()), 2);
    assert_eq!(hosts(&table, 1, false), [""; 0]);
    assert_eq!(table.address(&host("a")), None);
    assert_eq!(table.bound_after(None).count(), 0);
}
