"""Records: one JSON line per run, appended and never changed. No torch here.

They lie in ``DIR/<experiment>-<hash>/records.jsonl`` beside ``arguments.json``; the hash covers what must not
mix. A line is written whole and synced before the run counts as done; a line that a killed process left
unfinished is cut off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from paper.identity import hashed
from tbft import TbftError
from tbft.files import atomic_path

Record = Mapping[str, Any]

RECORDS, ARGUMENTS, CLAIMS = "records.jsonl", "arguments.json", ".claims"

#: What tables and pages read from a record, and from what is nested in it; a record may hold more.
FIELDS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("id", "experiment", "recipe", "model", "data", "method", "finished", "engine"), (str,)),
    **dict.fromkeys(("drift", "noised", "commit"), (str, type(None))),
    **dict.fromkeys(("quick", "dirty"), (bool,)),
    **dict.fromkeys(("size", "seed"), (int,)),
    **dict.fromkeys(("measurement", "versions", "machine"), (dict,)),
    "base_fingerprint": (str,),
    "accuracy": (int, float),
}
MACHINE: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("processor", "system"), (str,)),
    "cores": (int, type(None)),
}
MEASURED: Mapping[str, tuple[type, ...]] = {
    "cpu_seconds": (int, float),
    "energy_joules": (int, float, type(None)),
    "energy_kind": (str,),
}
#: What tables and pages read from a file of ``system-cost``.
COSTS = {"model", "resolution", "quick", "finished", "system", "system_columns", "energy_kind", "published"}


class Store:
    """The records of one folder.

    Several processes may run the same experiment and share a folder: each claims a run before it starts, and
    only whole lines are ever read.
    """

    def __init__(self, folder: Path, arguments: Mapping[str, Any]) -> None:
        """Create the folder, or continue with it.

        Args:
            arguments: under the key ``identity``, what the folder's name is made of; the rest is notes.

        Raises:
            TbftError: the folder belongs to other arguments.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / ARGUMENTS
        if not path.exists():
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(arguments, indent=1) + "\n")
        elif read_identity(folder) != json.loads(json.dumps(arguments["identity"])):
            raise TbftError(f"{path} holds other arguments than the name of its folder: move the folder away")

    @property
    def path(self) -> Path:
        return self.folder / RECORDS

    def done(self) -> set[str]:
        """The ids of the recorded runs."""
        return done_in(self.folder)

    @contextmanager
    def claims(self) -> Iterator[Callable[[str], bool]]:
        """Yield a function that claims a run by its id; False if another process has claimed or done it.

        Claims end with the context, or with the process, however that ends.
        """
        with (self.folder / CLAIMS).open("ab") as file:

            def claim(run_id: str) -> bool:
                # A byte of the file stands for each run; the file itself stays empty.
                return _lock_byte(file, int(run_id, 16) >> 2) and run_id not in self.done()

            yield claim

    def append(self, record: Record) -> bool:
        """Write one record and sync it to the disk, unless another process has written that run meanwhile.

        Returns:
            whether it was written.
        """
        line = json.dumps(record, allow_nan=False) + "\n"
        with self.path.open("a+b") as file, _locked(file):
            _cut_torn_line(file)
            if record["id"] in self.done():
                return False
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        return True


def done_in(folder: Path) -> set[str]:
    """The ids of the runs recorded in a folder; none if there is no such folder."""
    return {str(record["id"]) for record in read_file(folder / RECORDS)}


def read_identity(folder: Path) -> Any:
    """What a folder's name is made of; None if its arguments cannot be read."""
    try:
        return json.loads((folder / ARGUMENTS).read_text())["identity"]
    except (OSError, ValueError, LookupError, TypeError):
        return None


def read_file(path: Path) -> list[dict[str, Any]]:
    """The records of one file; an unfinished last line is skipped.

    Raises:
        TbftError: a whole line is not a record.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if wrong := _wrong(record):
            raise TbftError(
                f"{path}, line {number} is not a record ({wrong}): remove it; its run is then repeated"
            )
        records.append(record)
    return records


def _wrong(record: Any) -> str:
    """Why something is not a record; empty if it is one."""
    if not isinstance(record, dict):
        return "not a JSON object"
    if wrong := _mistyped(record, FIELDS):
        return wrong
    for name, types in (("measurement", MEASURED), ("machine", MACHINE)):
        if wrong := _mistyped(record[name], types):
            return f"{name}: {wrong}"
    return ""


def _mistyped(values: Mapping[str, Any], types: Mapping[str, tuple[type, ...]]) -> str:
    for name, known in types.items():
        if name not in values:
            return f"{name!r} is missing"
        # In Python a bool is an int, too.
        if not isinstance(values[name], known) or (isinstance(values[name], bool) and bool not in known):
            return f"{name!r} is {values[name]!r}"
    return ""


def read_records(root: str | Path) -> list[dict[str, Any]]:
    """The records of every folder below `root`; of a run that is recorded twice, the later record.

    Each also gets ``group``, a hash of what must not mix, and ``source``, the same without the recipe.

    Raises:
        TbftError: there are no records.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(Path(root).rglob(RECORDS)):
        identity = read_identity(path.parent)
        named = identity if isinstance(identity, dict) else {}
        places = {
            "group": hashed(named, 8),
            "source": hashed({key: value for key, value in named.items() if key != "recipe"}, 8),
        }
        for record in read_file(path):
            found[record["id"]] = record | places
    if not found:
        raise TbftError(f"{root} holds no records ({RECORDS}): run `python -m paper run NAME --out {root}`")
    return list(found.values())


def read_costs(root: str | Path) -> list[dict[str, Any]]:
    """What the experiment ``system-cost`` measured, one file per model; empty if it was not run.

    Raises:
        TbftError: a file with such a name is something else.
    """
    found = []
    for path in sorted(Path(root).rglob("system-cost-*.json")):
        try:
            # The first measurements spell this way of tuning as it was spelled then.
            content = json.loads(path.read_text().replace('"optimiser only"', '"optimizer only"'))
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict) or not set(content) >= COSTS:
            raise TbftError(f"{path} was not written by `python -m paper run system-cost`: move it elsewhere")
        found.append(content)
    return found


def _cut_torn_line(file: IO[bytes]) -> None:
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return
    file.seek(0)
    whole = file.read().rfind(b"\n") + 1
    if whole != end:
        file.truncate(whole)


@contextmanager
def _locked(file: IO[bytes]) -> Iterator[None]:
    """Exclusive access to the file, where the system has such locks; they end with the process."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _lock_byte(file: IO[bytes], position: int) -> bool:
    """Lock one byte, which need not exist, until the file is closed; False if another process holds it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, position)
    except OSError:
        return False
    return True
