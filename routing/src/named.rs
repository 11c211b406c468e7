//! The strategies that can be chosen by name.
//!
//! Owns the names. Must not know where they are written: command line, profile file or API. Invariant: what `Display`
//! writes, `FromStr` reads back.

use std::fmt;
use std::str::FromStr;

use crate::{LeastBusy, RoundRobin, Sticky, Strategy};

/// A strategy, by name.
///
/// ```
/// use toolpool_routing::{Routing, Strategy};
///
/// let routing: Routing = "round-robin".parse()?;
/// assert_eq!(routing.strategy().name(), "round-robin");
/// assert_eq!(Routing::default().to_string(), "least-busy");
///
/// let error = "random".parse::<Routing>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "unknown strategy \"random\"; use one of: round-robin, least-busy, sticky"
/// );
/// # Ok::<(), toolpool_routing::UnknownRouting>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Routing {
    /// Every instance in turn: [`RoundRobin`].
    RoundRobin,
    /// The instance with the least to do: [`LeastBusy`].
    #[default]
    LeastBusy,
    /// Sessions stay on their instance, new ones go to the least busy one: [`Sticky`] around [`LeastBusy`].
    Sticky,
}

impl Routing {
    /// All of them, in the order in which they are listed to people.
    pub const ALL: [Self; 3] = [Self::RoundRobin, Self::LeastBusy, Self::Sticky];

    /// The name, as it is written in files, on the command line and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::LeastBusy => "least-busy",
            Self::Sticky => "sticky",
        }
    }

    /// A new strategy of this kind, remembering nothing yet.
    pub fn strategy(self) -> Box<dyn Strategy> {
        match self {
            Self::RoundRobin => Box::new(RoundRobin::new()),
            Self::LeastBusy => Box::new(LeastBusy::new()),
            Self::Sticky => Box::new(Sticky::new(LeastBusy::new())),
        }
    }
}

impl fmt::Display for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Routing {
    type Err = UnknownRouting;

    /// Reads a name. Underscores are taken for hyphens, so `round_robin` and `least_busy` are understood too.
    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let name = given.replace('_', "-");
        Self::ALL
            .into_iter()
            .find(|routing| routing.name() == name)
            .ok_or_else(|| UnknownRouting {
                given: given.to_owned(),
            })
    }
}

/// The name of a strategy that does not exist. Its message lists those that do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownRouting {
    given: String,
}

impl fmt::Display for UnknownRouting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Routing::ALL.map(Routing::name).join(", ");
        write!(f, "unknown strategy {:?}; use one of: {names}", self.given)
    }
}

impl std::error::Error for UnknownRouting {}
