-- Format 1. Numbers named `at` are microseconds since 1970 on the wall clock; durations are microseconds.
-- Rows that say something are sealed: `seal` is made from the columns before it, without the `id` of those that have one
-- of their own.

-- A prompt as it was accepted. Never changed.
CREATE TABLE prompts (
  turn          INTEGER PRIMARY KEY,
  cluster       TEXT    NOT NULL,
  at            INTEGER NOT NULL,
  key           TEXT,
  kind          TEXT    NOT NULL,
  fresh         INTEGER NOT NULL,
  files         TEXT    NOT NULL,
  session       TEXT,
  tool          TEXT,
  role          TEXT,
  target        INTEGER,
  batch         TEXT,
  item          TEXT,
  labels        TEXT    NOT NULL,
  queue_timeout INTEGER,
  turn_timeout  INTEGER,
  land          TEXT,
  on_loss       TEXT    NOT NULL,
  retry         TEXT    NOT NULL,
  bytes         INTEGER NOT NULL,
  sha256        BLOB    NOT NULL,
  kept          INTEGER NOT NULL,
  seal          INTEGER NOT NULL
) STRICT;
CREATE INDEX prompts_by_key     ON prompts (key)         WHERE key     IS NOT NULL;
CREATE INDEX prompts_by_session ON prompts (session)     WHERE session IS NOT NULL;
CREATE INDEX prompts_by_batch   ON prompts (batch, item) WHERE batch   IS NOT NULL;

-- The texts are apart, so that rows which are searched stay small. With hashes alone, they have no row.
CREATE TABLE prompt_texts (turn INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;
CREATE TABLE reply_texts  (turn INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;

-- The prompts without an end: what opening has to look at, however long the history is.
CREATE TABLE open (turn INTEGER PRIMARY KEY) STRICT;

-- Each time that a prompt was to be given to a tool.
CREATE TABLE attempts (
  turn        INTEGER NOT NULL,
  attempt     INTEGER NOT NULL,
  instance    TEXT    NOT NULL,
  tool        TEXT    NOT NULL,
  generation  INTEGER NOT NULL,
  at          INTEGER NOT NULL,
  handed_back INTEGER NOT NULL,
  seal        INTEGER NOT NULL,
  PRIMARY KEY (turn, attempt)
) STRICT, WITHOUT ROWID;

-- The one end of a prompt. Never changed.
CREATE TABLE ends (
  turn          INTEGER PRIMARY KEY,
  at            INTEGER NOT NULL,
  outcome       TEXT    NOT NULL,
  cause         TEXT,
  detail        TEXT,
  retry_after   INTEGER,
  attempts      INTEGER NOT NULL,
  instance      TEXT,
  tool          TEXT,
  generation    INTEGER NOT NULL,
  queued        INTEGER NOT NULL,
  took          INTEGER NOT NULL,
  first_output  INTEGER,
  grade         TEXT,
  means         TEXT,
  input_tokens  INTEGER,
  output_tokens INTEGER,
  cost_usd      REAL,
  landed        TEXT,
  lossy         INTEGER NOT NULL,
  bytes         INTEGER NOT NULL,
  sha256        BLOB    NOT NULL,
  kept          INTEGER NOT NULL,
  seal          INTEGER NOT NULL
) STRICT;
CREATE INDEX ends_that_are_not_good ON ends (outcome) WHERE outcome <> 'completed';

-- What settled a doubt. The last one of a turn counts; the end stays as it was.
CREATE TABLE settlements (
  id      INTEGER PRIMARY KEY,
  turn    INTEGER NOT NULL,
  at      INTEGER NOT NULL,
  outcome TEXT    NOT NULL,
  who     TEXT    NOT NULL,
  note    TEXT,
  seal    INTEGER NOT NULL
) STRICT;
CREATE INDEX settlements_by_turn ON settlements (turn);

-- Pieces of replies that have no end yet, and of attempts that others followed.
CREATE TABLE outputs (
  id      INTEGER PRIMARY KEY,
  turn    INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  bytes   BLOB    NOT NULL,
  seal    INTEGER NOT NULL
) STRICT;
CREATE INDEX outputs_by_turn ON outputs (turn, attempt);

-- Everything else that happened, as JSON. `instance` is set where it tells of the life of one or of a cluster ('').
CREATE TABLE events (
  id       INTEGER PRIMARY KEY,
  instance TEXT,
  turn     INTEGER,
  body     TEXT    NOT NULL,
  seal     INTEGER NOT NULL
) STRICT;
CREATE INDEX events_by_instance ON events (instance) WHERE instance IS NOT NULL;
CREATE INDEX events_by_turn     ON events (turn)     WHERE turn     IS NOT NULL;

-- Who opened the journal, and whether it was closed again in order.
CREATE TABLE openings (
  id          INTEGER PRIMARY KEY,
  at          INTEGER NOT NULL,
  pid         INTEGER NOT NULL,
  program     TEXT    NOT NULL,
  first_event INTEGER NOT NULL,
  closed      INTEGER NOT NULL
) STRICT;

-- The sessions that are not over, and the conversation that each is in. `folder` is what a later process needs of it.
CREATE TABLE sessions (
  cluster      TEXT    NOT NULL,
  session      TEXT    NOT NULL,
  instance     TEXT    NOT NULL,
  tool         TEXT    NOT NULL,
  cwd          TEXT    NOT NULL,
  conversation TEXT,
  folder       TEXT    NOT NULL,
  since        INTEGER NOT NULL,
  last         INTEGER NOT NULL,
  in_doubt     INTEGER NOT NULL,
  at           INTEGER NOT NULL,
  PRIMARY KEY (cluster, session)
) STRICT, WITHOUT ROWID;

-- Numbers that are never given again, though their rows may be gone.
CREATE TABLE numbers (name TEXT PRIMARY KEY, last INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO numbers VALUES ('turn', 0), ('event', 0);

-- For people: one row for each prompt, in words and seconds.
CREATE VIEW history AS
SELECT
  p.turn,
  coalesce(s.outcome, e.outcome, CASE WHEN r.turn IS NULL THEN 'queued' ELSE 'running' END) AS state,
  e.cause,
  e.detail,
  p.cluster,
  p.at / 1e6 AS accepted_unix_s,
  e.at / 1e6 AS ended_unix_s,
  coalesce(e.tool, r.tool, p.tool) AS tool,
  coalesce(e.instance, r.instance) AS instance,
  coalesce(e.attempts, r.attempt, 0) AS attempts,
  e.queued / 1e6 AS queued_s,
  e.took / 1e6 AS took_s,
  p.session,
  p.batch,
  p.item,
  p.key,
  e.input_tokens,
  e.output_tokens,
  e.cost_usd,
  p.bytes AS prompt_bytes,
  e.bytes AS reply_bytes,
  pt.text AS prompt,
  rt.text AS reply
FROM prompts p
LEFT JOIN ends e ON e.turn = p.turn
LEFT JOIN settlements s ON s.id = (SELECT max(id) FROM settlements WHERE turn = p.turn)
LEFT JOIN attempts r ON e.turn IS NULL AND r.turn = p.turn AND r.handed_back = 0
  AND r.attempt = (SELECT max(attempt) FROM attempts WHERE turn = p.turn)
LEFT JOIN prompt_texts pt ON pt.turn = p.turn
LEFT JOIN reply_texts rt ON rt.turn = p.turn;
