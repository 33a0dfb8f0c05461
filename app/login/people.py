"""The file of passwords: a line for each person with role, name and the hash of the password, by argon2id."""

from __future__ import annotations

import fcntl
import getpass
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from a3tune.errors import RequestError
from a3tune.storage import write_text
from app.access.identity import ROLES, Role

SHORTEST, LONGEST = 12, 1024
"""How many letters a password may have."""

_NAME = re.compile(r"[\w.@-]{1,64}")
_HASHER = PasswordHasher()


class Person(NamedTuple):
    """A person of the file."""

    name: str
    role: Role
    hash: str


class People:
    """The people of a file, read again whenever it was changed.

    Args:
        path: the file, whose lines are ``ROLE NAME HASH``.

    Raises:
        RequestError: it cannot be read, others may write to it, or a line is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: tuple[tuple[int, int, int], dict[str, Person]] | None = None
        # Who is not in the file costs as much time as who is.
        self._nobody = _HASHER.hash(secrets.token_urlsafe(16))
        if not self.read():
            raise _refused(f"{path.name} names nobody", "Add somebody with --add-person NAME")

    def read(self) -> dict[str, Person]:
        """Everybody by name.

        Raises:
            RequestError: see the class.
        """
        try:
            told = self._path.stat()
            if stat.S_IMODE(told.st_mode) & 0o022:
                raise _refused(f"Others may write to {self._path.name}", "Take that away: chmod go-w")
            state, known = (told.st_mtime_ns, told.st_size, told.st_ino), self._known
            if known is not None and known[0] == state:
                return known[1]
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            raise _refused(f"{self._path.name} cannot be read", "Correct A3TUNE_PEOPLE, or add somebody") from None
        found = _people(lines)
        self._known = state, found
        return found

    def find(self, name: str, password: str) -> Person | None:
        """The person of this name and password; None where there is none. Takes a tenth of a second of computing."""
        person = self.read().get(name)
        try:
            _HASHER.verify(self._nobody if person is None else person.hash, password[:LONGEST])
        except (VerificationError, InvalidHashError):
            return None
        return person


def add_person(path: Path, name: str, role: str, password: str) -> None:
    """Write a person into a file, in the place of an earlier one of that name.

    Raises:
        RequestError: the name, role or password is none that is taken, or the file cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise RequestError(
            expected="a name of up to 64 letters, digits and any of . _ @ -", got=f"{name!r}", remedy="Choose another"
        )
    if role not in ROLES:
        raise RequestError(expected=f"one of {', '.join(ROLES)}", got=f"the role {role!r}", remedy="Choose one")
    if not SHORTEST <= len(password) <= LONGEST:
        raise RequestError(
            expected=f"a password of {SHORTEST} to {LONGEST} letters",
            got=f"It has {len(password)}",
            remedy="Choose another",
        )
    with _changed(path) as people:
        people[name] = Person(name, role, _HASHER.hash(password))


def remove_person(path: Path, name: str) -> None:
    """Take a person out of a file.

    Raises:
        RequestError: there is no such person.
    """
    with _changed(path) as people:
        if people.pop(name, None) is None:
            raise _refused(f"{name!r} is not in it", "Look at the names in the file")


def ask_password() -> str:
    """A new password: asked for twice at a terminal, else the first line that is given."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    first = getpass.getpass("Password: ")
    if first != getpass.getpass("Once more: "):
        raise RequestError(expected="the same password twice", got="They differ", remedy="Try again")
    return first


@contextmanager
def _changed(path: Path) -> Iterator[dict[str, Person]]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            people = _people(lines)
            yield people
            text = "".join(f"{person.role} {person.name} {person.hash}\n" for person in people.values())
            write_text(path, text)
            path.chmod(0o600)
        finally:
            os.close(lock)
    except OSError as error:
        raise _refused(f"{path.name} cannot be written ({error.strerror})", "Check the folder and its rights") from None


def _people(lines: list[str]) -> dict[str, Person]:
    found = [_person(line, number) for number, line in enumerate(lines, 1) if line.strip()]
    return {person.name: person for person in found}


def _person(line: str, number: int) -> Person:
    parts = line.split()
    if len(parts) != 3 or parts[0] not in ROLES or not parts[2].startswith("$argon2id$"):
        raise _refused(f"Line {number} is not ROLE NAME HASH", "Add the person again with --add-person NAME")
    return Person(parts[1], parts[0], parts[2])


def _refused(got: str, remedy: str) -> RequestError:
    return RequestError(expected="a file with the people who may log in", got=got, remedy=remedy)
