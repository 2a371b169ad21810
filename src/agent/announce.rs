//! Tells a gateway what this host has: all of it on each new stream, then each change, one request at a time.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};
use xxhash_rust::xxh3::xxh3_64;

use super::Shared;
use super::bound::{Held, Told, Whole};
use crate::backoff::Backoff;
use crate::client::error::innermost;
use crate::convert::{self, bindings};
use crate::directory::{Claim, Revision};
use crate::event::InstanceId;
use crate::net::roads::Roads;
use crate::proto::directory_client::DirectoryClient;
use crate::proto::role::Code as ProtoRole;
use crate::proto::{self, AnnounceRequest, AnnounceResponse, Hello};

/// Instances told of in one request. Each may have two changes, and a gateway takes 1,000.
const AT_ONCE: usize = 500;
/// How long a gateway may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pauses between tries of a gateway that is away.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Announces to the gateway of this number until the agent stops. `address` is where this agent takes events in.
pub(super) async fn announce(shared: Arc<Shared>, gateway: usize, address: String, roads: Arc<dyn Roads>) {
    let mut stopped = pin!(shared.stopped());
    let at = &shared.bound.gateways[gateway];
    let seed = xxh3_64(shared.config.host.0.as_bytes());
    let mut backoff = Backoff::new(shared.clock.now(), seed, FIRST_PAUSE, LONGEST_PAUSE);
    let mut told_of = false;
    loop {
        let ended = tokio::select! {
            biased;
            () = &mut stopped => return,
            ended = stream(&shared, gateway, &address, &*roads, &mut backoff) => ended,
        };
        at.standing.send_modify(|standing| standing.reachable = false);
        if !std::mem::replace(&mut told_of, true) || backoff.was_connected() {
            warn!(gateway = at.address, error = ended, "the gateway is away: it is tried again");
        }
        let pause = backoff.lost(shared.clock.now());
        tokio::select! {
            biased;
            () = &mut stopped => return,
            () = sleep(pause) => {}
        }
    }
}

/// One stream, to its end. Gives why it ended.
async fn stream(
    shared: &Arc<Shared>,
    gateway: usize,
    address: &str,
    roads: &dyn Roads,
    backoff: &mut Backoff,
) -> String {
    let at = &shared.bound.gateways[gateway];
    let Some(channel) = roads.to(&at.address) else { return format!("{} is no address", at.address) };
    let (requests, outgoing) = mpsc::channel(1);
    // Why something is no longer there is told by the changes alone.
    let (changes, _) = shared.bound.untold(gateway, AT_ONCE);
    let Whole { held, mut whole, version } = shared.bound.whole();
    let hello = |held: &[(InstanceId, Held)], whole| Hello {
        host: shared.config.host.0.clone(),
        address: address.to_owned(),
        whole,
        bindings: held.iter().flat_map(|(instance, held)| to_bindings(*instance, held)).collect(),
    };
    let first = AnnounceRequest {
        sequence: 1,
        hello: Some(hello(&held, whole)),
        changes: changes.iter().flat_map(to_changes).collect(),
    };
    let most = usize::try_from(shared.config.max_message.0).unwrap_or(usize::MAX);
    let mut directory = DirectoryClient::new(channel).max_decoding_message_size(most);
    let opening = async {
        requests.try_send(first).map_err(|_| "its stream is closed".to_owned())?;
        let opening = timeout(PATIENCE, directory.announce(ReceiverStream::new(outgoing)));
        let answers = opening.await.map_err(|_| too_late())?;
        let mut answers = answers.map_err(|status| told(&status))?.into_inner();
        take_answer(shared, &mut answers, 1).await.map(|()| answers)
    };
    let mut answers = match opening.await {
        Ok(answers) => answers,
        Err(error) => {
            shared.bound.put_back(gateway, changes);
            return error;
        }
    };
    info!(gateway = at.address, bindings = held.len(), "announced");
    backoff.connected(shared.clock.now());
    at.standing.send_modify(|standing| (standing.reachable, standing.told) = (true, version));

    let mut sequence = 1;
    loop {
        let (changes, mut version) = shared.bound.untold(gateway, AT_ONCE);
        let anew = (!whole && shared.bound.is_whole()).then(|| shared.bound.whole());
        if let Some(anew) = &anew {
            version = anew.version;
        }
        if changes.is_empty() && anew.is_none() {
            at.standing.send_if_modified(|standing| {
                let newer = standing.told < version;
                standing.told = standing.told.max(version);
                newer
            });
            tokio::select! {
                biased;
                () = at.news.notified() => continue,
                // Nothing is due: what comes is the stream's end.
                ended = answers.message() => match ended {
                    Ok(None) => return "it closed the stream".to_owned(),
                    Ok(Some(_)) => return "it answered what it was not asked".to_owned(),
                    Err(status) => return told(&status),
                }
            }
        }
        sequence += 1;
        whole |= anew.is_some();
        let hello = anew.map(|anew| hello(&anew.held, anew.whole));
        let request =
            AnnounceRequest { sequence, hello, changes: changes.iter().flat_map(to_changes).collect() };
        let asked = async {
            requests.send(request).await.map_err(|_| "its stream is closed".to_owned())?;
            take_answer(shared, &mut answers, sequence).await
        };
        if let Err(error) = asked.await {
            shared.bound.put_back(gateway, changes);
            return error;
        }
        at.standing.send_modify(|standing| standing.told = standing.told.max(version));
    }
}

/// Takes the answer to a request in, which has to be that.
async fn take_answer(
    shared: &Shared,
    answers: &mut Streaming<AnnounceResponse>,
    sequence: u64,
) -> Result<(), String> {
    let answer = match timeout(PATIENCE, answers.message()).await {
        Err(_) => return Err(too_late()),
        Ok(Err(status)) => return Err(told(&status)),
        Ok(Ok(None)) => return Err("it closed the stream".to_owned()),
        Ok(Ok(Some(answer))) => answer,
    };
    if answer.sequence != sequence {
        return Err(format!("it answered request {}, and {sequence} was due", answer.sequence));
    }
    let revised: Vec<_> = answer.bindings.iter().filter_map(revision).collect();
    debug!(sequence, revised = revised.len(), "told");
    shared.bound.revised(&revised);
    Ok(())
}

fn revision(binding: &proto::Binding) -> Option<(InstanceId, Claim)> {
    let claim = Claim {
        role: bindings::role("role", binding.role).ok()?,
        revision: Some(Revision(binding.revision)),
        bound_at: bindings::moment("bound_at", binding.bound_at).ok()?,
    };
    Some((binding.instance_uuid.parse().ok()?, claim))
}

/// What the host is to an instance, for the wire.
pub(super) fn to_bindings(instance: InstanceId, held: &Held) -> Vec<proto::Binding> {
    let binding = |role: ProtoRole| proto::Binding {
        instance_uuid: instance.to_string(),
        role: role.into(),
        ..proto::Binding::default()
    };
    let role = held.role.map(|claim| proto::Binding {
        revision: claim.revision.map_or(0, |revision| revision.0),
        bound_at: claim.bound_at.map(convert::timestamp),
        ..binding(bindings::to_role(claim.role))
    });
    let waiting = held.waiting.any().then(|| binding(ProtoRole::Waiting));
    role.into_iter().chain(waiting).collect()
}

fn to_changes(told: &Told) -> Vec<proto::BindingChange> {
    let change = || proto::BindingChange { instance_uuid: told.instance.to_string(), ..Default::default() };
    let role = match (told.held.role, told.why) {
        (Some(claim), _) => Some(proto::BindingChange {
            role: bindings::to_role(claim.role).into(),
            revision: claim.revision.map_or(0, |revision| revision.0),
            bound_at: claim.bound_at.map(convert::timestamp),
            ..change()
        }),
        (None, Some(why)) => Some(proto::BindingChange { why: bindings::to_why(why).into(), ..change() }),
        (None, None) => None,
    };
    let waiting = match told.held.waiting.any() {
        true => proto::BindingChange { role: ProtoRole::Waiting.into(), ..change() },
        false => proto::BindingChange { ended_waiting: true, ..change() },
    };
    role.into_iter().chain([waiting]).collect()
}

fn too_late() -> String {
    format!("no answer within {} s", PATIENCE.as_secs())
}

fn told(status: &Status) -> String {
    format!("{:?}: {}", status.code(), innermost(status))
}
