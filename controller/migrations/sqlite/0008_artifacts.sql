-- Files that steps left: those that are kept, and those that are not, with the reason. Written with the end of the step's try, never changed.
CREATE TABLE artifact (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    deployment TEXT NOT NULL REFERENCES deployment (id),
    attempt TEXT NOT NULL REFERENCES attempt (id),
    -- The try of the step, as agents and logs know it.
    slot INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('file', 'state')),
    path TEXT NOT NULL,
    bytes INTEGER,
    sha256 TEXT,
    -- Why it is not kept.
    left_out TEXT,
    count INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    CHECK ((sha256 IS NULL) = (bytes IS NULL)),
    CHECK ((sha256 IS NULL) <> (left_out IS NULL))
) STRICT;
CREATE INDEX artifact_of_deployment ON artifact (deployment, id);
CREATE UNIQUE INDEX artifact_once ON artifact (attempt, slot, kind, path) WHERE sha256 IS NOT NULL;

-- What a try has brought and its end does not name yet. Only what stands here becomes an artifact of the try: knowing a digest is not
-- enough to get at a file of somebody else.
CREATE TABLE artifact_upload (
    attempt TEXT NOT NULL REFERENCES attempt (id),
    slot INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (attempt, slot, sha256)
) STRICT;
