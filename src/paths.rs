//! Where files are by default, as the XDG base directory specification and the Filesystem Hierarchy
//! Standard have it.

use std::env;
use std::path::{Path, PathBuf};

/// The agent's Unix socket: `agent.sock` in [`runtime_dir`].
pub fn socket() -> PathBuf {
    runtime_dir().join("agent.sock")
}

/// `/run/wakeful` for root; `$XDG_RUNTIME_DIR/wakeful` for others, or a folder of the user's own in the
/// temporary folder where the variable is not set.
pub fn runtime_dir() -> PathBuf {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return PathBuf::from("/run/wakeful");
    }
    match env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if Path::new(&dir).is_absolute() => PathBuf::from(dir).join("wakeful"),
        _ => env::temp_dir().join(format!("wakeful-{}", uid.as_raw())),
    }
}

/// The folder of the agent's log: `/var/lib/wakeful` for root; `$XDG_STATE_HOME/wakeful` for others, which is
/// `~/.local/state/wakeful` where the variable is not set.
pub fn data_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/wakeful");
    }
    let state = env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let home = || env::home_dir().unwrap_or_else(env::temp_dir).join(".local/state");
    state.unwrap_or_else(home).join("wakeful")
}
