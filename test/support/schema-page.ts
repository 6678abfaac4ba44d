import type postgres from 'postgres'

/** Where the page lies; `npm run generate` writes it. */
export const SCHEMA_PAGE = 'sql/schema.sql'

const HEAD = `-- The whole schema as the migrations leave it, for reading: nothing is created from this page.
-- Made by test/support/generate-schema.ts; test/sql/migrations.test.ts keeps it equal to the migrations.
-- What each part is for stands in README.md, and why it is so beside its definition in migrations/.`

/**
 * The schema as one page: read from the catalog, not by pg_dump, so that it is the same on every version of Postgres
 * that we support and wherever it is made. Of views and functions it tells what they take and give: how their text is
 * printed back differs from version to version, and the migrations have it as it was written.
 */
export const schemaPage = (sql: postgres.Sql): Promise<string> =>
  sql.begin('read only', async (tx) => {
    // Times are printed in the session's zone, and names are spelled out when they are not in its path.
    await tx.unsafe(`set local timezone = 'UTC'; set local search_path = pg_catalog`)
    const parts = [
      await types(tx),
      await sequences(tx),
      await tables(tx),
      await views(tx),
      await functions(tx),
    ]
    return `${[HEAD, ...parts.flat()].join('\n\n')}\n`
  })

async function types(sql: postgres.TransactionSql) {
  const rows = await sql<{ name: string; labels: string[] }[]>`
    select typname as name, array_agg(enumlabel::text order by enumsortorder) as labels
    from pg_type join pg_enum on enumtypid = pg_type.oid
    where typnamespace = 'fleet_q'::regnamespace group by typname order by typname`
  return rows.map(
    ({ name, labels }) =>
      `create type fleet_q.${name} as enum (${labels.map((label) => `'${label}'`).join(', ')});`,
  )
}

/** Those that no identity column owns. */
async function sequences(sql: postgres.TransactionSql) {
  const rows = await sql<{ name: string; type: string }[]>`
    select relname as name, format_type(seqtypid, null) as type
    from pg_sequence join pg_class on pg_class.oid = seqrelid
    where relnamespace = 'fleet_q'::regnamespace
      and not exists (
        select from pg_depend
        where classid = 'pg_class'::regclass and objid = seqrelid and deptype in ('i', 'a'))
    order by relname`
  return rows.map(({ name, type }) => `create sequence fleet_q.${name} as ${type};`)
}

async function tables(sql: postgres.TransactionSql) {
  const rows = await sql<{ oid: number; name: string; settings: string[] | null; whole: boolean }[]>`
    select oid, relname as name, reloptions as settings, relreplident = 'f' as whole from pg_class
    where relnamespace = 'fleet_q'::regnamespace and relkind = 'r' order by relname`
  const pages: string[] = []
  for (const { oid, name, settings, whole } of rows) {
    const lines = [...(await columns(sql, oid)), ...(await constraints(sql, oid))]
    const stored = settings?.map((setting) => setting.replace('=', ' = '))
    pages.push(
      [
        `create table fleet_q.${name} (\n${indented(lines)}\n)${stored ? ` with (\n${indented(stored)}\n)` : ''};`,
        ...(await indexes(sql, oid)),
        ...(whole ? [`alter table fleet_q.${name} replica identity full;`] : []),
      ].join('\n'),
    )
  }
  return pages
}

async function columns(sql: postgres.TransactionSql, table: number) {
  const rows = await sql<
    { name: string; type: string; required: boolean; value: string | null; identity: string }[]
  >`
    select attname as name, format_type(atttypid, atttypmod) as type, attnotnull as required,
      pg_get_expr(adbin, adrelid, true) as value, attidentity as identity
    from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum
    where attrelid = ${table} and attnum > 0 and not attisdropped order by attnum`
  return rows.map(({ name, type, required, value, identity }) =>
    [
      name,
      inOurSpelling(type),
      ...(required ? ['not null'] : []),
      ...(identity === 'a' ? ['generated always as identity'] : []),
      ...(value === null ? [] : [`default ${inOurSpelling(value)}`]),
    ].join(' '),
  )
}

/** Postgres 18 lists NOT NULL among them; that stands beside its column here. */
async function constraints(sql: postgres.TransactionSql, table: number) {
  const rows = await sql<{ text: string }[]>`
    select pg_get_constraintdef(oid, true) as text from pg_constraint
    where conrelid = ${table} and contype <> 'n' order by position(contype::text in 'pufcx'), 1`
  return rows.map(({ text }) => inOurSpelling(text))
}

async function indexes(sql: postgres.TransactionSql, table: number) {
  const rows = await sql<{ text: string }[]>`
    select pg_get_indexdef(indexrelid, 0, true) as text from pg_index
    where indrelid = ${table}
      and not exists (select from pg_constraint where conindid = indexrelid and contype in ('p', 'u'))
    order by 1`
  return rows.map(({ text }) => `${inOurSpelling(text)};`)
}

async function views(sql: postgres.TransactionSql) {
  const rows = await sql<{ name: string; columns: string[] }[]>`
    select relname as name, array_agg(attname || ' ' || format_type(atttypid, atttypmod) order by attnum) as columns
    from pg_class join pg_attribute on attrelid = pg_class.oid and attnum > 0
    where relnamespace = 'fleet_q'::regnamespace and relkind = 'v' group by relname order by relname`
  return rows.map(
    ({ name, columns: fields }) =>
      `create view fleet_q.${name} (\n${indented(fields.map(inOurSpelling))}\n);`,
  )
}

async function functions(sql: postgres.TransactionSql) {
  const rows = await sql<{ name: string; takes: string; gives: string; kind: string }[]>`
    select proname as name, pg_get_function_arguments(pg_proc.oid) as takes, pg_get_function_result(pg_proc.oid) as gives,
      format('language %s %s%s', lanname,
        case provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end,
        case when proisstrict then ' strict' else '' end) as kind
    from pg_proc join pg_language on pg_language.oid = prolang
    where pronamespace = 'fleet_q'::regnamespace order by proname`
  return rows.map(({ name, takes, gives, kind }) => {
    const taken = inOurSpelling(takes).split(', ')
    const list = taken.length > 4 ? `(\n${indented(taken)}\n)` : `(${taken.join(', ')})`
    return `create function fleet_q.${name}${list} returns ${inOurSpelling(gives)} ${kind};`
  })
}

const indented = (lines: string[]) => lines.map((line) => `  ${line}`).join(',\n')

/** Postgres prints its own words in capitals and each constant with its type. */
const inOurSpelling = (text: string) =>
  text
    .split(/('[^']*')/)
    .map((part, n) => (n % 2 === 1 ? part : part.replaceAll(/\b[A-Z]+\b/g, (word) => word.toLowerCase())))
    .join('')
    .replaceAll('timestamp with time zone', 'timestamptz')
    .replaceAll('double precision', 'float8')
    .replaceAll(/(?<='|\bnull)::(?!regclass)[a-z_.]+(\[\])?/g, '')
    .replaceAll('using btree ', '')
