//! The table at the end: what was found beside what was aimed at.

/// What a figure is to be.
#[derive(Clone, Copy)]
pub(crate) enum Aim {
    AtLeast(f64),
    #[allow(dead_code, reason = "one of the benches has none")]
    AtMost(f64),
}

/// A figure that has an aim.
pub(crate) struct Verdict {
    pub(crate) what: String,
    pub(crate) found: f64,
    pub(crate) aim: Aim,
    /// Why the figure says nothing.
    pub(crate) void: Option<String>,
}

/// Prints the table. False if a figure is void.
pub(crate) fn print(verdicts: &[Verdict]) -> bool {
    if verdicts.is_empty() {
        return true;
    }
    println!("\n{:<40} {:>10} {:>12}", "", "found", "aim");
    for Verdict { what, found, aim, void } in verdicts {
        let (aim, met) = match aim {
            Aim::AtLeast(aim) => (format!(">= {aim}"), found >= aim),
            Aim::AtMost(aim) => (format!("<= {aim}"), found <= aim),
        };
        let found = if *found < 100.0 { format!("{found:.3}") } else { format!("{found:.0}") };
        let verdict = match (void, met) {
            (Some(_), _) => "VOID",
            (None, true) => "met",
            (None, false) => "not met",
        };
        println!("{what:<40} {found:>10} {aim:>12}  {verdict}");
    }
    let voids = verdicts.iter().filter_map(|verdict| verdict.void.as_ref());
    for void in voids.clone() {
        println!("VOID: {void}. The machine was not quiet; run it again");
    }
    voids.count() == 0
}
