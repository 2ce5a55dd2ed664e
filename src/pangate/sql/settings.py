"""What it means to change a setting (SET, set_config, startup parameters)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pangate.model import Effect

_HARMLESS = """
    application_name backend_flush_after bytea_output check_function_bodies client_connection_check_interval
    client_encoding client_min_messages commit_delay constraint_exclusion cpu_index_tuple_cost
    cpu_operator_cost cpu_tuple_cost cursor_tuple_fraction datestyle deadlock_timeout debug_pretty_print
    default_statistics_target default_text_search_config default_transaction_deferrable
    default_transaction_isolation default_transaction_read_only effective_cache_size
    effective_io_concurrency escape_string_warning exit_on_error extra_float_digits force_parallel_mode
    debug_parallel_query from_collapse_limit geqo geqo_effort geqo_generations geqo_pool_size geqo_seed
    geqo_selection_bias geqo_threshold gin_fuzzy_search_limit gin_pending_list_limit hash_mem_multiplier
    icu_validation_level idle_in_transaction_session_timeout idle_session_timeout intervalstyle jit
    jit_above_cost jit_inline_above_cost jit_optimize_above_cost join_collapse_limit lc_messages
    lc_monetary lc_numeric lc_time lock_timeout logical_decoding_work_mem maintenance_io_concurrency
    max_parallel_workers max_parallel_workers_per_gather min_parallel_index_scan_size
    min_parallel_table_scan_size parallel_leader_participation parallel_setup_cost
    parallel_tuple_cost plan_cache_mode quote_all_identifiers random_page_cost recursive_worktable_factor
    row_security search_path seed seq_page_cost standard_conforming_strings statement_timeout
    synchronize_seqscans synchronous_commit tcp_keepalives_count tcp_keepalives_idle
    tcp_keepalives_interval tcp_user_timeout temp_buffers timezone timezone_abbreviations
    transaction_deferrable transaction_isolation transaction_read_only transaction_timeout vacuum_cost_delay
    work_mem xmlbinary xmloption
"""
HARMLESS = frozenset(_HARMLESS.split())
"""Settings that every session may change: they form, bound or plan its own statements, and no more.
Beside them, everything that begins with enable_."""

PRIVILEGED = frozenset({"role", "session_authorization", "is_superuser"})

SAFE_ENCODINGS = re.compile(
    r"utf8|unicode|sqlascii|latin([1-9]|10)|iso8859\d+|koi8[ru]?|alt|win|tcvn|abc|vscii"
    r"|win(dows)?(125\d|866|874)"  # not 932, 936, 949 and 950, which are SJIS, GBK, UHC and BIG5
    r"|euc(jp|cn|kr|tw|jis2004)"
)
"""Client encodings in which a byte that looks like ASCII is ASCII, also behind another one."""


def judge(name: str, value: str | None) -> tuple[Effect | None, str]:
    """The effect of setting `name` to `value` (None when the statement does not show it), None for a
    harmless one; and why nobody may do it, usually empty."""
    name = name.lower()
    if name == "standard_conforming_strings" and (
        value is None
        or value.lower() not in ("on", "true", "yes", "1", "t", "tr", "tru", "y", "ye")
    ):
        return "session", (
            "standard_conforming_strings = off is not passed through this gateway, because it would "
            "change how statements are read; write E'...' where a backslash is to be an escape"
        )
    if name == "client_encoding" and (
        value is None or not SAFE_ENCODINGS.fullmatch(re.sub(r"[^a-z0-9]", "", value.lower()))
    ):
        return "session", "this client_encoding is not passed through this gateway; use UTF8"
    if name in PRIVILEGED:
        return "privilege", ""
    if name == "search_path":
        # pg_catalog is searched first unless it is named: behind another schema, that one's functions
        # would stand for the server's own.
        names = [part.strip().strip('"').lower() for part in (value or "pg_catalog").split(",")]
        if "pg_catalog" in names[1:] or value is None:
            return "session", ""
        return None, ""
    if name in HARMLESS or name.startswith("enable_"):
        return None, ""
    return "session", ""


def startup_settings(parameters: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    """The settings that a startup packet asks for, those in `options` among them; the name is empty
    for what is no setting."""
    for name, value in parameters.items():
        if name in ("user", "database", "replication"):
            continue
        if name != "options":
            yield name, value
            continue
        words = [
            re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL)
            for word in re.findall(r"(?:\\.|[^\\\s])+", value, re.DOTALL | re.ASCII)
        ]
        while words:
            word = words.pop(0)
            if word == "-c" and words:
                word = "--" + words.pop(0)
            elif word.startswith("-c"):
                word = "--" + word[2:]
            key, equals, given = word.removeprefix("--").partition("=")
            if word.startswith("--") and equals:
                yield key.replace("-", "_"), given
            else:
                yield "", None
