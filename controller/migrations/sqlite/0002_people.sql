-- People, what they may do, and the audit. Names are never used again for someone else, so they are the keys.

CREATE TABLE user (
    name TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('person', 'service')),
    created_at INTEGER NOT NULL,
    disabled_at INTEGER
) STRICT;

CREATE TABLE team (
    name TEXT PRIMARY KEY,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE team_member (
    team TEXT NOT NULL REFERENCES team (name),
    user TEXT NOT NULL REFERENCES user (name),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (team, user)
) STRICT;
CREATE INDEX team_member_of_user ON team_member (user);

-- No project or environment: all of them.
CREATE TABLE role_grant (
    id TEXT PRIMARY KEY,
    user TEXT REFERENCES user (name),
    team TEXT REFERENCES team (name),
    role TEXT NOT NULL CHECK (role IN ('viewer', 'deployer', 'approver', 'admin')),
    project TEXT,
    environment TEXT,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    CHECK ((user IS NULL) <> (team IS NULL))
) STRICT;
CREATE UNIQUE INDEX role_grant_once ON role_grant
    (coalesce(user, ''), coalesce(team, ''), role, coalesce(project, ''), coalesce(environment, ''));
CREATE INDEX role_grant_of_team ON role_grant (team) WHERE team IS NOT NULL;

-- Every token made before belongs to `admin`, the only one there was. A limit takes away from what the user may do.
ALTER TABLE token ADD COLUMN user TEXT NOT NULL DEFAULT 'admin';
ALTER TABLE token ADD COLUMN limit_role TEXT;
ALTER TABLE token ADD COLUMN limit_project TEXT;
ALTER TABLE token ADD COLUMN limit_environment TEXT;

-- The timeline is the audit: what was done, to what, and what was refused.
ALTER TABLE event ADD COLUMN object TEXT NOT NULL DEFAULT '';
ALTER TABLE event ADD COLUMN outcome TEXT NOT NULL DEFAULT 'done' CHECK (outcome IN ('done', 'refused'));
UPDATE event SET object = 'deployment/' || deployment WHERE deployment IS NOT NULL;
UPDATE event SET object = 'project/' || json_extract(detail, '$.project')
WHERE deployment IS NULL AND json_extract(detail, '$.project') IS NOT NULL;
CREATE INDEX event_by_time ON event (at, id);
