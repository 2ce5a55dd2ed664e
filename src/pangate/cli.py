"""The command line. Only the command that is asked for is imported, so that the base install, which
has none of the gateway's dependencies, runs what it can and names what it lacks."""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pangate import __version__
from pangate.errors import (
    AuthenticationFailed,
    ConfigError,
    PangateError,
    RecordFailed,
    StateFailed,
)

# Nothing here multiplies matrices: numpy need not start threads that wait for it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

FAILED, MISUSED = 1, 2
"""Exit codes: the command could not do its work; the command line is wrong or an extra is missing."""

INTERRUPTED = 130


class Command(NamedTuple):
    """`target` is "module:function"; the function takes the arguments behind the command's name and
    returns an exit code. `extra` is what of pangate has to be installed for it ("" for nothing)."""

    target: str
    extra: str
    summary: str


COMMANDS: dict[str, Command] = {
    "serve": Command("pangate.cli:serve", "gateway", "run the gateway"),
    "check": Command("pangate.cli:check", "gateway", "check a configuration and print it resolved"),
    "approvals": Command(
        "pangate.approvals_cli:main", "gateway", "see and decide statements that wait for approval"
    ),
    "demo": Command(
        "pangate.cli:demo", "demo", "see the gateway at work, with a database of its own"
    ),
    "policy": Command(
        "pangate.policy_cli:main", "gateway", "explain and test what the rules decide"
    ),
    "audit": Command("pangate.audit_cli:main", "gateway", "verify, search and replay the record"),
    "mask": Command("pangate.mask_cli:main_mask", "", "mask card numbers in files and pipes"),
    "find": Command("pangate.mask_cli:main_find", "", "report card numbers, without showing one"),
}
"""The commands in the order of the help. A new one is one line here."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_help(), file=sys.stdout if words else sys.stderr)
        return 0 if words else MISUSED
    if words[0] in ("-V", "--version"):
        print(f"pangate {__version__}")
        return 0
    command = COMMANDS.get(words[0])
    if command is None:
        close = difflib.get_close_matches(words[0], list(COMMANDS), n=1)
        hint = f'did you mean "{close[0]}"?' if close else "pangate --help lists the commands"
        print(f'pangate: there is no command "{words[0]}"; {hint}', file=sys.stderr)
        return MISUSED
    return _run(words[0], command, words[1:])


def _run(name: str, command: Command, arguments: list[str]) -> int:
    try:
        code = _load(command)(arguments)
        # Here, where a reader that has gone away is not a traceback at exit.
        sys.stdout.flush()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "pangate" or not command.extra:
            raise
        print(
            f"pangate {name} needs the package {error.name}, which is not installed; "
            f'install it with: pip install "pangate[{command.extra}]"',
            file=sys.stderr,
        )
        return MISUSED
    except ConfigError as error:
        count = len(error.problems)
        print(f"{count} problem{'s' if count != 1 else ''}:", file=sys.stderr)
        for problem in error.problems:
            print(f"  {problem}", file=sys.stderr)
        return FAILED
    except (RecordFailed, StateFailed, AuthenticationFailed) as error:
        print(f"pangate {name}: {error.detail}", file=sys.stderr)
        return FAILED
    except PangateError as error:
        print(f"pangate {name}: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does. Python would say so again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _load(command: Command) -> Callable[[list[str]], int]:
    module, _, function = command.target.partition(":")
    found: Callable[[list[str]], int] = getattr(importlib.import_module(module), function)
    return found


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [
        "usage: pangate [--help] [--version] COMMAND ...",
        "",
        "PCI DSS data-path gateway for autonomous agents, and the card number masking inside it.",
        "",
        *(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()),
        "",
        "pangate COMMAND --help says more.",
    ]
    return "\n".join(lines)


def _parser(name: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"pangate {name}",
        description=COMMANDS[name].summary.capitalize() + ".",
        allow_abbrev=False,
    )


# The gateway's commands


def serve(arguments: list[str]) -> int:
    """`pangate serve`: run the gateway until SIGTERM or SIGINT; SIGHUP reloads its configuration."""
    parser = _parser("serve")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the TOML file")
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        help="the least that is logged, whatever the file says",
    )
    options = parser.parse_args(arguments)

    from pangate import config

    settings = config.load(options.config)

    from pangate import service

    service.serve(settings, options.log_level)
    return 0


def check(arguments: list[str]) -> int:
    """`pangate check`: every problem of a configuration, or what it resolves to."""
    parser = _parser("check")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", type=Path, metavar="FILE", help="the TOML file")
    what.add_argument(
        "--reference", action="store_true", help="print the reference of all keys in Markdown"
    )
    options = parser.parse_args(arguments)

    from pangate import config

    if options.reference:
        print(config.reference(), end="")
    else:
        print(config.describe(config.load(options.config)), end="")
    return 0


def demo(arguments: list[str]) -> int:
    """`pangate demo`: the gateway between psql and an embedded PostgreSQL."""
    parser = _parser("demo")
    parser.add_argument(
        "--keep", action="store_true", help="leave it running and print how to connect"
    )
    options = parser.parse_args(arguments)

    from pangate.demo import main as run

    return run(keep=options.keep)


if __name__ == "__main__":
    sys.exit(main())
