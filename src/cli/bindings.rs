//! `wakeful bindings`: which instance is on which host, as a gateway's directory and an agent have it.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

use super::ages::{self, age};
use super::args;
use super::output::{Out, complain};
use super::pages;
use super::table::Table;
use super::target::{GatewayTarget, Target};
use crate::event::InstanceId;
use crate::proto::bindings_client::BindingsClient;
use crate::proto::directory_client::DirectoryClient;
use crate::proto::inspector_client::InspectorClient;
use crate::proto::role::Code as Role;
use crate::proto::unbound::Why;
use crate::proto::{
    BindRequest, Binding, ForgetHostRequest, GetStatusRequest, ListBindingsRequest, ListBindingsResponse,
    ListRequest, ListResponse, LookupRequest, UnbindRequest,
};

/// Entries asked for at once.
const PAGE: u32 = 1_000;

/// Show, set, compare and forget which instance is on which host
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List what the gateway knows
    List {
        /// Only this host's [default: all]
        #[arg(long, value_name = "NAME")]
        host: Option<String>,
        #[command(flatten)]
        limit: pages::Limit,
        #[command(flatten)]
        target: GatewayTarget,
    },
    /// Say where the gateway has an instance, or why it is nowhere
    Show {
        /// The instance
        #[arg(value_parser = args::instance)]
        instance: InstanceId,
        #[command(flatten)]
        target: GatewayTarget,
    },
    /// List what the agent of this host has told its gateways
    Local {
        #[command(flatten)]
        limit: pages::Limit,
        #[command(flatten)]
        target: Target,
    },
    /// Say what an agent's host has that its gateway does not know, and the other way about; exits 1 if anything
    Compare {
        #[command(flatten)]
        agent: Target,
        #[command(flatten)]
        gateway: GatewayTarget,
    },
    /// Tell the agent of this host that an instance is here
    Set {
        /// The instance
        #[arg(value_parser = args::instance)]
        instance: InstanceId,
        /// What this host is to it
        role: GivenRole,
        #[command(flatten)]
        target: Target,
    },
    /// Tell the agent of this host that an instance is no longer here
    Unset {
        /// The instance
        #[arg(value_parser = args::instance)]
        instance: InstanceId,
        /// Why: events for a deleted one are answered 404, for the others 422
        #[arg(long)]
        why: GivenWhy,
        #[command(flatten)]
        target: Target,
    },
    /// Have the gateway forget a host that will not come back, and all that it had
    Forget {
        /// The host's name
        host: String,
        #[command(flatten)]
        target: GatewayTarget,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum GivenRole {
    Host,
    MigrationSource,
    MigrationDestination,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum GivenWhy {
    Deleted,
    Moved,
    Offloaded,
}

/// Carries out what is asked.
///
/// # Errors
///
/// If the agent or the gateway cannot be asked, or refuses.
pub async fn run(args: Args, out: &mut Out) -> anyhow::Result<ExitCode> {
    match args.what {
        What::List { host, limit, target } => list(host.unwrap_or_default(), limit, &target, out).await?,
        What::Show { instance, target } => show(instance, &target, out).await?,
        What::Local { limit, target } => local(limit, &target, out).await?,
        What::Compare { agent, gateway } => return compare(&agent, &gateway, out).await,
        What::Set { instance, role, target } => {
            let role = match role {
                GivenRole::Host => Role::Host,
                GivenRole::MigrationSource => Role::MigrationSource,
                GivenRole::MigrationDestination => Role::MigrationDestination,
            };
            let mut client = BindingsClient::new(target.channel()?);
            let request = BindRequest { instance_uuid: instance.to_string(), role: role.into() };
            let bound = target.ask(client.bind(request)).await?;
            match out.is_json() {
                true => out.json(&bound)?,
                false => out.line(format!(
                    "{instance} is here as {}{}",
                    role.as_str_name(),
                    known(bound.routable)
                ))?,
            }
        }
        What::Unset { instance, why, target } => {
            let why = match why {
                GivenWhy::Deleted => Why::Deleted,
                GivenWhy::Moved => Why::Moved,
                GivenWhy::Offloaded => Why::Offloaded,
            };
            let mut client = BindingsClient::new(target.channel()?);
            let request = UnbindRequest { instance_uuid: instance.to_string(), why: why.into() };
            let unbound = target.ask(client.unbind(request)).await?;
            match out.is_json() {
                true => out.json(&unbound)?,
                false => out.line(format!("{instance} is no longer here{}", known(unbound.routable)))?,
            }
        }
        What::Forget { host, target } => {
            let mut client = DirectoryClient::new(target.channel()?);
            let forgot = target.ask(client.forget_host(ForgetHostRequest { host: host.clone() })).await?;
            match out.is_json() {
                true => out.json(&forgot)?,
                false => out.line(format!("{host} is forgotten, with {} bindings", forgot.unbound))?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn known(routable: Option<bool>) -> &'static str {
    match routable {
        Some(true) => ", and every gateway that can be reached knows it",
        Some(false) => ", and no gateway knows it yet: none could be reached, or one did not answer",
        None => ": no gateway is configured that would have to know it",
    }
}

async fn list(
    host: String,
    limit: pages::Limit,
    target: &GatewayTarget,
    out: &mut Out,
) -> anyhow::Result<()> {
    let client = DirectoryClient::new(target.channel()?).max_decoding_message_size(usize::MAX);
    let mut table = Table::new(&["INSTANCE", "HOST", "ROLE", "REVISION", "AGENT"]);
    let ask = async |page_size, page_token| {
        let request = ListRequest { host: host.clone(), page_size, page_token };
        target.ask(client.clone().list(request)).await
    };
    let listed = pages::print(limit.entries(), out, ask, |out, page: &ListResponse| {
        let reachable: BTreeSet<_> =
            page.hosts.iter().filter(|host| host.reachable).map(|host| host.host.as_str()).collect();
        let row = |binding: &Binding| {
            let agent = if reachable.contains(binding.host.as_str()) { "reachable" } else { "away" };
            [
                binding.instance_uuid.clone(),
                binding.host.clone(),
                binding.role().as_str_name().to_owned(),
                revision(binding),
                agent.to_owned(),
            ]
        };
        let rows: Vec<_> = page.bindings.iter().map(row).collect();
        Ok(out.text(&table.lines(&rows))?)
    })
    .await?;
    end_of_list(listed, "the gateway knows of no bindings", out)
}

async fn local(limit: pages::Limit, target: &Target, out: &mut Out) -> anyhow::Result<()> {
    let client = BindingsClient::new(target.channel()?).max_decoding_message_size(usize::MAX);
    let mut table = Table::new(&["INSTANCE", "ROLE", "REVISION"]);
    let ask = async |page_size, page_token| {
        let request = ListBindingsRequest { page_size, page_token };
        target.ask(client.clone().list_bindings(request)).await
    };
    let listed = pages::print(limit.entries(), out, ask, |out, page: &ListBindingsResponse| {
        let row = |binding: &Binding| {
            [binding.instance_uuid.clone(), binding.role().as_str_name().to_owned(), revision(binding)]
        };
        let rows: Vec<_> = page.bindings.iter().map(row).collect();
        Ok(out.text(&table.lines(&rows))?)
    })
    .await?;
    end_of_list(listed, "this host has told of no bindings", out)
}

fn end_of_list(listed: pages::Listed, none: &str, out: &mut Out) -> anyhow::Result<()> {
    if !out.is_json() && listed.entries == 0 {
        out.line(none)?;
    }
    if !out.is_json() && listed.more {
        out.flush()?;
        complain("there are more: ask for a higher --limit, or for --all");
    }
    Ok(())
}

fn revision(binding: &Binding) -> String {
    match binding.revision {
        0 => ages::NONE.to_owned(),
        revision => revision.to_string(),
    }
}

async fn show(instance: InstanceId, target: &GatewayTarget, out: &mut Out) -> anyhow::Result<()> {
    let mut client = DirectoryClient::new(target.channel()?);
    let found = target.ask(client.lookup(LookupRequest { instance_uuid: instance.to_string() })).await?;
    if out.is_json() {
        return out.json(&found);
    }
    for binding in &found.bindings {
        let host = found.hosts.iter().find(|host| host.host == binding.host);
        let agent = match host {
            Some(host) if host.reachable => format!("its agent, at {}, is reachable", host.address),
            Some(host) => format!("its agent, at {}, is away", host.address),
            None => "its agent was never there".to_owned(),
        };
        out.line(format!("{} as {}: {agent}", binding.host, binding.role().as_str_name()))?;
    }
    if found.bindings.is_empty() {
        let since = age(ages::local_now(), found.since.as_ref());
        out.line(match found.why() {
            Why::Unspecified => "nobody has ever spoken of it".to_owned(),
            why => format!("it is on no host: {}, {since}", why.as_str_name()),
        })?;
    }
    Ok(())
}

async fn compare(agent: &Target, gateway: &GatewayTarget, out: &mut Out) -> anyhow::Result<ExitCode> {
    let mut inspector = InspectorClient::new(agent.channel()?);
    let host = agent.ask(inspector.get_status(GetStatusRequest {})).await?.host;
    let mut here = BTreeSet::new();
    let mut local = BindingsClient::new(agent.channel()?).max_decoding_message_size(usize::MAX);
    let mut page_token = String::new();
    loop {
        let page =
            agent.ask(local.list_bindings(ListBindingsRequest { page_size: PAGE, page_token })).await?;
        here.extend(page.bindings.iter().map(told));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let mut there = BTreeSet::new();
    let mut directory = DirectoryClient::new(gateway.channel()?).max_decoding_message_size(usize::MAX);
    loop {
        let request = ListRequest { host: host.clone(), page_size: PAGE, page_token };
        let page = gateway.ask(directory.list(request)).await?;
        there.extend(page.bindings.iter().map(told));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let differing = |which: &BTreeSet<(String, Role)>, other: &BTreeSet<(String, Role)>, who: &str| {
        let rows = which.difference(other);
        rows.map(|(instance, role)| [instance.clone(), role.as_str_name().to_owned(), who.to_owned()])
            .collect::<Vec<_>>()
    };
    let mut rows = differing(&here, &there, "the agent alone");
    rows.extend(differing(&there, &here, "the gateway alone"));
    out.text(&Table::new(&["INSTANCE", "ROLE", "KNOWN TO"]).lines(&rows))?;
    if rows.is_empty() {
        out.line(format!("{host}: the agent and the gateway agree on {} bindings", here.len()))?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

/// A binding, as both tell it: an agent does not know that its HOST is stale.
fn told(binding: &Binding) -> (String, Role) {
    let role = match binding.role() {
        Role::Stale => Role::Host,
        role => role,
    };
    (binding.instance_uuid.clone(), role)
}
