"""First schema: encoders, collections, experts, routing, judgments, the queue.

Revision: 0001.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
create sequence pgembed.claimer;
comment on sequence pgembed.claimer is
  'Numbers the sessions that embed: each holds an advisory lock on its number while it lives.';

create sequence pgembed.stale_version;
comment on sequence pgembed.stale_version is
  'Numbers of changes: fencing tokens of the queue.';

create type pgembed.hit as (
  key text,
  rank int,
  score float8,
  chunk_no int,
  content text,
  dense_score float8,
  lexical_score float8,
  fields jsonb,
  cursor jsonb
);
comment on type pgembed.hit is
  'One search result: a source row, found through its best chunk.';
comment on column pgembed.hit.key is 'Key of the source row as text; of several columns a json array of texts.';
comment on column pgembed.hit.score is 'What the hits are ordered by: cosine similarity, or the fused score of a hybrid search.';
comment on column pgembed.hit.dense_score is 'Cosine similarity of the best chunk, less the penalty of exclude.';
comment on column pgembed.hit.lexical_score is 'BM25 score of the chunk that has the highest; null where the search is not hybrid.';
comment on column pgembed.hit.fields is 'The columns of the source row that were asked for.';
comment on column pgembed.hit.cursor is 'Where the next page starts: after => this.';

create table pgembed.encoder (
  name text primary key check (name <> ''),
  fingerprint text not null check (fingerprint ~ '^[0-9a-f]{64}$'),
  dimensions int not null check (dimensions between 1 and 4000),
  max_tokens int not null check (max_tokens > 0),
  pooling text not null check (pooling in ('mean', 'cls', 'last', 'graph')),
  query_prefix text not null default '',
  document_prefix text not null default '',
  distance text not null default 'cosine' check (distance = 'cosine'),
  source text not null check (source <> ''),
  created_at timestamptz not null default now(),
  unique (name, fingerprint)
);
comment on table pgembed.encoder is
  'A base model: it defines a vector space, and its fingerprint says which model made the vectors.';
comment on column pgembed.encoder.fingerprint is
  'sha256 over graph, weights, tokenizer, pooling, prefixes, dimensions and max tokens.';
comment on column pgembed.encoder.dimensions is
  'Length of a vector; at most 4000, the limit of an HNSW index on halfvec.';
comment on column pgembed.encoder.source is
  'Where a client finds the model: minilm, a directory, or hf:owner/name.';

create table pgembed.collection (
  name text primary key check (octet_length(name) between 1 and 56),
  encoder text not null references pgembed.encoder on update cascade,
  source regclass not null,
  key_columns text[] not null check (cardinality(key_columns) > 0),
  content_columns text[] not null check (cardinality(content_columns) > 0),
  max_tokens int not null check (max_tokens > 0),
  overlap int not null check (overlap >= 0),
  language text not null,
  expires_column text,
  capture text not null default 'origin' check (capture in ('origin', 'always')),
  paused_at timestamptz,
  created_at timestamptz not null default now(),
  check (overlap < max_tokens)
);
comment on table pgembed.collection is
  'A source table whose content is searchable; its vectors are in pgembed_data, under its name.';
comment on column pgembed.collection.max_tokens is 'Longest chunk in tokens of the encoder.';
comment on column pgembed.collection.overlap is 'Tokens that neighbouring chunks share.';
comment on column pgembed.collection.language is
  'Text search configuration of the lexical arm.';
comment on column pgembed.collection.expires_column is
  'Column of the source that says when a row leaves search; null where rows stay.';
comment on column pgembed.collection.capture is
  'Which writers the triggers see: origin, all but replication; always, replication too.';
comment on column pgembed.collection.paused_at is 'Since when nothing is claimed; null while it runs.';

create table pgembed.change (
  collection text not null,
  priority smallint not null check (priority in (0, 1)),
  id bigint not null default nextval('pgembed.stale_version'),
  row_count int not null,
  keys text[] not null,
  changed_at timestamptz not null default now(),
  primary key (collection, priority, id)
);
comment on table pgembed.change is
  'What writers changed, a row a statement and thousand keys: claim moves it to the queue.';
comment on column pgembed.change.priority is '0 for an edit, 1 for a statement that changed more than 100 rows.';

create table pgembed.stale (
  collection text not null references pgembed.collection on delete cascade,
  key text not null,
  version bigint not null default nextval('pgembed.stale_version'),
  priority smallint not null default 2 check (priority between 0 and 2),
  enqueued_at timestamptz not null default now(),
  attempts int not null default 0,
  claimed_by int,
  leased_until timestamptz,
  primary key (collection, key)
);
create index on pgembed.stale (collection, priority, enqueued_at, key);
create index on pgembed.stale (claimed_by) where claimed_by is not null;
comment on table pgembed.stale is
  'Source rows that wait to be embedded, each once.';
comment on column pgembed.stale.priority is
  '0 for an edit, 1 for bulk changes, 2 for a backfill: the lower is embedded first.';
comment on column pgembed.stale.version is
  'Fencing token: a write-back counts only while the version is still the claimed one.';
comment on column pgembed.stale.claimed_by is
  'Number of the session at work on it; free again once that session or its lease is gone.';

create table pgembed.failure (
  collection text not null references pgembed.collection on delete cascade,
  key text not null,
  error text not null,
  attempts int not null,
  failed_at timestamptz not null default now(),
  primary key (collection, key)
);
comment on table pgembed.failure is
  'Source rows that could not be embedded, with the reason; pgembed.retry puts them back.';

create table pgembed.expert (
  encoder text not null references pgembed.encoder (name) on update cascade on delete cascade,
  name text not null check (name <> '' and name not in ('soft', 'hard')),
  kind text not null check (kind in ('base', 'linear', 'lora')),
  fingerprint text not null,
  state text not null default 'active' check (state in ('active', 'rejected', 'retired')),
  domain text,
  artifact bytea,
  sha256 text generated always as (encode(sha256(artifact), 'hex')) stored,
  trained_on text,
  metrics jsonb not null default '{}',
  created_at timestamptz not null default now(),
  primary key (encoder, name),
  foreign key (encoder, fingerprint) references pgembed.encoder (name, fingerprint) on update cascade,
  check ((kind = 'base') = (artifact is null)),
  check ((kind = 'base') = (name = 'base'))
);
comment on table pgembed.expert is
  'A query-side map in an encoder''s space. Its fingerprint must be the encoder''s: the database refuses others.';
comment on column pgembed.expert.kind is
  'linear: a low-rank map of the base vector; lora: low-rank residuals inside the encoder; base: no map.';
comment on column pgembed.expert.artifact is 'The map itself, in the layout of its kind.';
comment on column pgembed.expert.sha256 is 'Checksum of the artifact, checked whenever it is loaded.';
comment on column pgembed.expert.domain is
  'Domain of the judgments it was trained on; null for base and for an expert of all domains.';
comment on column pgembed.expert.trained_on is 'Collections whose judgments trained it.';

create table pgembed.expert_domain (
  encoder text not null,
  expert text not null,
  side text not null check (side in ('query', 'document')),
  z vector[] not null,
  beta float8[] not null,
  gamma float8 not null check (gamma > 0),
  n int not null check (n > 0),
  centroid vector not null,
  mmd_q95 float8 not null check (mmd_q95 >= 0),
  described_at timestamptz not null default now(),
  primary key (encoder, expert, side),
  foreign key (encoder, expert) references pgembed.expert on update cascade on delete cascade,
  check (cardinality(z) = cardinality(beta) and cardinality(z) > 0)
);
comment on table pgembed.expert_domain is
  'What an expert was trained on, as a few weighted points: pgembed expert recommend compares tables with it.';
comment on column pgembed.expert_domain.side is
  'query: the training queries; document: the chunks of the rows relevant to them.';
comment on column pgembed.expert_domain.z is 'Points of the reduced kernel mean embedding.';
comment on column pgembed.expert_domain.beta is 'Weight of each point.';
comment on column pgembed.expert_domain.gamma is
  'Of the kernel exp(-gamma |x - y|^2); the same for all experts of an encoder and side, so that distances compare.';
comment on column pgembed.expert_domain.n is 'Vectors that the points stand for.';
comment on column pgembed.expert_domain.centroid is 'Mean of the vectors, of length 1.';
comment on column pgembed.expert_domain.mmd_q95 is
  'The 95 % quantile of the distance between samples of this domain: a table further away is out of it.';

create table pgembed.pilot (
  encoder text not null,
  expert text not null,
  domain text not null,
  n int not null check (n > 0),
  centroid vector not null check (vector_norm(centroid) > 0),
  number int not null default 0,
  primary key (encoder, expert, domain, number),
  foreign key (encoder, expert) references pgembed.expert on update cascade on delete cascade
);
comment on table pgembed.pilot is
  'Pilot embeddings: the mean base embedding of the n training queries of a domain that an expert answers best.';
comment on column pgembed.pilot.number is 'Counts the pilots of one expert and domain, where there are several.';

create table pgembed.router (
  encoder text primary key references pgembed.encoder on update cascade on delete cascade,
  kind text not null check (kind in ('pilot', 'lda', 'logistic', 'knn', 'utility', 'fixed', 'uniform')),
  parameters jsonb not null,
  metrics jsonb not null default '{}',
  version int not null default 1,
  built_at timestamptz not null default now()
);
comment on table pgembed.router is
  'How the queries of an encoder are routed; version counts the builds, so that clients notice a new one.';

create table pgembed.router_domain (
  encoder text not null references pgembed.router on update cascade on delete cascade,
  domain text not null,
  direction vector not null,
  bias float8 not null check (bias between -1e6 and 1e6),
  n int not null check (n > 0),
  primary key (encoder, domain)
);
comment on table pgembed.router_domain is
  'Domains that a router tells apart: the log-probability of one is direction . query + bias, up to a constant. Routers kind lda, logistic, utility.';
comment on column pgembed.router_domain.n is 'Training queries that it was fitted on.';

create table pgembed.router_reference (
  encoder text not null references pgembed.router on update cascade on delete cascade,
  domain text not null,
  number int not null,
  embedding vector not null check (vector_norm(embedding) > 0),
  primary key (encoder, domain, number)
);
comment on table pgembed.router_reference is
  'References, centroids of clusters of a domain''s training queries: the neighbours that vote in router knn, and what tells queries out of domain.';

create table pgembed.utility (
  encoder text not null references pgembed.router on update cascade on delete cascade,
  domain text not null,
  expert text not null,
  gain float8 check (gain between -1 and 1),
  n int not null default 0,
  share float8 not null check (share = 0 or share between 1e-9 and 1),
  primary key (encoder, domain, expert),
  foreign key (encoder, expert) references pgembed.expert on update cascade on delete cascade
);
comment on table pgembed.utility is
  'What each expert is worth in each domain that a router tells apart.';
comment on column pgembed.utility.gain is 'Mean nDCG@10 above base of n dev queries. Where those with a share are retired, the active expert with the largest gain above 0 has the domain.';
comment on column pgembed.utility.share is
  'Weight of the expert in answers to queries of the domain, to be scaled to 1 over the active experts.';

create table pgembed.judgment (
  collection text not null references pgembed.collection on delete cascade,
  query text not null check (query <> ''),
  key text not null,
  grade int not null default 1,
  split text not null default 'train' check (split in ('train', 'dev', 'test')),
  domain text not null default '',
  query_hash uuid generated always as (md5(query)::uuid) stored,
  primary key (collection, query_hash, key)
);
create index on pgembed.judgment (collection, domain, split);
comment on table pgembed.judgment is
  'How relevant a source row is to a query: the lines of TREC''s qrels. Grade 0 or less: not relevant.';

create sequence pgembed.search_number;
comment on sequence pgembed.search_number is 'Numbers the searches that are logged in pgembed.click.';

create table pgembed.feedback (
  collection text primary key references pgembed.collection on delete cascade,
  enabled boolean not null,
  half_life interval not null check (half_life > interval '0'),
  eta float8 not null check (eta between 0 and 10)
);
comment on table pgembed.feedback is
  'Whether searches and clicks of a collection may be logged; without a row they may not.';
comment on column pgembed.feedback.half_life is 'Time after which a logged search counts half.';
comment on column pgembed.feedback.eta is 'A user looks at rank r with probability 1 / r ^ eta.';

create table pgembed.click (
  collection text not null references pgembed.collection on delete cascade,
  search bigint not null,
  query text not null check (query <> ''),
  key text not null,
  rank int not null check (rank >= 1),
  propensity float8 not null check (propensity > 0 and propensity <= 1),
  weights jsonb,
  domain text not null default '',
  clicked boolean not null,
  logged_at timestamptz not null default now(),
  query_hash uuid generated always as (md5(query)::uuid) stored,
  primary key (search, key)
);
create index on pgembed.click (collection, logged_at);
comment on table pgembed.click is
  'Hits that users were shown and opened: what clicks tell of relevance and of experts. Queries are personal data: see pgembed.forget_clicks.';
comment on column pgembed.click.search is 'Number of the search that showed the hit.';
comment on column pgembed.click.propensity is 'Probability that the user looked at this rank.';
comment on column pgembed.click.weights is 'Weight of each arm that answered, base included; null where it is not known.';
comment on column pgembed.click.clicked is 'Whether the hit was opened.';

create table pgembed.lexical_statistics (
  collection text primary key references pgembed.collection on delete cascade,
  documents bigint not null default 0,
  length bigint not null default 0,
  average_length float8 not null check (average_length > 0),
  refreshed_at timestamptz not null default now()
);
comment on table pgembed.lexical_statistics is
  'What BM25 knows of a collection as a whole; written with every batch, counted anew by pgembed.refresh.';
comment on column pgembed.lexical_statistics.documents is
  'Chunks that are counted; deleted ones are counted until the next refresh.';
comment on column pgembed.lexical_statistics.length is 'Words of these chunks, stop words excepted.';
comment on column pgembed.lexical_statistics.average_length is
  'Words of an average chunk as the stored weights have it: frozen until pgembed.refresh finds it 10 % off.';

create table pgembed.lexeme (
  collection text not null references pgembed.collection on delete cascade,
  lexeme text collate "C" not null,
  documents bigint not null,
  primary key (collection, lexeme)
);
alter table pgembed.lexeme set (fillfactor = 70);
comment on table pgembed.lexeme is
  'Document frequencies of BM25: how many chunks of a collection hold a lexeme.';

create table pgembed.fusion (
  collection text primary key references pgembed.collection on delete cascade,
  kind text not null check (kind in ('zscore', 'minmax', 'rrf')),
  lexical_weight float8 not null check (lexical_weight between 0 and 1),
  metrics jsonb not null default '{}',
  fitted_at timestamptz not null default now()
);
comment on table pgembed.fusion is
  'How a hybrid search of a collection fuses its dense and its lexical arm; without a row by z-scores.';
comment on column pgembed.fusion.metrics is 'What it was fitted on, and what it reached there beside each arm alone.';

create table pgembed.planner_cost (
  name text primary key check (name in ('exact_row', 'index_tuple')),
  microseconds float8 not null check (microseconds > 0),
  measured_at timestamptz not null default now()
);
comment on table pgembed.planner_cost is
  'What pgembed.calibrate measured on this server: the planner weighs exact search against the index with it.';

create unlogged table pgembed.query_cache (
  encoder text not null,
  query_hash uuid not null,
  embedding vector not null,
  encoded_at timestamptz not null default now(),
  primary key (encoder, query_hash),
  foreign key (encoder) references pgembed.encoder on update cascade on delete cascade
);
comment on table pgembed.query_cache is
  'Base embeddings of queries by md5 of their text; may be emptied at any time.';

create table pgembed.worker (
  id int primary key,
  host text not null,
  pid int not null,
  version text not null,
  collections text[],
  started_at timestamptz not null default now(),
  seen_at timestamptz not null default now(),
  requests bigint not null default 0,
  documents bigint not null default 0,
  chunks bigint not null default 0,
  failures bigint not null default 0,
  throughput float8 not null default 0,
  last_error text,
  last_error_at timestamptz
);
comment on table pgembed.worker is
  'What each worker last said of itself; one whose advisory lock is gone is dead.';
comment on column pgembed.worker.id is 'Its claimer number.';
comment on column pgembed.worker.collections is 'The collections that it serves; null for all.';
comment on column pgembed.worker.throughput is 'Source rows a second of late.';
comment on column pgembed.worker.requests is 'Query texts that it encoded since its start.';

create unlogged table pgembed.encode_request (
  token uuid primary key default gen_random_uuid(),
  number bigint generated always as identity,
  encoder text not null,
  routing_version text not null,
  mode text not null,
  query text not null,
  cache_key uuid not null,
  requested_at timestamptz not null default clock_timestamp(),
  claimed_by int,
  attempts int not null default 0,
  answer vector,
  error text,
  error_code text,
  error_hint text,
  answered_at timestamptz
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
create index on pgembed.encode_request (number) where answered_at is null;
comment on sequence pgembed.encode_request_number_seq is 'Numbers requests in the order of their arrival.';
comment on table pgembed.encode_request is
  'Query texts that SQL sessions wait for: a worker answers, the session fetches and deletes.';

create unlogged table pgembed.encode_cache (
  cache_key uuid primary key,
  embedding vector,
  encoded_at timestamptz not null default now()
);
create index on pgembed.encode_cache (encoded_at);
comment on table pgembed.encode_cache is
  'Query vectors that workers answered with; may be emptied at any time.';
comment on column pgembed.encode_cache.cache_key is 'md5 of encoder, routing, mode and text.';
comment on column pgembed.encode_cache.embedding is 'Null until the same text was asked for twice.';

create table pgembed.loopback (
  only_one boolean primary key default true check (only_one),
  conninfo text not null,
  created_at timestamptz not null default now()
);
revoke all on pgembed.loopback from public;
comment on table pgembed.loopback is
  'How a session reaches this database a second time, to hand a text to a worker: holds a password, for the owner alone.';
"""


def upgrade() -> None:
    op.execute("comment on schema pgembed is 'pgembed: retrieval that knows its domains.'")
    op.execute("create schema if not exists pgembed_data")
    op.execute(
        "comment on schema pgembed_data is 'One table a collection: its chunks and their vectors.'"
    )
    op.execute(TABLES)


def downgrade() -> None:
    # Everything goes, the version table excepted: Alembic still writes to it.
    op.execute(
        """
        do $$
        declare
          item text;
        begin
          foreach item in array array(select name from pgembed.collection) loop
            perform pgembed.drop_collection(item);
          end loop;
          foreach item in array array(
            select p.oid::regprocedure::text from pg_catalog.pg_proc as p
            where p.pronamespace = 'pgembed'::regnamespace
          ) loop
            execute 'drop routine if exists ' || item || ' cascade';
          end loop;
        end
        $$
        """
    )
    op.execute(
        "drop table pgembed.loopback, pgembed.encode_cache, pgembed.encode_request, pgembed.worker,"
        " pgembed.query_cache, pgembed.planner_cost, pgembed.fusion, pgembed.lexeme,"
        " pgembed.lexical_statistics, pgembed.click, pgembed.feedback, pgembed.judgment, pgembed.utility, pgembed.router_reference, pgembed.router_domain,"
        " pgembed.router, pgembed.pilot,"
        " pgembed.expert_domain, pgembed.expert, pgembed.failure, pgembed.stale, pgembed.change, pgembed.collection, pgembed.encoder"
    )
    op.execute("drop type pgembed.hit")
    op.execute("drop sequence pgembed.search_number, pgembed.stale_version, pgembed.claimer")
    op.execute("drop schema pgembed_data")
