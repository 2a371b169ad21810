//! Each row of the rules, as a test named after it; and lists of operations against a naive model.

mod again;
mod answers;
mod bounds;
mod control;
mod look;
mod model;
mod property;
mod stale;
mod story;
mod time;
mod world;
