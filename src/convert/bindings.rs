//! Bindings, as agents announce them and as they are told.

use super::parse;
use crate::directory::{Change, Host, Known, Revision, Role, Why, table::Binding};
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
        let role = role(&format!("{path}[{at}].role"), binding.role)?;
        let revision = revision(&format!("{path}[{at}].revision"), binding.revision)?;
        Ok((instance, Change::Bind(role, revision)))
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
                let revision = revision(&format!("{path}[{at}].revision"), change.revision)?;
                Change::Bind(role(&format!("{path}[{at}].role"), change.role)?, revision)
            }
        };
        Ok((instance, change))
    });
    changes.collect()
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
        let waiting = binding.waiting.then_some((ProtoRole::Waiting, 0));
        role.into_iter().chain(waiting).map(|(role, revision)| proto::Binding {
            instance_uuid: instance.to_string(),
            role: role.into(),
            revision,
            host: binding.host.to_string(),
        })
    });
    each.collect()
}
