"""Serves A3Tune Studio in the browser: ``python app.py``, also the entry point of a Hugging Face Space."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

# Before Gradio is imported: it reads this when its modules load.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from a3tune.process import collect_seldom, pause_collecting, share_heaps  # isort: split

if __name__ == "__main__":  # and this before all that takes long to load
    collect_seldom()
    pause_collecting()
    share_heaps()

from a3tune.cli.app import read_options
from a3tune.errors import A3TuneError
from app.access.deployment import Deployment, read_deployment
from app.access.origins import is_loopback
from app.common.studio_folder import default_studio_folder
from app.kept.key import read_key
from app.login.people import add_person, ask_password, remove_person
from app.login.settings import LoginSettings, read_login
from app.server.audit import AUDIT_VARIABLE, audit_path
from app.server.dicom_archive import read_archive
from app.ui import launch

if TYPE_CHECKING:
    from a3tune.dicomweb.client import DicomWeb


def main() -> None:
    """Read the options and serve."""
    options = read_options()
    try:
        if options.add_person or options.remove_person:
            change_people(options)
            return
        deployment = read_deployment(options.deployment, os.environ)
        login = read_login(options.login, options.deployment, options.people, os.environ)
        audit = audit_path(os.environ.get(AUDIT_VARIABLE, ""), options.deployment, default_studio_folder().root)
        alone = options.deployment == "local" and is_loopback(options.host)
        archive = read_archive(alone or login is not None, deployment.upload_file_mb, os.environ)
        serve(options, deployment, login, audit, read_key(options.deployment, os.environ), archive)
    except A3TuneError as error:
        raise SystemExit(str(error)) from None


def change_people(options: argparse.Namespace) -> None:
    """Add a person to the file of passwords, or take one out of it."""
    people = Path(options.people).expanduser()
    if options.remove_person:
        remove_person(people, options.remove_person)
        print(f"Removed {options.remove_person}.")
        return
    add_person(people, options.add_person, options.role, ask_password())
    print(f"{options.add_person} may log in as {options.role}.")


def serve(
    options: argparse.Namespace,
    deployment: Deployment,
    login: LoginSettings | None,
    audit: Path | None,
    key: bytes | None,
    archive: DicomWeb | None,
) -> None:
    """Serve until the process is stopped."""
    launch(
        options.host,
        options.port,
        options.profile,
        options.scorer,
        options.adapter,
        deployment=deployment,
        hosts=options.allowed_host,
        root_path=options.root_path,
        segmenter=options.segmenter,
        offered=options.models,
        any_model=options.any_model,
        allow_other_base=options.allow_other_base,
        prepared=None if options.prepared_examples == "all" else int(options.prepared_examples),
        login=login,
        audit_file=audit,
        key=key,
        archive=archive,
    )


if __name__ == "__main__":
    main()
