//! The names that events may have: since which microversion, whether with a tag, and what they are for.

/// What the compute side does with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An operation waits for it.
    EndsWait,
    /// It makes the compute side do something.
    StartsWork,
}

/// A name that callers may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// As it is sent.
    pub name: &'static str,
    /// The minor number of the first microversion that has it.
    pub since: u16,
    /// Whether an event of this name is refused without a tag.
    pub needs_tag: bool,
    /// What the compute side does with it.
    pub purpose: Purpose,
}

const fn name(name: &'static str, since: u16, needs_tag: bool, purpose: Purpose) -> Name {
    Name { name, since, needs_tag, purpose }
}

/// Every name of the published API.
pub const NAMES: [Name; 8] = [
    name("network-changed", 1, false, Purpose::StartsWork),
    name("network-vif-plugged", 1, false, Purpose::EndsWait),
    name("network-vif-unplugged", 1, false, Purpose::EndsWait),
    name("network-vif-deleted", 1, false, Purpose::StartsWork),
    name("volume-extended", 51, true, Purpose::StartsWork),
    name("power-update", 76, true, Purpose::StartsWork),
    name("accelerator-request-bound", 82, true, Purpose::EndsWait),
    name("volume-reimaged", 93, false, Purpose::EndsWait),
];

/// What holds for an event by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whether it is refused without a tag.
    pub needs_tag: bool,
    /// What the compute side does with it.
    pub purpose: Purpose,
}

/// The rule of `name` at the microversion 2.`minor`; `None` if there is no such name there. The names in `extra`
/// are at every microversion, and if they are not the API's own, waits are what they end.
pub fn find(name: &str, minor: u16, extra: &[String]) -> Option<Rule> {
    let known = NAMES.iter().find(|known| known.name == name);
    let admitted = extra.iter().any(|extra| extra == name);
    match known {
        Some(known) if known.since <= minor || admitted => {
            Some(Rule { needs_tag: known.needs_tag, purpose: known.purpose })
        }
        None if admitted => Some(Rule { needs_tag: false, purpose: Purpose::EndsWait }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_from_its_microversion_on() {
        for known in NAMES {
            assert!(find(known.name, known.since, &[]).is_some(), "{}", known.name);
            assert!(find(known.name, known.since - 1, &[]).is_none(), "{}", known.name);
        }
    }

    #[test]
    fn the_documentation_has_this_table() {
        let documented = include_str!("../../../docs/operating.md");
        let rows = documented.lines().skip_while(|line| !line.starts_with("| name | from microversion"));
        let rows: Vec<_> = rows.skip(2).take_while(|line| line.starts_with('|')).collect();
        let row = |known: Name| {
            let tag = if known.needs_tag { "yes" } else { "no" };
            let purpose = match known.purpose {
                Purpose::EndsWait => "ends waits",
                Purpose::StartsWork => "starts work",
            };
            format!("| `{}` | 2.{} | {tag} | {purpose} |", known.name, known.since)
        };
        assert_eq!(rows, NAMES.map(row));
    }

    #[test]
    fn extra_names_end_waits_at_every_microversion_and_change_no_rule_of_the_apis_own() {
        let extra = ["test-event".to_owned(), "volume-extended".to_owned()];
        assert_eq!(
            find("test-event", 1, &extra),
            Some(Rule { needs_tag: false, purpose: Purpose::EndsWait })
        );
        assert_eq!(
            find("volume-extended", 1, &extra),
            Some(Rule { needs_tag: true, purpose: Purpose::StartsWork })
        );
        assert_eq!(find("test-event", 104, &[]), None);
    }
}
