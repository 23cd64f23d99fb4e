-- The plan that an approval is bound to. Written with the approval, and never changed.
CREATE TABLE plan (
    approval TEXT PRIMARY KEY REFERENCES approval (id),
    deployment TEXT NOT NULL REFERENCES deployment (id),
    -- Index of the step that runs it.
    step INTEGER NOT NULL,
    -- SHA-256 in hex of the plan, and of the state that it started from.
    digest TEXT NOT NULL,
    checkpoint TEXT NOT NULL,
    image TEXT NOT NULL,
    resources TEXT NOT NULL,
    changes TEXT NOT NULL,
    -- Sealed by the vault and bound to the approval: a plan holds values of the program.
    sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX plan_of_step ON plan (deployment, step);
