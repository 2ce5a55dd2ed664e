import pytest

from pangate.sql import settings


@pytest.mark.parametrize(
    ("name", "value", "effect", "refused"),
    [
        ("statement_timeout", "5", None, False),
        ("STATEMENT_TIMEOUT", None, None, False),
        ("enable_seqscan", "off", None, False),
        ("myapp.tenant", "5", "session", False),
        ("session_replication_role", "replica", "session", False),
        ("role", "x", "privilege", False),
        ("Session_Authorization", None, "privilege", False),
        ("search_path", "public", None, False),
        ("search_path", "", None, False),
        ("search_path", '"$user", public', None, False),
        ("search_path", "pg_catalog, public", None, False),
        ("search_path", "public, pg_catalog", "session", False),
        ("search_path", 'public , "PG_CATALOG" ', "session", False),
        ("search_path", None, "session", False),
        ("standard_conforming_strings", "on", None, False),
        ("standard_conforming_strings", "TRUE", None, False),
        ("standard_conforming_strings", "off", "session", True),
        ("Standard_Conforming_Strings", "o", "session", True),
        ("standard_conforming_strings", None, "session", True),
        ("client_encoding", "utf-8", None, False),
        ("client_encoding", "UNICODE", None, False),
        ("client_encoding", "iso_8859_5", None, False),
        ("client_encoding", "ISO-8859-1", None, False),
        ("client_encoding", "win1252", None, False),
        ("client_encoding", "EUC_JIS_2004", None, False),
        ("client_encoding", "SQL_ASCII", None, False),
        ("client_encoding", "SJIS", "session", True),
        ("client_encoding", "ShiftJIS", "session", True),
        ("client_encoding", "mskanji", "session", True),
        ("client_encoding", "windows-949", "session", True),
        ("client_encoding", "win936", "session", True),
        ("client_encoding", "windows950", "session", True),
        ("client_encoding", "win932", "session", True),
        ("client_encoding", "johab", "session", True),
        ("client_encoding", "", "session", True),
        ("client_encoding", None, "session", True),
    ],
)
def test_judge(name, value, effect, refused):
    found, why = settings.judge(name, value)
    assert (found, bool(why)) == (effect, refused)
