-- Privacy budgets, in units of 2^-40 of what the account's gate adds up.
CREATE TABLE account (
    id          INTEGER PRIMARY KEY,
    population  TEXT    NOT NULL UNIQUE,
    epsilon     REAL    NOT NULL,
    delta       REAL    NOT NULL,
    unit_limit  INTEGER NOT NULL,
    spent       INTEGER NOT NULL CHECK (spent >= 0),
    reserved    INTEGER NOT NULL CHECK (reserved >= 0),
    planned     INTEGER NOT NULL CHECK (planned >= 0),
    -- The whole account: totals, plans of running tasks, open reservations. The columns before repeat it for the check.
    body        TEXT    NOT NULL CHECK (json_valid(body)),
    created_at  INTEGER NOT NULL,
    CHECK (spent + reserved + planned <= unit_limit)
) STRICT;

-- Which budget pays for a task, kept after the task has ended.
CREATE TABLE plan (
    task     INTEGER PRIMARY KEY REFERENCES task (id),
    account  INTEGER NOT NULL REFERENCES account (id),
    charge   TEXT    NOT NULL CHECK (json_valid(charge)),
    releases INTEGER NOT NULL CHECK (releases >= 1)
) STRICT;

CREATE INDEX plan_of_account ON plan (account);

-- Every charge, as a hash chain of each account.
CREATE TABLE charge (
    account  INTEGER NOT NULL REFERENCES account (id),
    position INTEGER NOT NULL CHECK (position >= 0),
    task     TEXT    NOT NULL,
    round    INTEGER NOT NULL,
    hash     BLOB    NOT NULL CHECK (length(hash) = 32),
    body     TEXT    NOT NULL CHECK (json_valid(body)),
    PRIMARY KEY (account, position),
    UNIQUE (task, round)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER charge_is_never_changed BEFORE UPDATE ON charge
BEGIN
    SELECT RAISE (ABORT, 'charges are never changed');
END;

CREATE TRIGGER charge_is_never_deleted BEFORE DELETE ON charge
BEGIN
    SELECT RAISE (ABORT, 'charges are never deleted');
END;

-- Where a round's reservation stands; NULL where there is none.
ALTER TABLE round ADD COLUMN reservation TEXT
    CHECK (reservation IN ('reserved', 'finalising', 'spent', 'returned'));

-- The seed of the round's noise, sealed: nonce, ciphertext, tag. Only while it may still be needed.
ALTER TABLE round ADD COLUMN noise_seed BLOB
    CHECK (noise_seed IS NULL OR (length(noise_seed) = 72 AND state = 'closing'));

-- What a charged release embeds: whose budget, and number and hash of the newest charge.
ALTER TABLE round ADD COLUMN charge_account INTEGER REFERENCES account (id);
ALTER TABLE round ADD COLUMN charge_position INTEGER;
ALTER TABLE round ADD COLUMN charge_head BLOB
    CHECK ((charge_head IS NULL) = (charge_account IS NULL) AND (charge_head IS NULL) = (charge_position IS NULL)
           AND (charge_head IS NULL OR length(charge_head) = 32));
