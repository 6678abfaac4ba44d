-- The schema's own ground: the clock, and how a step's public id is spelled.
-- Nothing to do beforehand; takes no lock on anything that exists.

-- The only clock of the house. It inlines to now(), so plans do not see it; a test replaces it, and the whole
-- fleet moves in time together.
create function fleet_q.clock() returns timestamptz
language sql stable as 'select now()';

-- A sum of steps, pods or rows that fits what a JavaScript number holds exactly is not promised anywhere: ids
-- leave the database as text.

create function fleet_q.base36(value bigint, width int) returns text
language plpgsql immutable strict as $$
declare
  digits constant text := '0123456789abcdefghijklmnopqrstuvwxyz';
  rest bigint := value;
  spelled text := '';
begin
  while rest > 0 loop
    spelled := substr(digits, (rest % 36)::int + 1, 1) || spelled;
    rest := rest / 36;
  end loop;
  return lpad(spelled, greatest(width, length(spelled)), '0');
end $$;

-- step_<UTC second>_<12 characters of chance><the key>. The key inside makes a second unique index
-- unnecessary (a text index beside the key costs a bulk insert about a third); the 60 bits of chance, kept in
-- the row, make an id unguessable.
create function fleet_q.step_public_id(id bigint, salt bigint, created_at timestamptz) returns text
language sql stable as $$
  select 'step_' || to_char(created_at at time zone 'UTC', 'YYYYMMDDHH24MISS') || '_'
      || fleet_q.base36(salt, 12) || fleet_q.base36(id, 1)
$$;

-- The key that a public id ends with, for a look-up by index: where id = fleet_q.step_key('step_...'). Null for what
-- cannot be the id of a step. It does not look at the chance in it: to a person with psql nothing is hidden.
create function fleet_q.step_key(step_id text) returns bigint
language sql immutable strict as $$
  select case when sum(digit) < 9223372036854775808 then sum(digit)::bigint end
  from (
    select (position(letter in '0123456789abcdefghijklmnopqrstuvwxyz') - 1) * 36::numeric ^ (place - 1) as digit
    from regexp_split_to_table(reverse(substring(step_id from '^step_\d{14}_[0-9a-z]{12}([0-9a-z]{1,13})$')), '')
      with ordinality as spelled (letter, place)
  ) as digits
$$;

-- 60 bits of chance: the fixed bits of a version 4 uuid lie in the middle, which is left out.
create function fleet_q.new_salt() returns bigint
language sql volatile as $$
  select ('x' || left(hex, 12) || right(hex, 3))::bit(60)::bigint
  from (select replace(gen_random_uuid()::text, '-', '') as hex) as uuid
$$;
