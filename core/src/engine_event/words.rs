//! The closed vocabulary of engine events. What is not in it becomes `Other`; nothing is passed through.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Declares an enum of fixed words with a last variant `Other` for everything else.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
            /// A word this version does not know.
            Other,
        }

        impl $name {
            /// The word as Pulumi writes it, or `other`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Other => "other",
                }
            }

            /// The value for a word of Pulumi's.
            #[must_use]
            pub fn from_word(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)*
                    _ => Self::Other,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(Self::from_word(&std::borrow::Cow::<'de, str>::deserialize(deserializer)?))
            }
        }
    };
}

words! {
    /// What the engine does with a resource (`deploy.StepOp` of the Pulumi engine).
    Op {
        /// Nothing to do.
        Same = "same",
        /// Made new.
        Create = "create",
        /// Changed in place.
        Update = "update",
        /// Removed.
        Delete = "delete",
        /// Replaced: the logical step that stands for the two that follow.
        Replace = "replace",
        /// The new half of a replacement.
        CreateReplacement = "create-replacement",
        /// The old half of a replacement.
        DeleteReplaced = "delete-replaced",
        /// Read, not managed.
        Read = "read",
        /// Read in place of a managed one.
        ReadReplacement = "read-replacement",
        /// State read anew from the provider.
        Refresh = "refresh",
        /// A read resource forgotten.
        Discard = "discard",
        /// A read resource forgotten in a replacement.
        DiscardReplaced = "discard-replaced",
        /// A half-done replacement cleared away.
        RemovePendingReplace = "remove-pending-replace",
        /// Taken over into the state.
        Import = "import",
        /// Taken over in a replacement.
        ImportReplacement = "import-replacement",
    }
}

words! {
    /// How bad a diagnostic is.
    Severity {
        /// For developers of Pulumi.
        Debug = "debug",
        /// News.
        Info = "info",
        /// What a program wrote to its standard error.
        InfoErr = "info#err",
        /// Something to look at.
        Warning = "warning",
        /// A failure.
        Error = "error",
    }
}

words! {
    /// How a run ended by the engine's own account.
    Outcome {
        /// Everything was done.
        Succeeded = "succeeded",
        /// Something failed.
        Failed = "failed",
        /// It was interrupted.
        Canceled = "canceled",
    }
}

words! {
    /// What a progress event is about.
    ProgressKind {
        /// A plugin comes over the network.
        PluginDownload = "plugin-download",
        /// A plugin is unpacked.
        PluginInstall = "plugin-install",
    }
}

words! {
    /// What follows from the violation of a policy.
    Enforcement {
        /// It is shown.
        Warning = "warning",
        /// It is shown (older word).
        Advisory = "advisory",
        /// The run fails.
        Mandatory = "mandatory",
        /// The resource is changed to fit.
        Remediate = "remediate",
        /// The policy is off.
        Disabled = "disabled",
        /// Nothing.
        None = "none",
    }
}

words! {
    /// What would happen to a property of a resource.
    DiffKind {
        /// It is new.
        Add = "add",
        /// It is new, and the resource is replaced for it.
        AddReplace = "add-replace",
        /// It goes.
        Delete = "delete",
        /// It goes, and the resource is replaced for it.
        DeleteReplace = "delete-replace",
        /// It gets another value.
        Update = "update",
        /// It gets another value, and the resource is replaced for it.
        UpdateReplace = "update-replace",
    }
}

impl DiffKind {
    /// `add`, `delete`, `update` or `other`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Add | Self::AddReplace => "add",
            Self::Delete | Self::DeleteReplace => "delete",
            Self::Update | Self::UpdateReplace => "update",
            Self::Other => "other",
        }
    }

    /// Whether the resource is replaced for it.
    #[must_use]
    pub fn replaces(self) -> bool {
        matches!(self, Self::AddReplace | Self::DeleteReplace | Self::UpdateReplace)
    }
}
