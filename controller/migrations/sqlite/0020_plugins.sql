-- Providers that a step used and that had not to be fetched.
ALTER TABLE step ADD COLUMN plugin_hits INTEGER NOT NULL DEFAULT 0;
