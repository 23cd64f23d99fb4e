-- The commit that a release's package was made of, and a package first: {"url", "ref", "commit"}.
ALTER TABLE release ADD COLUMN source TEXT;
ALTER TABLE package ADD COLUMN source TEXT;
