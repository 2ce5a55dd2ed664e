"""What the server's functions and operators do with what they are given, as far as lineage asks."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


BOOLEAN = _words(
    """
    AEXPR_OP_ANY AEXPR_OP_ALL AEXPR_DISTINCT AEXPR_NOT_DISTINCT AEXPR_IN AEXPR_LIKE AEXPR_ILIKE
    AEXPR_SIMILAR AEXPR_BETWEEN AEXPR_NOT_BETWEEN AEXPR_BETWEEN_SYM AEXPR_NOT_BETWEEN_SYM
    """
)
"""Kinds of expressions that are true or false."""

COMPARING = _words("= <> != < > <= >= ~~ !~~ ~~* !~~* ~ !~ ~* !~* @> <@ ? ?| ?& @? @@")
"""Operators of two sides that give true or false."""

OPENING = _words("-> ->> #> #>>")
PATHS = _words(
    """
    json_extract_path json_extract_path_text jsonb_extract_path jsonb_extract_path_text
    jsonb_path_query jsonb_path_query_array jsonb_path_query_first jsonb_path_query_tz
    jsonb_path_query_array_tz jsonb_path_query_first_tz slice xpath fetchval
    """
)
"""Operators and functions that take what is under a key."""

KEEPING = _words(
    """
    row_to_json array_agg array_to_json to_json to_jsonb json_agg jsonb_agg json_strip_nulls
    jsonb_strip_nulls json_build_object jsonb_build_object json_build_array jsonb_build_array
    json_object_agg jsonb_object_agg
    """
)
"""Functions that make JSON of rows, with the names of their columns as keys."""

OF_ROWS = _words(
    """
    row_to_json to_json to_jsonb json_agg jsonb_agg array_agg quote_literal quote_nullable concat
    concat_ws format json_build_array jsonb_build_array min max any_value text varchar bpchar name
    json jsonb xml hstore record_out record_send
    """
)
"""Functions that take a whole row, also as `row.function`."""

RUNNING = _words(
    """
    query_to_xml query_to_xml_and_xmlschema table_to_xml table_to_xml_and_xmlschema schema_to_xml
    schema_to_xml_and_xmlschema database_to_xml database_to_xml_and_xmlschema cursor_to_xml ts_stat
    dblink dblink_fetch crosstab connectby
    pg_stat_get_activity pg_stat_get_backend_activity
    """
)
"""Functions that run what a text or a name says, or show what other sessions run."""

SINGLE = _words("unnest regexp_split_to_table string_to_table generate_series generate_subscripts")
"""Functions of one column, which their alias names."""
