-- Deployments of a working tree: the spec that came with one is held by a release of its own, which nothing else deploys.
ALTER TABLE release ADD COLUMN local TEXT;
-- Digest of that spec, and what the client said of its checkout.
ALTER TABLE deployment ADD COLUMN local TEXT;
