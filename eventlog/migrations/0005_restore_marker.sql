-- The token that Temporal has, too; `next` while it is replaced. A restore of either side shows.
CREATE TABLE restore_marker (
    task_queue text        PRIMARY KEY,
    current    text        NOT NULL,
    next       text        NOT NULL,
    renewed_at timestamptz NOT NULL
);
