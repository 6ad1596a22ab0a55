"""Remote files: those of an object store, a server or an archive that an address stands for, by fsspec."""

from dataclasses import dataclass, field

import fsspec

from squadron.sources.formats import reader_of
from squadron.sources.lake_tables import LOGS, folders_above, refuse_table, refuse_tables_among
from squadron.sources.passed_over import PassedOver


@dataclass
class RemoteFiles:
    """The files of a corpus elsewhere."""

    filesystem: fsspec.AbstractFileSystem
    paths: list[str] = field(default_factory=list)
    passed_over: PassedOver = field(default_factory=PassedOver)

    def address(self, path: str) -> str:
        """A path as an address."""
        return str(self.filesystem.unstrip_protocol(path))


def remote_files(filesystem: fsspec.AbstractFileSystem, root: str) -> RemoteFiles:
    """The files that a path, a folder or a glob stands for, in the order of their names.

    Raises SourceError for a table of Delta Lake, Iceberg or Hudi, and whatever the protocol's client raises.
    """
    files = RemoteFiles(filesystem)
    if filesystem.isfile(root):
        files.paths = [root]
    elif filesystem.isdir(root):
        below = filesystem.find(root)
        refuse_tables_among(below)
        for path in sorted(below):
            relative = path.removeprefix(root).lstrip("/")
            if any(part.startswith((".", "_")) for part in relative.split("/")):
                files.passed_over.hidden.append(relative)
            elif reader_of(path) is None:
                files.passed_over.unknown.append(relative)
            else:
                files.paths.append(path)
    elif any(character in root for character in "*?["):
        files.paths = sorted(path for path in filesystem.glob(root) if not filesystem.isdir(path))
    if "http" not in str(filesystem.protocol):  # a web server has no folders
        for folder in {above for path in files.paths for above in folders_above(path.rpartition("/")[0])}:
            refuse_table(folder, [log for log in LOGS if filesystem.isdir(f"{folder}/{log}")])
            refuse_tables_among(filesystem.glob(f"{folder}/metadata/*.metadata.json*"))
    return files
