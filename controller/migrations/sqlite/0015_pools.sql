-- Settings of pools, as JSON. A pool without a row has the defaults. Rows stay: the revision only grows.
CREATE TABLE pool (
    name TEXT PRIMARY KEY,
    settings TEXT NOT NULL CHECK (json_valid(settings)),
    revision INTEGER NOT NULL CHECK (revision >= 1),
    updated_at INTEGER NOT NULL,
    updated_by TEXT NOT NULL
) STRICT;
