-- The ledger of one server. Ticks are milliseconds; digests are raw SHA-256; numbers are below 2^63.

CREATE TABLE task (
    id         INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    toml       TEXT    NOT NULL,
    state      TEXT    NOT NULL CHECK (state IN ('running', 'paused', 'finished', 'stopped', 'failed')),
    why        TEXT    NOT NULL DEFAULT '',
    initial    BLOB    NOT NULL CHECK (length(initial) = 32),
    model      BLOB    NOT NULL CHECK (length(model) = 32),
    optimizer  BLOB    CHECK (length(optimizer) = 32),
    last_round INTEGER NOT NULL DEFAULT 0,
    released   INTEGER NOT NULL DEFAULT 0,
    abandoned  INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE round (
    id             INTEGER PRIMARY KEY,
    task           INTEGER NOT NULL REFERENCES task (id),
    number         INTEGER NOT NULL CHECK (number >= 1),
    state          TEXT    NOT NULL CHECK (state IN ('open', 'closing', 'released', 'abandoned')),
    why            TEXT    NOT NULL DEFAULT '',
    base           BLOB    NOT NULL CHECK (length(base) = 32),
    model          BLOB    CHECK (length(model) = 32),
    seed           BLOB    NOT NULL CHECK (length(seed) = 32),
    target         INTEGER NOT NULL,
    minimum        INTEGER NOT NULL,
    opened_at      INTEGER NOT NULL,
    closes_at      INTEGER NOT NULL,
    closed_at      INTEGER,
    ended_at       INTEGER,
    aggregate_norm REAL,
    selected       INTEGER NOT NULL,
    received       INTEGER NOT NULL DEFAULT 0,
    accepted       INTEGER NOT NULL DEFAULT 0,
    rejected       INTEGER NOT NULL DEFAULT 0,
    dropouts       INTEGER NOT NULL DEFAULT 0,
    UNIQUE (task, number),
    CHECK ((state = 'released') = (model IS NOT NULL)),
    CHECK ((state IN ('released', 'abandoned')) = (ended_at IS NOT NULL))
) STRICT;

-- The schema itself refuses a second round beside an open one.
CREATE UNIQUE INDEX one_open_round ON round (task) WHERE state IN ('open', 'closing');

CREATE INDEX round_model ON round (model) WHERE model IS NOT NULL;

CREATE TABLE seat (
    round    INTEGER NOT NULL REFERENCES round (id),
    client   TEXT    NOT NULL,
    nonce    BLOB    NOT NULL CHECK (length(nonce) = 16),
    survivor INTEGER NOT NULL DEFAULT 0 CHECK (survivor IN (0, 1)),
    verdict  TEXT    NOT NULL DEFAULT 'pending'
                     CHECK (verdict IN ('pending', 'accepted', 'clipped', 'trimmed', 'rejected', 'dropout')),
    reason   TEXT    CHECK ((verdict = 'rejected') = (reason IS NOT NULL)),
    value    REAL    NOT NULL DEFAULT 0,
    detail   TEXT    NOT NULL DEFAULT '',
    score    REAL,
    weight   REAL,
    PRIMARY KEY (round, client)
) STRICT, WITHOUT ROWID;

CREATE INDEX seat_of_client ON seat (client, round);

-- Beside `seat`, because most columns of a seat are read often and a body once. `inline` comes last: SQLite then
-- reads the other columns without touching its pages.
CREATE TABLE upload (
    round     INTEGER NOT NULL,
    client    TEXT    NOT NULL,
    digest    BLOB    NOT NULL CHECK (length(digest) = 32),
    norm      REAL    NOT NULL,
    examples  INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    spool_key TEXT,
    parts     TEXT    CHECK ((parts IS NULL) = (spool_key IS NULL)),
    inline    BLOB    CHECK (inline IS NULL OR spool_key IS NULL),
    PRIMARY KEY (round, client),
    FOREIGN KEY (round, client) REFERENCES seat (round, client)
) STRICT;

CREATE TABLE client (
    client     TEXT    PRIMARY KEY,
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The sequence is the row id: the next one is the largest plus one inside the writing transaction, so a rollback
-- leaves no gap.
CREATE TABLE audit_event (
    sequence INTEGER PRIMARY KEY,
    at       INTEGER NOT NULL,
    kind     TEXT    NOT NULL,
    task     TEXT    NOT NULL,
    body     TEXT    NOT NULL
) STRICT;

CREATE TRIGGER audit_event_is_never_changed BEFORE UPDATE ON audit_event
BEGIN
    SELECT RAISE (ABORT, 'audit events are never changed');
END;

CREATE TRIGGER audit_event_is_never_deleted BEFORE DELETE ON audit_event
BEGIN
    SELECT RAISE (ABORT, 'audit events are never deleted');
END;
