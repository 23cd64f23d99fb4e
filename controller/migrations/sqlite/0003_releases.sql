-- Releases, deployments of several jobs with gates between them, and approvals. Times are microseconds since the UNIX epoch.

-- A snapshot that never changes: the revision of the spec, versions of the variables that were set on the server, the package, and
-- the digests of images as far as they are known.
CREATE TABLE release (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL REFERENCES project (id),
    project_name TEXT NOT NULL,
    version TEXT NOT NULL,
    -- The version as numbers, so that the newest can be found: zero-padded, pre-releases before their release.
    sort_key TEXT NOT NULL,
    revision INTEGER NOT NULL,
    package TEXT REFERENCES package (sha256),
    variables TEXT NOT NULL,
    -- SHA-256 over what it holds, to find one that holds the same.
    digest TEXT NOT NULL,
    blocked TEXT,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    UNIQUE (project, version),
    FOREIGN KEY (project, revision) REFERENCES project_revision (project, revision)
) STRICT;
CREATE INDEX release_newest ON release (project, sort_key);
CREATE INDEX release_same ON release (project, digest);

-- Set once, at the creation of the release or at the first start of a container of it.
CREATE TABLE release_image (
    release TEXT NOT NULL REFERENCES release (id),
    reference TEXT NOT NULL,
    digest TEXT NOT NULL,
    pinned_at INTEGER NOT NULL,
    PRIMARY KEY (release, reference)
) STRICT;

ALTER TABLE deployment ADD COLUMN release TEXT REFERENCES release (id);
ALTER TABLE deployment ADD COLUMN version TEXT;
ALTER TABLE deployment ADD COLUMN step_variables TEXT NOT NULL DEFAULT '{}';
ALTER TABLE deployment ADD COLUMN locks TEXT NOT NULL DEFAULT '[]';
ALTER TABLE deployment ADD COLUMN stacks TEXT NOT NULL DEFAULT '{}';
ALTER TABLE deployment ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deployment ADD COLUMN not_before INTEGER;
ALTER TABLE deployment ADD COLUMN expires_at INTEGER;
ALTER TABLE deployment ADD COLUMN begun_at INTEGER;
-- Deployments from before this had one job, which held their locks itself, and no release: each gets one of its own.
INSERT INTO release (id, project, project_name, version, sort_key, revision, package, variables, digest, created_at, created_by)
    SELECT 'rel_' || substr(id, 5), project, project_name, '0.0.' || n, printf('%020d.%020d.%020d~', 0, 0, n), revision, package,
        '[]', '', created_at, created_by
    FROM (SELECT *, row_number() OVER (PARTITION BY project ORDER BY id) AS n FROM deployment);
UPDATE deployment SET begun_at = created_at, release = 'rel_' || substr(id, 5),
    version = (SELECT release.version FROM release WHERE release.id = 'rel_' || substr(deployment.id, 5));
CREATE INDEX deployment_pending ON deployment (priority) WHERE begun_at IS NULL AND ended_at IS NULL;
CREATE INDEX deployment_of_release ON deployment (release, environment, state);
CREATE INDEX deployment_in_environment ON deployment (project, environment, state, id);

ALTER TABLE step ADD COLUMN skipped TEXT;
ALTER TABLE step ADD COLUMN due_at INTEGER;
ALTER TABLE step ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;
CREATE INDEX step_due ON step (due_at) WHERE state = 'running' AND due_at IS NOT NULL;

-- What a deployment keeps to itself from its begin to its end, across its jobs and gates.
CREATE TABLE reservation (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    lock_key TEXT NOT NULL,
    deployment TEXT NOT NULL REFERENCES deployment (id),
    taken_at INTEGER NOT NULL,
    released_at INTEGER
) STRICT;
CREATE UNIQUE INDEX reservation_held ON reservation (lock_key) WHERE released_at IS NULL;
CREATE INDEX reservation_of_deployment ON reservation (deployment) WHERE released_at IS NULL;
INSERT INTO reservation (lock_key, deployment, taken_at)
    SELECT lock_key, deployment, taken_at FROM stack_lock WHERE released_at IS NULL;

CREATE TABLE approval (
    id TEXT PRIMARY KEY,
    deployment TEXT NOT NULL REFERENCES deployment (id),
    step INTEGER NOT NULL,
    step_name TEXT NOT NULL,
    state TEXT NOT NULL,
    needs INTEGER NOT NULL,
    teams TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    void_reason TEXT,
    created_at INTEGER NOT NULL,
    decided_at INTEGER
) STRICT;
CREATE INDEX approval_of_deployment ON approval (deployment, step, id);
CREATE INDEX approval_pending ON approval (id) WHERE state = 'pending';

-- One word a person; the key makes a second one impossible.
CREATE TABLE vote (
    approval TEXT NOT NULL REFERENCES approval (id),
    person TEXT NOT NULL,
    granted INTEGER NOT NULL,
    comment TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (approval, person)
) STRICT;
