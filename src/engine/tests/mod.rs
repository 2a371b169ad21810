//! Each row of the rules, as a test named after it.

mod again;
mod answers;
mod bounds;
mod control;
mod look;
mod stale;
mod time;
mod world;
