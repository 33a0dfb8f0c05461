"""From the name of an image in a row to a file inside the data folder, and to nothing outside it."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath

from a3tune.wording import brief, listed

_SUFFIXES = (".jpg", ".png", ".jpeg")
_IMAGES = re.compile(r"(images?|imgs?)$", re.IGNORECASE)
_COPY = "Copy the image into the data folder, or correct the name"

Found = Path | tuple[str, str, str]
"""The file, or (kind of fault, what is wrong, remedy)."""


class PictureFinder:
    """Finds the files that rows name; every name is looked up once.

    Args:
        roots: folders that images may lie in, at any depth.
        bases: folders that names may be relative to, in the order tried; those that do not exist are dropped.

    Attributes:
        loose: folders that names give and that are not there, each with how many files were taken that have these names
            and lie where the folder should.
    """

    def __init__(self, roots: Iterable[Path], bases: Iterable[Path]) -> None:
        self._roots = tuple(os.path.realpath(root) for root in roots)
        self._bases = tuple(dict.fromkeys(os.path.realpath(base) for base in bases if base.is_dir()))
        self._found: dict[str, Found] = {}
        self._listings: dict[str, dict[str, str]] = {}
        self._folders: dict[str, list[str]] = {}
        self.loose: dict[str, int] = {}
        self._named: dict[Path, tuple[str, str, bool]] = {}

    def find(self, name: str) -> Found:
        """The file that ``name`` stands for, resolved; or what is wrong with it."""
        if name not in self._found:
            self._found[name] = self._look_up(name)
        return self._found[name]

    def _inside(self, path: str) -> bool:
        return any(path == root or path.startswith(root.rstrip(os.sep) + os.sep) for root in self._roots)

    def _look_up(self, name: str) -> Found:
        if "\0" in name or len(name) > 1000:
            return "image-name", f"{brief(name)} is not a file name", "Correct the name"
        relative = name.strip().replace("\\", "/")
        drive = bool(PureWindowsPath(relative).drive)
        candidates = [] if drive else [os.path.normpath(os.path.join(base, relative)) for base in self._bases]
        # What lies outside is not even looked at: an answer would tell whether the file exists.
        inside = [path for path in dict.fromkeys(candidates) if self._inside(path)]
        if not inside:
            return "outside", f"{brief(name)} leads out of the data folder", _COPY
        endings = ("",) if os.path.splitext(relative)[1] else ("", *_SUFFIXES)
        there = [path + ending for path in inside for ending in endings]
        found = self._first_file(there, name)
        if found is None and not name.isascii():
            # macOS writes accents as characters of their own (NFD), most tables hold them in one (NFC).
            found = self._first_file([other for path in there if (other := self._spelled_otherwise(path))], name)
        if found is None:
            found = self._in_image_folders(there, name)
        is_loose = found is None
        if is_loose:
            found = self._without_folder(inside, endings, relative, name)
        if isinstance(found, Path):
            found = self._alone(found, os.path.dirname(os.path.normpath(relative)), name, is_loose)
        return found or ("missing-image", f"{brief(name)} does not exist", _COPY)

    def _without_folder(self, paths: Iterable[str], endings: Iterable[str], relative: str, name: str) -> Found | None:
        """The file of that name where the folder that is named should lie, if there is no such folder."""
        folder, last = os.path.split(os.path.normpath(relative))
        if not folder or any(os.path.isdir(os.path.dirname(path)) for path in paths):
            return None
        places = [os.path.join(base, last + ending) for base in self._bases for ending in endings]
        found = {file for path in places if isinstance(file := self._first_file([path], name), Path)}
        if len(found) > 1:
            return "ambiguous-image", f"{brief(name)} does not exist, and several files have that name", _COPY
        return next(iter(found), None)

    def _alone(self, file: Path, folder: str, name: str, is_loose: bool) -> Found:
        """The file, unless it was found without its folder and a name with another folder leads to it as well."""
        first, earlier, was_loose = self._named.setdefault(file, (folder, name, is_loose))
        if first != folder and (is_loose or was_loose):
            what = f"{brief(name)} and {brief(earlier)} would both be {file.name}, which lies in no such folder"
            return "ambiguous-image", what, "Put the images into the folders that are named"
        if is_loose:
            self.loose[folder] = self.loose.get(folder, 0) + 1
        return file

    def _in_image_folders(self, paths: Iterable[str], name: str) -> Found | None:
        """The file in a folder for images beside where it should lie ("Train_images"), if just one has it."""
        found: dict[Path, str] = {}
        for path in paths:
            beside, last = os.path.split(path)
            for folder in self._image_folders(beside):
                file = self._first_file([os.path.join(folder, last)], name)
                if isinstance(file, Path):
                    found.setdefault(file, os.path.basename(folder))
        if len(found) > 1:
            what = f"{brief(name)} lies in several folders ({listed(sorted(set(found.values())))})"
            return "ambiguous-image", what, "Write the folder into the name"
        return next(iter(found), None)

    def _image_folders(self, place: str) -> list[str]:
        if place not in self._folders:
            try:
                with os.scandir(place) as entries:
                    names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError:
                names = []
            self._folders[place] = [os.path.join(place, name) for name in sorted(names) if _IMAGES.search(name)]
        return self._folders[place]

    def _first_file(self, paths: Iterable[str], name: str) -> Found | None:
        for path in paths:
            try:
                facts = os.stat(path)
            except (OSError, ValueError):
                continue
            if not self._inside(os.path.realpath(path)):
                return "outside", f"{brief(name)} is a link that leads out of the data folder", _COPY
            if not stat.S_ISREG(facts.st_mode):
                continue
            if facts.st_size == 0:
                return "unreadable-image", f"{brief(name)} is an empty file", "Copy or download it again"
            return Path(os.path.realpath(path))
        return None

    def _spelled_otherwise(self, path: str) -> str | None:
        """The path whose parts are the same characters in another normal form of Unicode; None when there is none."""
        root = next(root for root in self._roots if path == root or path.startswith(root.rstrip(os.sep) + os.sep))
        reached = root
        for part in os.path.relpath(path, root).split(os.sep):
            if os.path.lexists(os.path.join(reached, part)):
                reached = os.path.join(reached, part)
                continue
            if reached not in self._listings:
                try:
                    entries = sorted(os.listdir(reached))
                except OSError:
                    entries = []
                self._listings[reached] = {unicodedata.normalize("NFC", entry): entry for entry in entries}
            entry = self._listings[reached].get(unicodedata.normalize("NFC", part))
            if entry is None:
                return None
            reached = os.path.join(reached, entry)
        return reached
