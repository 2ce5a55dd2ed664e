"""The statements that PostgreSQL has, by the names of their nodes: what people call them, and what those do
whose effects do not depend on what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pangate.model import EFFECTS, Effect

_COMMANDS = {
    "SelectStmt": "SELECT",
    "InsertStmt": "INSERT",
    "UpdateStmt": "UPDATE",
    "DeleteStmt": "DELETE",
    "MergeStmt": "MERGE",
    "VariableSetStmt": "SET",
    "VariableShowStmt": "SHOW",
    "TransactionStmt": "transaction control",
    "DeclareCursorStmt": "DECLARE CURSOR",
    "ClosePortalStmt": "CLOSE",
    "CreateStmt": "CREATE TABLE",
    "CreateTableAsStmt": "CREATE TABLE AS",
    "IndexStmt": "CREATE INDEX",
    "ViewStmt": "CREATE VIEW",
    "CreateTrigStmt": "CREATE TRIGGER",
    "CreatedbStmt": "CREATE DATABASE",
    "DropdbStmt": "DROP DATABASE",
    "GrantRoleStmt": "GRANT of a role",
    "RuleStmt": "CREATE RULE",
    "DefineStmt": "CREATE",
    "LoadStmt": "LOAD",
    "CreateEventTrigStmt": "CREATE EVENT TRIGGER",
    "AlterObjectSchemaStmt": "ALTER ... SET SCHEMA",
    "CreateFdwStmt": "CREATE FOREIGN DATA WRAPPER",
    "CreatePLangStmt": "CREATE LANGUAGE",
    "ConstraintsSetStmt": "SET CONSTRAINTS",
    "CheckPointStmt": "CHECKPOINT",
    "RefreshMatViewStmt": "REFRESH MATERIALIZED VIEW",
    "SecLabelStmt": "SECURITY LABEL",
}


def command_of(kind: str, body: dict[str, Any]) -> str:
    """What a person calls the statement."""
    if kind in _COMMANDS:
        return _COMMANDS[kind]
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.removesuffix("Stmt")).upper()
    if kind == "DropStmt":
        return f"DROP {body['removeType'].removeprefix('OBJECT_').replace('_', ' ')}"
    return words


def _table(text: str) -> Iterator[tuple[str, tuple[Effect, ...]]]:
    known = {str(effect): effect for effect in EFFECTS}
    for line in text.strip().splitlines():
        effects, _, kinds = line.partition(":")
        for kind in kinds.split():
            yield kind + "Stmt", tuple(known[word] for word in effects.split() if word != "none")


EFFECTS_OF: dict[str, tuple[Effect, ...]] = dict(
    _table(
        """
        read: VariableShow Fetch Listen
        none: ClosePortal Deallocate Discard Unlisten ConstraintsSet Return
        write: Notify RefreshMatView
        write bulk_write: Truncate
        code: Do Load
        schema: Index Define Rename AlterObjectSchema CompositeType CreateEnum CreateRange AlterEnum
        schema: CreateDomain AlterDomain AlterType CreateSchema CreateSeq AlterSeq Comment CreateStats
        schema: AlterStats CreateOpClass CreateOpFamily AlterOpFamily AlterOperator CreateConversion
        schema: CreateTransform CreateCast AlterTSDictionary AlterTSConfiguration AlterCollation
        schema: AlterObjectDepends CreatePublication AlterPublication AlterExtensionContents CreateAm
        schema privilege: DropOwned AlterTableMoveAll
        schema code: CreateFunction AlterFunction CreateTrig CreateEventTrig AlterEventTrig Rule
        schema code: CreateExtension AlterExtension CreatePLang
        schema file: CreateForeignServer AlterForeignServer CreateFdw AlterFdw CreateForeignTable
        schema file: CreateUserMapping AlterUserMapping DropUserMapping ImportForeignSchema
        schema file: CreateSubscription AlterSubscription DropSubscription
        privilege: Grant GrantRole AlterDefaultPrivileges CreateRole AlterRole AlterRoleSet DropRole
        privilege: ReassignOwned AlterOwner CreatePolicy AlterPolicy SecLabel
        admin: AlterSystem CheckPoint Vacuum Cluster Reindex AlterDatabase AlterDatabaseSet
        admin: AlterDatabaseRefreshColl
        admin schema: Createdb Dropdb
        admin file: CreateTableSpace DropTableSpace AlterTableSpaceOptions
        """
    )
)
