"""``python -m a3tune app``: the options of the page's server, and starting it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from a3tune.bundle import STUDIO
from a3tune.errors import RequestError

HELP = "serve the app in the browser"
DEPLOYMENTS = ("local", "space", "server")
_VALUES = (
    *("host", "port", "deployment", "root_path", "profile", "scorer", "segmenter", "models", "login", "people"),
    "prepared_examples",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the server's options; where one is missing, the environment says it, so that a Space can set them."""
    parser.add_argument(
        "--host",
        default=os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0" if _on_space() else "127.0.0.1"),
        help="address to listen on (default 127.0.0.1: this machine only)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=os.environ.get("GRADIO_SERVER_PORT", "7860"),
        help="port to listen on (default 7860)",
    )
    parser.add_argument(
        "--deployment",
        choices=DEPLOYMENTS,
        default=os.environ.get("A3TUNE_DEPLOYMENT", "space" if _on_space() else "local"),
        help="where it runs: local, one person's machine; space, a public Hugging Face Space; server, one that several "
        "people share (default local, on a Space space)",
    )
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[name.strip() for name in os.environ.get("A3TUNE_HOSTS", "").split(",") if name.strip()],
        metavar="NAME",
        help="a name, or name:port, that browsers reach the server by, beside localhost and addresses in numbers; may "
        "be given several times",
    )
    parser.add_argument(
        "--root-path",
        default=os.environ.get("GRADIO_ROOT_PATH", ""),
        metavar="/PATH",
        help="the path under which a proxy serves the page (default: none, or what the proxy says in "
        "X-Forwarded-Prefix)",
    )
    parser.add_argument(
        "--login",
        choices=("none", "oidc", "password", "proxy"),
        default=os.environ.get("A3TUNE_LOGIN", "none"),
        help="how people log in to --deployment server: oidc, at an identity provider; password, with --people; proxy, "
        "a proxy says who asks (default none: whoever reaches the server is a tuner)",
    )
    parser.add_argument(
        "--people",
        default=os.environ.get("A3TUNE_PEOPLE", ""),
        metavar="FILE",
        help="names, roles and hashed passwords for --login password",
    )
    change = parser.add_mutually_exclusive_group()
    change.add_argument(
        "--add-person", default="", metavar="NAME", help="write a person into --people, ask for the password, and end"
    )
    change.add_argument("--remove-person", default="", metavar="NAME", help="take a person out of --people, and end")
    parser.add_argument(
        "--role",
        choices=("viewer", "tuner", "operator"),
        default="viewer",
        help="of --add-person: viewer, who asks; tuner, who also tunes; operator, who also changes what all share "
        "(default viewer)",
    )
    parser.add_argument(
        "--profile",
        default=os.environ.get("A3TUNE_PROFILE", "demo"),
        help="the model: demo, a checkpoint folder or a Hugging Face id (default demo)",
    )
    parser.add_argument(
        "--scorer",
        default=os.environ.get("A3TUNE_SCORER", "demo"),
        help="what ranks regions: demo, biomedclip, an open_clip folder or a Hugging Face id (default demo)",
    )
    parser.add_argument(
        "--segmenter",
        default=os.environ.get("A3TUNE_SEGMENTER", "litemedsam"),
        help="what finds regions: litemedsam, a checkpoint file or hub:OWNER/NAME/FILE (default litemedsam)",
    )
    parser.add_argument(
        "--models",
        default=os.environ.get("A3TUNE_MODELS"),
        metavar="LIST",
        help="what visitors may load under Models, separated by commas: keys such as llava-med-7b, medsam or "
        "biomedclip, hub ids, folders (default: all that is known by name; on a Space only what it starts with)",
    )
    parser.add_argument(
        "--any-model",
        action="store_true",
        default=os.environ.get("A3TUNE_ANY_MODEL") == "1",
        help="let visitors load any hub id, and any folder of this machine; not on a Space",
    )
    parser.add_argument(
        "--prepared-examples",
        default=os.environ.get("A3TUNE_PREPARED_EXAMPLES", "all"),
        metavar="N",
        help="how many of the page's examples are answered before anybody asks, the first ones: a number, or all "
        "(default all); fewer leave the processor to visitors",
    )
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="an adapter in PEFT's format to compare the model with; may be given several times",
    )
    parser.add_argument(
        "--allow-other-base",
        action="store_true",
        default=os.environ.get("A3TUNE_ALLOW_OTHER_BASE") == "1",
        help="take adapters of --adapter that were made for other weights of the same shapes; their answers say so",
    )


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The server's options; ``adapter`` as folders by name, ``models`` as a list, None for all that is known."""
    parser = argparse.ArgumentParser(description="Serve A3Tune Studio in the browser.")
    add_arguments(parser)
    options = parser.parse_args(arguments)
    pairs = [tuple(part.strip() for part in text.partition("=")[::2]) for text in options.adapter]
    if not all(name and folder for name, folder in pairs) or len(dict(pairs)) < len(pairs):
        parser.error("Expected --adapter NAME=FOLDER, each name once, as in --adapter tuned=runs/first/adapter")
    options.adapter = {name: Path(folder) for name, folder in pairs}
    if (options.add_person or options.remove_person) and not options.people:
        parser.error("--add-person and --remove-person change a file: name it with --people")
    if options.role != parser.get_default("role") and not options.add_person:
        parser.error("--role is that of --add-person, which is not given")
    changed = options.add_person or options.remove_person or options.login == "password"
    if options.people != parser.get_default("people") and not changed:
        parser.error("--people is read by --login password, --add-person and --remove-person, and none is given")
    if options.deployment not in DEPLOYMENTS:
        parser.error("A3TUNE_DEPLOYMENT is local, space or server")
    if options.prepared_examples != "all" and not options.prepared_examples.isdecimal():
        parser.error("--prepared-examples (A3TUNE_PREPARED_EXAMPLES) is a number, or all")
    options.root_path = f"/{path}" if (path := options.root_path.strip("/")) else ""
    public = options.deployment == "space"
    if options.any_model and public:
        parser.error("A Space is open to strangers: name what they may load with --models instead of --any-model")
    if options.models is None:
        options.models = [options.profile] if public else None
    else:
        options.models = [name.strip() for name in options.models.split(",") if name.strip()]
    return options


def run(options: argparse.Namespace) -> int:
    """Start the server in the place of this process."""
    script = STUDIO / "app.py"
    if not script.is_file():
        raise RequestError(
            expected=f"the page at {script}",
            got="app.py is not there",
            remedy="Install the package again, or run this from a full checkout of the project",
        )
    chosen = [(f"--{name.replace('_', '-')}", getattr(options, name)) for name in _VALUES]
    chosen += [("--allowed-host", name) for name in options.allowed_host]
    chosen += [("--adapter", pair) for pair in options.adapter]
    given = [str(part) for name, value in chosen if value is not None for part in (name, value)]
    if options.add_person or options.remove_person:
        which, name = ("add", options.add_person) if options.add_person else ("remove", options.remove_person)
        given += [f"--{which}-person", name, "--role", options.role]
    given += ["--any-model"] if options.any_model else []
    given += ["--allow-other-base"] if options.allow_other_base else []
    # The library never imports the page's packages, so the app takes this process's place.
    os.execv(sys.executable, [sys.executable, str(script), *given])


def _on_space() -> bool:
    return "SPACE_ID" in os.environ
