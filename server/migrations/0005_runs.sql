-- Runs of correlated noise. Most rounds of one client, and the smallest difference of two of them; NULL where nothing
-- limits who takes part.
ALTER TABLE plan ADD COLUMN participations INTEGER CHECK (participations >= 1);
ALTER TABLE plan ADD COLUMN gap INTEGER CHECK (gap >= 1 AND (gap IS NULL) = (participations IS NULL));

-- The seed of all the run's noise, sealed: nonce, ciphertext, tag. Until the task ends.
ALTER TABLE plan ADD COLUMN run_seed BLOB
    CHECK (run_seed IS NULL OR (length(run_seed) = 72 AND participations IS NOT NULL));

-- Which step of the run a round is. One that is given back leaves its step to the next round.
ALTER TABLE round ADD COLUMN step INTEGER CHECK (step >= 1);

-- Digest of what the step summed, from the round's closing until the task ends: later steps draw its noise again.
ALTER TABLE round ADD COLUMN manifest BLOB
    CHECK (manifest IS NULL OR (length(manifest) = 32 AND step IS NOT NULL));

CREATE UNIQUE INDEX one_round_a_step ON round (task, step) WHERE step IS NOT NULL AND reservation IS NOT 'returned';
