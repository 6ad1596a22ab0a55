"""Passed over: files that lie below a source's path and are not read, by reason."""

import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from squadron.sources.columns import shown

log = logging.getLogger(__name__)

EXAMPLES = 3
ENDINGS = 12
_PACKED = (".gz", ".bz2", ".xz", ".zst")


@dataclass
class PassedOver:
    """Counts of files that are not read."""

    hidden: list[str] = field(default_factory=list)
    """Of names, or in folders of names, that begin with `.` or `_`: other programs' files."""
    linked_folders: list[str] = field(default_factory=list)
    """Links to folders."""
    unknown: list[str] = field(default_factory=list)
    """Files of no known format."""

    def __bool__(self) -> bool:
        return bool(self.hidden or self.linked_folders or self.unknown)

    def __str__(self) -> str:
        parts = []
        if self.unknown:
            parts.append(f"{len(self.unknown)} of no known format ({_by_ending(self.unknown)})")
        if self.hidden:
            parts.append(f"{len(self.hidden)} hidden, named or in folders named . or _ ({_examples(self.hidden)})")
        if self.linked_folders:
            parts.append(f"{len(self.linked_folders)} links to folders ({_examples(self.linked_folders)})")
        return ", ".join(parts)

    def report(self, path: str) -> None:
        """One line in the log, if there is anything to tell."""
        if self:
            total = len(self.hidden) + len(self.linked_folders) + len(self.unknown)
            log.warning("%d files of the corpus %s are passed over: %s", total, path, self)


def _by_ending(paths: list[str]) -> str:
    examples, counts = dict[str, str](), Counter(map(_ending, paths))
    for path in paths:
        examples.setdefault(_ending(path), path)
    listed = [f"{count} {shown(ending)}: {shown(examples[ending])}" for ending, count in sorted(counts.items())]
    return ", ".join(listed[:ENDINGS]) + (", ..." if len(listed) > ENDINGS else "")


def _ending(path: str) -> str:
    name = PurePosixPath(path)
    suffixes = name.suffixes[-2:] if name.suffix in _PACKED else name.suffixes[-1:]
    return "".join(suffixes) or "without an ending"


def _examples(names: list[str]) -> str:
    return ", ".join(shown(name) for name in names[:EXAMPLES]) + (", ..." if len(names) > EXAMPLES else "")
