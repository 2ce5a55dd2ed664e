// What a program with the `pg` driver does: every way to ask and to fetch. It prints one JSON array a line,
// [step, value]; the test runs it past the gateway and through it and compares. Numbers that the driver gives
// as text stand as {number: text}, bytes as {hex: text}.
"use strict";
const { createRequire } = require("node:module");
const fs = require("node:fs");
const need = createRequire(process.env.NODE_MODULES_OF);
const { Client, Pool } = need("pg");
const Cursor = need("pg-cursor");
const { to, from } = need("pg-copy-streams");
const { pipeline } = require("node:stream/promises");

const number = (text) => (text === null ? null : { number: String(text) });
const bytes = (buffer) => ({ hex: buffer.toString("hex") });
const say = (step, value) => console.log(JSON.stringify([step, value]));
const CODES = ["code", "severity", "message", "detail", "hint", "constraint"];
const error = (wrong) => CODES.map((name) => wrong[name] ?? null);
const COLUMNS = "id, t, v, c, n, d, f, m, j, jb, b, ta, na, x, e, u, ok, r";
const PAN = "4111111111111111";

const shown = (row) => ({
  ...row,
  n: number(row.n), d: number(row.d), b: bytes(row.b), na: row.na.map(number),
  m: { money: row.m }, r: { number: row.r },
});

const config = () => ({
  host: "127.0.0.1", port: Number(process.env.PGPORT), user: process.env.PGUSER,
  password: process.env.PGPASSWORD, database: process.env.PGDATABASE,
  ssl: { ca: fs.readFileSync(process.env.PGSSLROOTCERT, "utf8") },
});

async function fails(client, step, ...query) {
  try {
    await client.query(...query);
    say(step, "no error");
  } catch (wrong) {
    say(step, error(wrong));
  }
}

async function main() {
  const client = new Client(config());
  const notices = [];
  const notifications = [];
  client.on("notice", (notice) => notices.push([notice.severity, notice.message, notice.detail ?? null]));
  client.on("notification", (note) => notifications.push([note.channel, note.payload]));
  await client.connect();

  say("simple", (await client.query(`select ${COLUMNS} from cards order by id`)).rows.map(shown));
  const two = await client.query("select t from cards where id = 1; select v from cards where id = 2");
  say("two statements", two.map((result) => [result.command, result.rowCount, result.rows]));
  say("fields", (await client.query(`select 1 as "${PAN}", t from cards limit 1`)).fields.map((f) => f.name));

  const query = `select ${COLUMNS} from cards where id = any($1) order by id`;
  say("extended", (await client.query(query, [[1, 3]])).rows.map(shown));
  for (const turn of [1, 2, 3]) {
    const named = { name: "by id", text: query, values: [[turn, 4]] };
    say(`named ${turn}`, (await client.query(named)).rows.map(shown));
  }
  // what the driver reads rightly in binary
  const types = "select id, t, v, ok, c from cards where id <= $1 order by id";
  say("binary", (await client.query({ text: types, values: [9], binary: true })).rows);
  const parameters = [PAN, PAN, { pan: PAN }, Buffer.from(PAN), [PAN, null, "x"], PAN + ".25", null];
  const echoed = await client.query(
    "select $1::text a, $2::bigint b, $3::jsonb c, $4::bytea d, $5::text[] e, $6::numeric f, $7::text g, " +
      "length($1::text) h", parameters);
  const [echo] = echoed.rows;
  say("parameters", [echo.a, number(echo.b), echo.c, bytes(echo.d), echo.e, number(echo.f), echo.g, echo.h]);
  say("found", (await client.query("select id from cards where t = $1 and n = $2", [PAN, PAN])).rows);
  const pool = new Pool({ ...config(), max: 3 });
  const many = await Promise.all(
    [1, 2, 3, 4, 1, 2].map((id) => pool.query("select t, v from cards where id = $1", [id])));
  await pool.end();
  say("many at once", many.map((result) => result.rows));

  await client.query("begin");
  const cursor = client.query(new Cursor("select id, t, n from cards order by id", []));
  const some = [];
  for (const size of [1, 2, 5, 5]) some.push((await cursor.read(size)).map((r) => [r.id, r.t, number(r.n)]));
  await cursor.close();
  say("cursor", some);
  await client.query("declare held cursor with hold for select t from cards order by id");
  await client.query("commit");
  say("held cursor", (await client.query("fetch 3 from held")).rows);
  await client.query("close held");

  await client.query("begin");
  await client.query("insert into notes values ($1, $2)", [41, PAN]);
  await client.query("savepoint one");
  await fails(client, "error in a savepoint", "select ($1 || t)::int from cards", ["x"]);
  await fails(client, "after an error", "select 1");
  await client.query("rollback to savepoint one");
  await client.query("release savepoint one");
  await client.query("commit");
  say("committed", (await client.query("delete from notes where id = $1 returning note", [41])).rows);
  await client.query("begin");
  await fails(client, "error in a transaction", "select 1 / 0");
  await client.query("rollback");
  await fails(client, "syntax", "select where");
  await fails(client, "raised", `do $$ begin raise exception '${PAN}' using detail = '${PAN}', hint = '${PAN}'; end $$`);
  say("usable", (await client.query("select 'on' as it")).rows);

  await client.query("select shout($1)", [PAN]);
  say("notices", notices);
  await client.query(`listen "${PAN}"`);
  await client.query("select pg_notify($1, $2)", [PAN, `card ${PAN}`]);
  await client.query("select 1");
  say("notifications", notifications);

  for (const form of ["text", "csv"]) {
    const parts = [];
    const out = client.query(to(`copy (select id, t, v, ta from cards order by id) to stdout (format ${form})`));
    for await (const part of out) parts.push(part);
    say(`copy ${form}`, Buffer.concat(parts).toString());
  }
  const into = client.query(from("copy notes from stdin"));
  await pipeline([Buffer.from(`51\t${PAN}\n`), Buffer.from("52\tcaf\u00e9\n")], into);
  say("copied", (await client.query("delete from notes where id > 50 returning id, note")).rows);

  const large = await client.query("select id, repeat('x', 200) || $1 as v from generate_series(1, 20000) id", [PAN]);
  say("large", [large.rows.length, [...new Set(large.rows.map((row) => row.v.slice(-18)))]]);
  say("unicode", (await client.query("select $1::text || $2 as v", ["caf\u00e9 \u0664 \u{1F600} ", PAN])).rows);

  const canceller = new Client(config());
  const sleeping = { text: "select pg_sleep(60)" };
  const asleep = fails(client, "cancelled", sleeping);
  await new Promise((resolve) => setTimeout(resolve, 400));
  await cancelled(canceller, client);
  await asleep;
  say("after the cancel", (await client.query("select t from cards where id = 1")).rows);
  await client.end();
}

// The driver's own cancel needs its query object; the request itself is all that matters here.
function cancelled(canceller, client) {
  const { connection } = canceller;
  return new Promise((resolve, reject) => {
    connection.on("connect", () => connection.cancel(client.processID, client.secretKey));
    connection.on("error", reject);
    connection.on("end", resolve);
    connection.ssl = false;
    connection.connect(config().port, "127.0.0.1");
  });
}

main().catch((wrong) => {
  console.error(wrong);
  process.exit(1);
});
