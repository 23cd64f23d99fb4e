-- Times are microseconds since the UNIX epoch, ids are text with their prefix. `phase` columns repeat the state's name from
-- the JSON beside them for indexes and constraints.

CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    controller TEXT NOT NULL,
    incarnation INTEGER NOT NULL CHECK (incarnation >= 1),
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE data_key (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    wrapped BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE project (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE project_revision (
    project TEXT NOT NULL REFERENCES project (id),
    revision INTEGER NOT NULL,
    digest TEXT NOT NULL,
    spec TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (project, revision)
) STRICT;

-- Versions of values; only ever added to. A value stands in one of the two columns.
CREATE TABLE variable (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project TEXT NOT NULL REFERENCES project (id),
    environment TEXT,
    name TEXT NOT NULL,
    plain TEXT,
    sealed BLOB,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    CHECK ((plain IS NULL) <> (sealed IS NULL))
) STRICT;
CREATE INDEX variable_newest ON variable (project, name, environment, id);

CREATE TABLE package (
    sha256 TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL
) STRICT;

CREATE TABLE token (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) STRICT;

CREATE TABLE agent (
    id TEXT PRIMARY KEY,
    pool TEXT NOT NULL,
    hostname TEXT NOT NULL,
    version TEXT NOT NULL,
    serial TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    facts TEXT NOT NULL,
    enrolled_at INTEGER NOT NULL,
    seen_at INTEGER,
    revoked_at INTEGER
) STRICT;

CREATE TABLE join_token (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    pool TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at INTEGER,
    used_by TEXT REFERENCES agent (id),
    used_for TEXT
) STRICT;

CREATE TABLE deployment (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL REFERENCES project (id),
    project_name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    environment TEXT NOT NULL,
    package TEXT REFERENCES package (sha256),
    operation_id TEXT NOT NULL UNIQUE,
    variables TEXT NOT NULL,
    secrets TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    cancel_asked INTEGER,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    ended_at INTEGER,
    FOREIGN KEY (project, revision) REFERENCES project_revision (project, revision)
) STRICT;
CREATE INDEX deployment_by_target ON deployment (project_name, environment, id);

CREATE TABLE job (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    deployment TEXT NOT NULL REFERENCES deployment (id),
    pool TEXT NOT NULL,
    steps TEXT NOT NULL,
    locks TEXT NOT NULL,
    state TEXT NOT NULL,
    phase TEXT NOT NULL,
    since INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    abandoned INTEGER NOT NULL
) STRICT;
CREATE INDEX job_of_deployment ON job (deployment);
CREATE INDEX job_queue ON job (seq) WHERE phase = 'queued';

CREATE TABLE attempt (
    id TEXT PRIMARY KEY,
    job TEXT NOT NULL REFERENCES job (id),
    deployment TEXT NOT NULL REFERENCES deployment (id),
    agent TEXT NOT NULL REFERENCES agent (id),
    epoch INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    state TEXT NOT NULL,
    phase TEXT NOT NULL,
    since INTEGER NOT NULL,
    cancel_asked INTEGER,
    created_at INTEGER NOT NULL,
    UNIQUE (job, epoch)
) STRICT;
-- A job has at most one attempt that is not over.
CREATE UNIQUE INDEX attempt_live ON attempt (job) WHERE phase <> 'ended';
CREATE INDEX attempt_live_of_agent ON attempt (agent) WHERE phase <> 'ended';

CREATE TABLE step (
    deployment TEXT NOT NULL REFERENCES deployment (id),
    idx INTEGER NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    exit_code INTEGER,
    signal INTEGER,
    reason TEXT,
    outputs TEXT NOT NULL,
    resources TEXT NOT NULL,
    plugin_downloads INTEGER NOT NULL,
    log_bytes INTEGER NOT NULL,
    log_sha256 TEXT,
    log_truncated INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    PRIMARY KEY (deployment, idx)
) STRICT;

-- One row for each start that was granted; the key makes a second grant of the same step impossible.
CREATE TABLE step_attempt (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    attempt TEXT NOT NULL REFERENCES attempt (id),
    step INTEGER NOT NULL,
    deployment TEXT NOT NULL REFERENCES deployment (id),
    agent TEXT NOT NULL,
    container TEXT NOT NULL,
    image_digest TEXT NOT NULL,
    nonce TEXT NOT NULL,
    outputs_key BLOB NOT NULL,
    state TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    UNIQUE (attempt, step)
) STRICT;
CREATE INDEX step_attempt_of_deployment ON step_attempt (deployment, seq);

CREATE TABLE stack_lock (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    lock_key TEXT NOT NULL,
    job TEXT NOT NULL REFERENCES job (id),
    deployment TEXT NOT NULL REFERENCES deployment (id),
    taken_at INTEGER NOT NULL,
    released_at INTEGER
) STRICT;
-- The promise of one writer (P0): a key has at most one holder.
CREATE UNIQUE INDEX stack_lock_held ON stack_lock (lock_key) WHERE released_at IS NULL;
CREATE INDEX stack_lock_of_job ON stack_lock (job) WHERE released_at IS NULL;

CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    agent TEXT NOT NULL,
    message TEXT NOT NULL
) STRICT;

CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    deployment TEXT,
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX event_of_deployment ON event (deployment, id);
