-- What the scaler did and refused, the newest of each pool.
CREATE TABLE scaling_event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    pool TEXT NOT NULL,
    at INTEGER NOT NULL,
    action TEXT NOT NULL,
    from_machines INTEGER NOT NULL CHECK (from_machines >= 0),
    to_machines INTEGER NOT NULL CHECK (to_machines >= 0),
    message TEXT NOT NULL
) STRICT;
CREATE INDEX scaling_event_of_pool ON scaling_event (pool, id);

-- Idle agents whose machines go: nothing is offered to them. The row is there before the group is told.
CREATE TABLE scale_in (
    agent TEXT PRIMARY KEY REFERENCES agent (id),
    pool TEXT NOT NULL,
    instance TEXT NOT NULL,
    since INTEGER NOT NULL,
    told_at INTEGER
) STRICT;
