"""docs/command_line.md, from the commands that typer knows."""

from typing import Any

from squadron.terminal.settings_page import table_row

_HEAD = """\
<!-- `make docs` writes this file: edit pipelines/squadron/__main__.py, not this. -->

# Command line

`squadron` is the console script of the virtual environment (`. .venv/bin/activate` once); `python -m squadron` is the
same. Results go to stdout, progress and logs to stderr, and `--json` prints one object instead of a table. Control
characters in documents are printed spelled out.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed: the last line on stderr says what was found, what was wanted and what to do |
| 2 | wrong usage, or settings that are not valid |
| 130 | interrupted by Ctrl-C |

`--set KEY=VALUE` may be repeated, or hold several settings with spaces between them. An empty value is null. A list is
`a,b` or JSON: `--set 'source.columns.metadata=["status", "team"]'`. The keys are in [Settings](settings.md). Without
`--set collection=NAME` a command is about the collection `squad`. After Ctrl-C, which ends a command with one line, the
next run goes on from what is cached and written.
"""


def command_page(group: Any) -> str:
    """The page for a typer group (`typer.main.get_command(app)`)."""
    sections = [_section(group.name or "squadron", command) for command in group.commands.values()]
    return "\n".join([_HEAD, *sections])


def _section(program: str, command: Any) -> str:
    words = [program, command.name, *(_usage(parameter) for parameter in command.params)]
    rows = [table_row(f"`{_name(parameter)}`", _meaning(parameter)) for parameter in command.params]
    table = ["| | meaning |", "|---|---|", *rows]
    head = f"## `{program} {command.name}`\n\n{command.help}\n\n```\n{' '.join(words)}\n```\n"
    return "\n".join([head, *table, ""])


def _usage(parameter: Any) -> str:
    if parameter.required:
        return _name(parameter)
    return f"[{_name(parameter)}]" + ("..." if getattr(parameter, "multiple", False) else "")


def _name(parameter: Any) -> str:
    """As it is typed: `--set KEY=VALUE`, `--json`, `QUESTION`."""
    if parameter.param_type_name == "argument":
        return str(parameter.name.upper())
    value = "" if parameter.is_flag else parameter.metavar or "N"  # what is not named is a number
    return f"{parameter.opts[0]} {value}".strip()


def _meaning(parameter: Any) -> str:
    is_shown = parameter.default is not None and parameter.param_type_name == "option" and not parameter.is_flag
    return f"{parameter.help} Default: {parameter.default}." if is_shown else str(parameter.help)
