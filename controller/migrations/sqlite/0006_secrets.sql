-- Data keys by number. The newest seals; one on which no sealed value is any more is removed at a start.
CREATE TABLE data_key_new (
    id INTEGER PRIMARY KEY CHECK (id >= 1),
    wrapped BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
INSERT INTO data_key_new (id, wrapped, created_at) SELECT id, wrapped, created_at FROM data_key;
DROP TABLE data_key;
ALTER TABLE data_key_new RENAME TO data_key;

-- Sets of variables that projects share. With a kind it is an account: its variables are the fields of that kind.
CREATE TABLE library (
    name TEXT PRIMARY KEY,
    kind TEXT CHECK (kind IN ('aws', 'azure', 'gcp', 'pulumi')),
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL
) STRICT;

-- A version of a variable belongs to a project or to a library. The ids stay: releases and deployments hold them.
CREATE TABLE variable_new (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project TEXT REFERENCES project (id),
    library TEXT REFERENCES library (name),
    environment TEXT,
    name TEXT NOT NULL,
    plain TEXT,
    sealed BLOB,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    CHECK ((project IS NULL) <> (library IS NULL)),
    CHECK ((plain IS NULL) <> (sealed IS NULL))
) STRICT;
INSERT INTO variable_new (id, project, environment, name, plain, sealed, created_at, created_by)
    SELECT id, project, environment, name, plain, sealed, created_at, created_by FROM variable ORDER BY id;
DROP TABLE variable;
ALTER TABLE variable_new RENAME TO variable;
CREATE INDEX variable_newest ON variable (project, name, environment, id) WHERE project IS NOT NULL;
CREATE INDEX variable_of_library ON variable (library, name, environment, id) WHERE library IS NOT NULL;
