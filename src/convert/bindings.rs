//! Bindings, as agents announce them and as they are told.

use prost_types::Timestamp;

use super::{incoming, parse, timestamp};
use crate::clock::Time;
use crate::directory::{Change, Claim, Host, Known, Revision, Role, Why, table::Binding};
use crate::event::InstanceId;
use crate::proto;
use crate::proto::reason::Code as Reason;
use crate::proto::role::Code as ProtoRole;
use crate::proto::unbound::Why as ProtoWhy;
use crate::status::Refusal;

/// The highest revision that an agent may tell.
const MAX_REVISION: u64 = 1 << 62;

/// A role, for the wire.
pub fn to_role(role: Role) -> ProtoRole {
    match role {
        Role::Host => ProtoRole::Host,
        Role::MigrationSource => ProtoRole::MigrationSource,
        Role::MigrationDestination => ProtoRole::MigrationDestination,
    }
}

/// A role that a driver may tell.
///
/// # Errors
///
/// If it is none of those.
pub fn role(path: &str, role: i32) -> Result<Role, Refusal> {
    let bad = |text: &str| Refusal::field(path, Reason::InvalidField, text);
    match ProtoRole::try_from(role) {
        Ok(ProtoRole::Host) => Ok(Role::Host),
        Ok(ProtoRole::MigrationSource) => Ok(Role::MigrationSource),
        Ok(ProtoRole::MigrationDestination) => Ok(Role::MigrationDestination),
        Ok(ProtoRole::Unspecified) => Err(Refusal::field(path, Reason::MissingField, "is required")),
        Ok(told @ (ProtoRole::Waiting | ProtoRole::Stale)) => {
            Err(bad(&format!("is {}: it is only told, never given", told.as_str_name())))
        }
        Err(_) => Err(bad(&format!("is {role}, which is no role"))),
    }
}

/// Why an instance was unbound, for the wire.
pub fn to_why(why: Why) -> ProtoWhy {
    match why {
        Why::Deleted => ProtoWhy::Deleted,
        Why::Moved => ProtoWhy::Moved,
        Why::Offloaded => ProtoWhy::Offloaded,
    }
}

/// Why an instance was unbound.
///
/// # Errors
///
/// If that is not said.
pub fn unbound_why(path: &str, why: i32) -> Result<Why, Refusal> {
    match ProtoWhy::try_from(why) {
        Ok(ProtoWhy::Deleted) => Ok(Why::Deleted),
        Ok(ProtoWhy::Moved) => Ok(Why::Moved),
        Ok(ProtoWhy::Offloaded) => Ok(Why::Offloaded),
        Ok(ProtoWhy::Unspecified) => Err(Refusal::field(path, Reason::MissingField, "is required")),
        Err(_) => {
            let text = format!("is {why}, which is no reason");
            Err(Refusal::field(path, Reason::InvalidField, &text))
        }
    }
}

/// A host's name.
///
/// # Errors
///
/// If it is empty, too long, or not printable.
pub fn host(path: &str, name: &str) -> Result<Host, Refusal> {
    parse(path, name)
}

/// What an agent announces whole.
///
/// # Errors
///
/// The first field that is not valid.
pub fn announced(path: &str, bindings: &[proto::Binding]) -> Result<Vec<(InstanceId, Change)>, Refusal> {
    let announced = bindings.iter().enumerate().map(|(at, binding)| {
        let instance = parse(&format!("{path}[{at}].instance_uuid"), &binding.instance_uuid)?;
        if binding.role == i32::from(ProtoRole::Waiting) {
            return Ok((instance, Change::Wait));
        }
        let at = format!("{path}[{at}]");
        Ok((instance, claim(&at, binding.role, binding.revision, binding.bound_at)?))
    });
    announced.collect()
}

/// What an agent tells to have changed.
///
/// # Errors
///
/// The first field that is not valid.
pub fn changes(path: &str, changes: &[proto::BindingChange]) -> Result<Vec<(InstanceId, Change)>, Refusal> {
    let changes = changes.iter().enumerate().map(|(at, change)| {
        let instance = parse(&format!("{path}[{at}].instance_uuid"), &change.instance_uuid)?;
        let change = match ProtoRole::try_from(change.role) {
            _ if change.ended_waiting => Change::WaitEnded,
            Ok(ProtoRole::Waiting) => Change::Wait,
            Ok(ProtoRole::Unspecified) => {
                Change::Unbind(unbound_why(&format!("{path}[{at}].why"), change.why)?)
            }
            _ => {
                let at = format!("{path}[{at}]");
                claim(&at, change.role, change.revision, change.bound_at)?
            }
        };
        Ok((instance, change))
    });
    changes.collect()
}

fn claim(path: &str, told: i32, number: u64, bound_at: Option<Timestamp>) -> Result<Change, Refusal> {
    Ok(Change::Bind(Claim {
        role: role(&format!("{path}.role"), told)?,
        revision: revision(&format!("{path}.revision"), number)?,
        bound_at: moment(&format!("{path}.bound_at"), bound_at)?,
    }))
}

/// A moment, if one is told.
///
/// # Errors
///
/// If it is none from 1970 to 2554.
pub fn moment(field: &str, told: Option<Timestamp>) -> Result<Option<Time>, Refusal> {
    told.map(|told| incoming::time(told).map_err(|invalid| Refusal::invalid(field, &invalid))).transpose()
}

/// A revision; 0: it has none yet. No directory comes to give as high a one as is refused: all that it gives are
/// higher than those that it was told.
fn revision(field: &str, number: u64) -> Result<Option<Revision>, Refusal> {
    if number > MAX_REVISION {
        let text = format!("is {number}, the highest is {MAX_REVISION}");
        return Err(Refusal::field(field, Reason::OverLimit, &text));
    }
    Ok((number > 0).then_some(Revision(number)))
}

/// What is known of an instance, for the wire: one entry for each thing that a host is to it.
pub fn to_bindings(instance: InstanceId, known: &Known) -> Vec<proto::Binding> {
    let each = known.bindings.iter().flat_map(|binding: &Binding| {
        let stale = known.is_stale(binding);
        let role = binding
            .role
            .map(|(role, revision)| (if stale { ProtoRole::Stale } else { to_role(role) }, revision.0));
        let bound_at = binding.bound_at.map(timestamp);
        let role = role.map(|(role, revision)| (role, revision, bound_at));
        let waiting = binding.waiting.then_some((ProtoRole::Waiting, 0, None));
        role.into_iter().chain(waiting).map(|(role, revision, bound_at)| proto::Binding {
            instance_uuid: instance.to_string(),
            role: role.into(),
            revision,
            host: binding.host.to_string(),
            bound_at,
        })
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_that_leaves_no_room_for_newer_ones_is_refused() {
        let told = |revision| proto::BindingChange {
            instance_uuid: InstanceId::random().to_string(),
            role: ProtoRole::Host.into(),
            revision,
            ..proto::BindingChange::default()
        };
        assert!(changes("changes", &[told(MAX_REVISION)]).is_ok());
        let refusal = changes("changes", &[told(1), told(u64::MAX)]).expect_err("too high");
        let status = tonic::Status::from(refusal);
        let text = "changes[1].revision is 18446744073709551615, the highest is 4611686018427387904";
        assert_eq!((status.code(), status.message()), (tonic::Code::InvalidArgument, text));
    }
}
