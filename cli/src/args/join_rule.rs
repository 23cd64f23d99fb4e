//! Join rules, as they are typed.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use super::releases;

/// `join-rule ...`
#[derive(Debug, Subcommand)]
pub enum JoinRuleCommand {
    /// Make a rule by which machines of a cloud join without a token.
    ///
    /// A machine joins when every condition holds by proof of its cloud. Account, project or subscription is needed; there are no
    /// patterns. Of several rules the one with the most conditions counts.
    Create(Box<JoinRuleCreate>),
    /// List join rules, with those that were taken back.
    List,
    /// Take a join rule back. Agents that came in by it stay.
    #[command(visible_alias = "delete")]
    Revoke(JoinRuleId),
}

/// `join-rule revoke`
#[derive(Debug, Clone, Args)]
pub struct JoinRuleId {
    /// The join rule (`jru_...`).
    pub id: String,
}

/// `join-rule create`
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("cloud").args(["aws_account", "gcp_project", "azure_subscription"]).required(true)))]
pub struct JoinRuleCreate {
    /// The pool the machines join.
    #[arg(long, value_name = "POOL", default_value = "default")]
    pub pool: String,
    /// A label that they get, as in `zone=a`; may be repeated.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = releases::pair)]
    pub labels: Vec<(String, String)>,
    /// Write the certificate of the server's authority here; agents need it to join. It is no secret.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Account of AWS, 12 digits.
    #[arg(long, value_name = "ID")]
    pub aws_account: Option<String>,
    /// Region, as in `eu-central-1`; proven by the instance identity document.
    #[arg(long, value_name = "REGION", requires = "aws_account", conflicts_with_all = ["gcp_project", "azure_subscription"])]
    pub aws_region: Option<String>,
    /// Name of the role of the instance profile; proven by a request that it signs.
    #[arg(long, value_name = "NAME", requires = "aws_account", conflicts_with_all = ["gcp_project", "azure_subscription"])]
    pub aws_role: Option<String>,
    /// The network, as in `vpc-0123456789abcdef0`; the controller asks EC2 for it, with credentials of its own.
    #[arg(long, value_name = "ID", requires = "aws_account", conflicts_with_all = ["gcp_project", "azure_subscription"])]
    pub aws_vpc: Option<String>,
    /// Project of Google Cloud.
    #[arg(long, value_name = "ID")]
    pub gcp_project: Option<String>,
    /// Zone, as in `europe-west3-a`.
    #[arg(long, value_name = "ZONE", requires = "gcp_project", conflicts_with_all = ["aws_account", "azure_subscription"])]
    pub gcp_zone: Option<String>,
    /// E-mail address of the service account.
    #[arg(long, value_name = "EMAIL", requires = "gcp_project", conflicts_with_all = ["aws_account", "azure_subscription"])]
    pub gcp_service_account: Option<String>,
    /// Subscription of Azure.
    #[arg(long, value_name = "ID")]
    pub azure_subscription: Option<String>,
}
