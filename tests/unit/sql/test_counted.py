"""From a statement to one that counts its rows: the same condition of the same table, or nothing."""

import pytest

from pangate.sql.counted import NotCountable, count_of


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        ("delete from t", '"t"'),
        ("DELETE FROM t WHERE id = 5;", '"t" where ( id = 5\n)'),
        ("truncate t", '"t"'),
        ("update t set a = 1 where b = $2 returning *", '"t" where ( b = $2 \n)'),
        ("update only s.t as x set a = 'where' where x.b = 'where' -- where",
         'only "s"."t" as "x" where ( x.b = \'where\' -- where\n)'),
        ("update t set a = (select 1 from u where u.x) where b between 1 and 2",
         '"t" where ( b between 1 and 2\n)'),
        ("delete from t where a in (select a from u where c) returning (select 1 where true)",
         '"t" where ( a in (select a from u where c) \n)'),
        ('delete from "T where" where "where" = $$ where returning $$',
         '"T where" where ( "where" = $$ where returning $$\n)'),
        ("delete from t where note like '% returning %'", "\"t\" where ( note like '% returning %'\n)"),
        ("delete from t where lower(a) = any($1)", '"t" where ( lower(a) = any($1)\n)'),
        ("delete/* where true */from t where/**/a", '"t" where (/**/a\n)'),
        ("select a, b from t where c order by a limit 5 ;",
         '(select a, b from t where c order by a limit 5 \n) as held'),
        ("with x as (select 1) select * from x -- end",
         "(with x as (select 1) select * from x -- end\n) as held"),
    ],
)  # fmt: skip
def test_what_is_counted(text, inner):
    assert count_of(text, 10) == (
        f"select count(*) from (select 1 from {inner} limit 10) as counted"
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("delete from t using u where t.a = u.a", "it has USING"),
        ("update t set a = 1 from u where t.a = u.a", "it has FROM"),
        ("with x as (select 1) delete from t", "it has WITH"),
        ("with x as (delete from u returning a) select * from x", "more than read: bulk_write, write"),
        ("delete from t where current of c", "the row of a cursor"),
        ("delete from t where mine(a)", "it calls mine"),
        ("delete from t where nextval('s') > 5", "would do more than read: write"),
        ("select pg_advisory_lock(1)", "would do more than read: session"),
        ("select pg_read_file('x')", "would do more than read: "),
        ("select * from t for update", "it locks rows"),
        ("select 1 into u", "it makes a table"),
        ("truncate t, u", "more than one table"),
        ("truncate other.public.t", "it names another database"),
        ("insert into t values (1)", "it is no SELECT, UPDATE"),
        ("merge into t using u on true when matched then delete", "it is no SELECT, UPDATE"),
        ("drop table t", "it is no SELECT, UPDATE"),
        ("select 1; select 2", "it is not one statement"),
        ("select (", "it is not one statement"),
        ("", "it is not one statement"),
    ],
)  # fmt: skip
def test_what_is_not(text, why):
    with pytest.raises(NotCountable, match=why.replace("(", r"\(")):
        count_of(text, 10)
