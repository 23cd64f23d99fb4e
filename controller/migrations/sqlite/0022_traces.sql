-- The caller's trace that a deployment goes on in, as `traceparent` says it; without one its trace has its own id.
ALTER TABLE deployment ADD COLUMN trace_parent TEXT;

-- How far the timeline was sent as spans: the last line of `event`.
CREATE TABLE trace_position (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    event INTEGER NOT NULL CHECK (event >= 0)
) STRICT;
