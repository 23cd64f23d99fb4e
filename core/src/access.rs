//! Who may do what: roles, where they hold, and the words of a refusal.
//!
//! Pure; the controller asks it for every request. Invariants: a role in a narrower place never allows more than the same
//! role in a wider one; a [limit](narrow) only takes away; what nobody granted is refused.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What someone may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sees.
    Viewer,
    /// Sees and deploys.
    Deployer,
    /// Sees and approves.
    Approver,
    /// May do everything.
    Admin,
}

/// What something takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// To read.
    View,
    /// To start, cancel, promote and roll back deployments, make releases, push packages, set plain variables.
    Deploy,
    /// To approve and reject.
    Approve,
    /// Everything else: specs, people, roles, tokens, agents, secrets, the audit.
    Administer,
}

/// A role and where it holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// In this project only; `None`: in all.
    pub project: Option<String>,
    /// In this environment only; `None`: in all.
    pub environment: Option<String>,
}

/// Where something is done. What is not named is meant as a whole: no project is the server with all of its projects.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Place {
    /// The project.
    pub project: Option<String>,
    /// The environment.
    pub environment: Option<String>,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Deployer, Self::Approver, Self::Admin];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Deployer => "deployer",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }

    /// Whether it permits something.
    #[must_use]
    pub const fn permits(self, permission: Permission) -> bool {
        match permission {
            Permission::View => true,
            Permission::Deploy => matches!(self, Self::Deployer | Self::Admin),
            Permission::Approve => matches!(self, Self::Approver | Self::Admin),
            Permission::Administer => matches!(self, Self::Admin),
        }
    }

    /// The role that permits what both permit.
    #[must_use]
    pub fn meet(self, other: Self) -> Self {
        match (self, other) {
            (Self::Admin, role) | (role, Self::Admin) => role,
            (one, two) if one == two => one,
            _ => Self::Viewer,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role: write `viewer`, `deployer`, `approver` or `admin`")]
pub struct InvalidRole(String);

impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(text: &str) -> Result<Self, InvalidRole> {
        let short = || InvalidRole(text.chars().take(80).collect());
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(short)
    }
}

impl Permission {
    /// All permissions.
    pub const ALL: [Self; 4] = [Self::View, Self::Deploy, Self::Approve, Self::Administer];

    /// The least role that permits it.
    #[must_use]
    pub const fn least_role(self) -> Role {
        match self {
            Self::View => Role::Viewer,
            Self::Deploy => Role::Deployer,
            Self::Approve => Role::Approver,
            Self::Administer => Role::Admin,
        }
    }

    /// What one does with it, before the name of a place.
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Self::View => "see",
            Self::Deploy => "deploy to",
            Self::Approve => "approve deployments to",
            Self::Administer => "administer",
        }
    }
}

impl Grant {
    /// A role everywhere.
    #[must_use]
    pub const fn everywhere(role: Role) -> Self {
        Self { role, project: None, environment: None }
    }

    /// Where it holds.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { project: self.project.clone(), environment: self.environment.clone() }
    }

    /// Whether it holds in all of a place.
    fn covers(&self, project: Option<&str>, environment: Option<&str>) -> bool {
        holds(self.project.as_deref(), project) && holds(self.environment.as_deref(), environment)
    }
}

/// Whether a bound (`None`: no bound) lets all of what is asked through.
fn holds(bound: Option<&str>, asked: Option<&str>) -> bool {
    bound.is_none() || bound == asked
}

/// Whether something is allowed in all of a place. Without an environment: in the project as a whole; without a project: on
/// the server as a whole.
#[must_use]
pub fn allows(grants: &[Grant], permission: Permission, project: Option<&str>, environment: Option<&str>) -> bool {
    grants.iter().any(|grant| grant.role.permits(permission) && grant.covers(project, environment))
}

/// Whether something is allowed anywhere in a project, or without one anywhere at all.
#[must_use]
pub fn allows_somewhere(grants: &[Grant], permission: Permission, project: Option<&str>) -> bool {
    let meets = |grant: &Grant| project.is_none() || holds(grant.project.as_deref(), project);
    grants.iter().any(|grant| grant.role.permits(permission) && meets(grant))
}

/// Where something is allowed; `None`: everywhere.
#[must_use]
pub fn places(grants: &[Grant], permission: Permission) -> Option<Vec<Place>> {
    if allows(grants, permission, None, None) {
        return None;
    }
    Some(grants.iter().filter(|grant| grant.role.permits(permission)).map(Grant::place).collect())
}

/// What is left of grants under a limit, such as that of a token: what both allow, and nothing else.
#[must_use]
pub fn narrow(grants: &[Grant], limit: &Grant) -> Vec<Grant> {
    let both = |one: &Option<String>, two: &Option<String>| match (one, two) {
        (None, bound) | (bound, None) => Some(bound.clone()),
        (one, two) => (one == two).then(|| one.clone()),
    };
    let left = |grant: &Grant| {
        Some(Grant {
            role: grant.role.meet(limit.role),
            project: both(&grant.project, &limit.project)?,
            environment: both(&grant.environment, &limit.environment)?,
        })
    };
    grants.iter().filter_map(left).collect()
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.project, &self.environment) {
            (None, None) => f.write_str("the server"),
            (Some(project), None) => write!(f, "project `{project}`"),
            (Some(project), Some(environment)) => write!(f, "environment `{environment}` of project `{project}`"),
            (None, Some(environment)) => write!(f, "environment `{environment}` of every project"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grant(role: Role, project: Option<&str>, environment: Option<&str>) -> Grant {
        Grant { role, project: project.map(str::to_owned), environment: environment.map(str::to_owned) }
    }

    #[test]
    fn each_role_permits_what_its_row_says() {
        use Permission::{Administer, Approve, Deploy, View};
        let table = [
            (Role::Viewer, vec![View]),
            (Role::Deployer, vec![View, Deploy]),
            (Role::Approver, vec![View, Approve]),
            (Role::Admin, vec![View, Deploy, Approve, Administer]),
        ];
        for (role, permitted) in table {
            for permission in Permission::ALL {
                assert_eq!(role.permits(permission), permitted.contains(&permission), "{role} {permission:?}");
            }
        }
        for permission in Permission::ALL {
            assert!(permission.least_role().permits(permission), "{permission:?}");
        }
        assert!("root".parse::<Role>().unwrap_err().to_string().contains("`root` is no role"));
        assert_eq!("approver".parse(), Ok(Role::Approver));
    }

    #[test]
    fn a_grant_holds_where_it_says_and_nowhere_else() {
        let deploy = |grant: &Grant, project, environment| {
            allows(std::slice::from_ref(grant), Permission::Deploy, project, environment)
        };
        let dev = grant(Role::Deployer, Some("shop"), Some("dev"));
        assert!(deploy(&dev, Some("shop"), Some("dev")));
        for (project, environment) in [
            (Some("shop"), Some("live")),
            (Some("shop"), None),
            (Some("other"), Some("dev")),
            (None, Some("dev")),
            (None, None),
        ] {
            assert!(!deploy(&dev, project, environment), "{project:?} {environment:?}");
        }
        let shop = grant(Role::Deployer, Some("shop"), None);
        assert!(deploy(&shop, Some("shop"), None) && deploy(&shop, Some("shop"), Some("live")));
        assert!(!deploy(&shop, None, None));
        let all_dev = grant(Role::Deployer, None, Some("dev"));
        assert!(deploy(&all_dev, Some("new"), Some("dev")) && !deploy(&all_dev, Some("new"), None));
        assert!(!allows(&[], Permission::View, Some("shop"), Some("dev")));
    }

    #[test]
    fn somewhere_is_less_than_everywhere() {
        let grants = [grant(Role::Deployer, Some("shop"), Some("dev")), grant(Role::Viewer, None, Some("live"))];
        assert!(allows_somewhere(&grants, Permission::Deploy, None));
        assert!(allows_somewhere(&grants, Permission::Deploy, Some("shop")));
        assert!(!allows_somewhere(&grants, Permission::Deploy, Some("other")));
        assert!(allows_somewhere(&grants, Permission::View, Some("other")));
        assert_eq!(places(&grants, Permission::Deploy), Some(vec![grants[0].place()]));
        assert_eq!(places(&grants, Permission::Administer), Some(vec![]));
        assert_eq!(places(&[Grant::everywhere(Role::Viewer)], Permission::View), None);
    }

    #[test]
    fn a_place_is_named_as_people_name_it() {
        let place = |project, environment| grant(Role::Viewer, project, environment).place().to_string();
        assert_eq!(place(None, None), "the server");
        assert_eq!(place(Some("shop"), Some("dev")), "environment `dev` of project `shop`");
        assert_eq!(place(None, Some("dev")), "environment `dev` of every project");
    }

    fn name() -> impl Strategy<Value = Option<String>> {
        prop_oneof![Just(None), "[ab]".prop_map(Some)]
    }

    fn any_grant() -> impl Strategy<Value = Grant> {
        (proptest::sample::select(&Role::ALL[..]), name(), name()).prop_map(|(role, project, environment)| Grant {
            role,
            project,
            environment,
        })
    }

    proptest! {
        #[test]
        fn a_narrower_grant_never_allows_more(
            wide in any_grant(), more in (name(), name()), permission in proptest::sample::select(&Permission::ALL[..]), asked in (name(), name()),
        ) {
            let narrow = Grant {
                role: wide.role,
                project: wide.project.clone().or(more.0),
                environment: wide.environment.clone().or(more.1),
            };
            let ask = |grant: &Grant| allows(std::slice::from_ref(grant), permission, asked.0.as_deref(), asked.1.as_deref());
            prop_assert!(!ask(&narrow) || ask(&wide), "{narrow:?} {wide:?}");
        }

        #[test]
        fn what_is_allowed_in_a_whole_is_allowed_in_its_parts(
            grants in proptest::collection::vec(any_grant(), 0..4), permission in proptest::sample::select(&Permission::ALL[..]), whole in (name(), name()), part in (name(), name()),
        ) {
            let inner = (whole.0.clone().or(part.0), whole.1.clone().or(part.1));
            if allows(&grants, permission, whole.0.as_deref(), whole.1.as_deref()) {
                prop_assert!(allows(&grants, permission, inner.0.as_deref(), inner.1.as_deref()));
                prop_assert!(allows_somewhere(&grants, permission, whole.0.as_deref()));
            }
        }

        #[test]
        fn a_limit_leaves_exactly_what_both_allow(
            grants in proptest::collection::vec(any_grant(), 0..4), limit in any_grant(), permission in proptest::sample::select(&Permission::ALL[..]), asked in (name(), name()),
        ) {
            let ask = |grants: &[Grant]| allows(grants, permission, asked.0.as_deref(), asked.1.as_deref());
            let left = narrow(&grants, &limit);
            prop_assert_eq!(ask(&left), ask(&grants) && ask(std::slice::from_ref(&limit)), "{:?}", left);
        }

        #[test]
        fn places_say_what_allows_says(
            grants in proptest::collection::vec(any_grant(), 0..4), permission in proptest::sample::select(&Permission::ALL[..]), asked in ("[ab]", "[ab]"),
        ) {
            let allowed = allows(&grants, permission, Some(&asked.0), Some(&asked.1));
            let listed = places(&grants, permission).is_none_or(|places| {
                places.iter().any(|place| holds(place.project.as_deref(), Some(&asked.0)) && holds(place.environment.as_deref(), Some(&asked.1)))
            });
            prop_assert_eq!(allowed, listed);
        }
    }
}
