"""Composes the pages and serves them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr
from starlette.applications import Starlette
from starlette.middleware import Middleware

from a3tune.images.worker_pool import decode_in_workers
from a3tune.process import SERVER, prepare_process, resume_collecting
from a3tune.wording import RESEARCH_NOTICE
from app.access.deployment import Deployment
from app.access.gate import Gate, Settings
from app.access.identity import Identity, Role
from app.access.identity import asking as asking_now
from app.access.origins import Hosts, is_loopback
from app.access.page_memory import AnswerStreams, forget_page, has_answers, page_of_event
from app.access.uploads import UploadFolder, private_folder
from app.access.visits import Visits, is_secret, login_visit
from app.common.comparison import OwnAdapters
from app.common.identity import build_visitor, owner_of
from app.common.initial_page import InitialPage
from app.common.status import DEMO_NOTICE, model_value
from app.common.theme import EVALUATE_STYLES, STYLES, TUNE_STYLES, build_theme
from app.common.widgets import EVENT_OPTIONS, build_header
from app.engine import library
from app.engine.ids import OwnerId, SessionId
from app.engine.model_slot import ModelSlot
from app.engine.region_slot import RegionSlot
from app.evaluate.service import EvaluateService
from app.evaluate.tab import EvaluateTab
from app.evaluate.view import EvaluationView
from app.inspect.asking import zero_gpu
from app.inspect.batch.batch import chip_value
from app.inspect.opening.examples import read_examples
from app.inspect.service import InspectService
from app.inspect.sessions.session_end import keep_ending_idle
from app.inspect.tab import InspectTab
from app.login.settings import LoginSettings
from app.models.service import ModelService
from app.models.tab import build_models
from app.privacy.tab import build_privacy
from app.server.assets import KeptAssets
from app.server.audit import AuditLog
from app.server.operation import Operation
from app.server.refusals import Refusals
from app.tune.runs.view import RunView
from app.tune.service import TuneService
from app.tune.tab import TuneTab

if TYPE_CHECKING:
    from a3tune.dicomweb.client import DicomWeb

# Requests that wait at once, over all visitors; more are told that the queue is full.
_QUEUE_LENGTH = 64
# Requests that read images at once; questions have a limit of their own.
_READERS = 16
# Of whose pages Gradio itself keeps the widgets' values; the visits forget them earlier.
_MOST_STATES = 1000


@dataclass
class Page:
    """What a tab is built from.

    Attributes:
        blocks, tabs, header, visitor: the page, its row of tabs, its header, and who looks at it.
        asking, tuning, evaluating, models: what answers, what tunes, what evaluates and what loads.
        forget: ends a visit by its name.
        inspect, tune: the first two tabs, once they are built.
    """

    blocks: gr.Blocks
    tabs: gr.Tabs
    header: gr.HTML
    visitor: gr.BrowserState
    asking: InspectService
    tuning: TuneService
    evaluating: EvaluateService
    models: ModelService
    forget: Callable[[str], None]
    inspect: InspectTab = field(init=False)
    tune: TuneTab = field(init=False)


class Tab(NamedTuple):
    """A tab: its folder under ``app`` and id on the page, its title, and what fills it."""

    id: str
    title: str
    fill: Callable[[Page, gr.Tab], None]


def _fill_inspect(page: Page, tab: gr.Tab) -> None:
    def own_adapters(secret: object) -> Mapping[str, Path]:
        # A browser that came for the first time has its secret a moment later, and no adapters.
        names = page.tuning.adapters.of(owner_of(secret)) if is_secret(secret) else {}
        return {str(name): folder for name, folder in names.items()}

    own = OwnAdapters(page.visitor, own_adapters)
    page.inspect = InspectTab(page.asking, read_examples(), page.blocks, tab, own)
    page.inspect.follow(page.header)


def _fill_tune(page: Page, tab: gr.Tab) -> None:
    page.tune = TuneTab(page.tuning, page.visitor, tab, page.tabs, page.inspect)


def _fill_evaluate(page: Page, tab: gr.Tab) -> None:
    use = page.tune.use
    built = EvaluateTab(page.evaluating, page.visitor, tab, page.tabs, page.inspect)
    built.take_over(use.evaluate, use.choice, use.status)


def _fill_models(page: Page, tab: gr.Tab) -> None:
    build_models(page.models)


def _fill_privacy(page: Page, tab: gr.Tab) -> None:
    studio = page.tuning.jobs.studio
    archive = page.asking.archive
    named = "" if archive is None else archive.server.name
    build_privacy(studio, page.tuning.kept is not None, page.forget, named)


TABS = (
    Tab("inspect", "Inspect", _fill_inspect),
    Tab("tune", "Tune", _fill_tune),
    Tab("evaluate", "Evaluate", _fill_evaluate),
    Tab("models", "Models", _fill_models),
    Tab("privacy", "Privacy", _fill_privacy),
)
"""The page's tabs, from the left."""


def build(
    asking: InspectService,
    tuning: TuneService,
    evaluating: EvaluateService,
    models: ModelService,
    forget: Callable[[str], None],
) -> tuple[gr.Blocks, InspectTab]:
    """The whole page, wired to what answers, tunes, evaluates, loads and ends a visit; and its first tab."""

    def model_status(asked: object = None) -> dict[str, Any]:
        secret = asked.get("visitor") if isinstance(asked, dict) else None
        runs = _at_work(tuning, evaluating, owner_of(secret)) if is_secret(secret) else []
        runs += [chip_value(batch) for batch in asking.batches.at_work()]
        asker = asking_now()
        unheard = int(asker is not None and asker.unheard())
        return {**model_value(asking.slot.status), **_person(), "runs": runs, "unheard": unheard}

    with gr.Blocks(title="A3Tune Studio", analytics_enabled=False) as blocks:
        header = build_header(model_status, f"{RESEARCH_NOTICE} {DEMO_NOTICE}" if asking.slot.demo else RESEARCH_NOTICE)
        # Sent by a page that does not listen for its answers: any event opens the connection again.
        header.unheard(lambda: None, concurrency_limit=None, **EVENT_OPTIONS)
        visitor = build_visitor(blocks)
        with gr.Tabs() as tabs:
            page = Page(blocks, tabs, header, visitor, asking, tuning, evaluating, models, forget)
            for tab in TABS:
                with gr.Tab(tab.title, id=tab.id) as opened:
                    tab.fill(page, opened)
    blocks.queue(max_size=_QUEUE_LENGTH, default_concurrency_limit=_READERS, api_open=False)
    return blocks, page.inspect


def _at_work(tuning: TuneService, evaluating: EvaluateService, owner: OwnerId) -> list[dict[str, Any]]:
    """A visitor's runs that wait or are at work, for the page's head: "address", "title", "share" of the work that is
    done, and "left", how long it takes, in words. (Of a table of many images also "batch", see `chip_value`.)"""
    views: list[tuple[str, RunView | EvaluationView]] = [
        ("tune", view) for view in tuning.views(owner, at_work=True) if view.live
    ]
    views += [("evaluate", view) for view in evaluating.views(owner, at_work=True)]
    return [
        {
            "address": f"{tab}/{view.job.id}",
            "title": view.job.title,
            "share": round(view.share, 3),
            "left": view.left or ("waiting" if view.status == "queued" else view.status),
        }
        for tab, view in views
    ]


def _person() -> dict[str, str | int]:
    """Who is logged in, for the page's head; nothing where nobody is."""
    asker = asking_now()
    if asker is None or not asker.identity.subject:
        return {}
    known = asker.identity
    return {"person": known.name or known.subject, "role": known.role, "leaves": int(bool(known.session))}


def _roles(deployment: Deployment, host: str) -> tuple[Role, Role]:
    """What visitors may do that nobody logged in: those on this machine, and all others. At home a person does it all;
    strangers on the net that the page was opened to do not."""
    if deployment.name != "local":
        return "tuner", "tuner"
    return "operator", "operator" if is_loopback(host) else "tuner"


def launch(
    host: str,
    port: int,
    profile: str,
    scorer: str = "demo",
    adapters: Mapping[str, Path] | None = None,
    *,
    deployment: Deployment,
    hosts: Sequence[str] = (),
    root_path: str = "",
    segmenter: str = "litemedsam",
    offered: Sequence[str] | None = None,
    any_model: bool = False,
    allow_other_base: bool = False,
    prepared: int | None = None,
    login: LoginSettings | None = None,
    audit_file: Path | None = None,
    key: bytes | None = None,
    archive: DicomWeb | None = None,
) -> None:
    """Serve the page until the process is stopped; the model loads meanwhile.

    Args:
        host, port: the address to listen on.
        deployment: where the application runs, with its limits.
        hosts: names that the server answers to, besides localhost, addresses and ``host``.
        root_path: the path under which a proxy serves the page.
        profile: "demo", a checkpoint folder or a hub id.
        adapters: folders of adapters by name, beside those that come with the model.
        scorer: what ranks regions: "demo", "biomedclip", the folder of an open_clip model, or a hub id.
        segmenter: what finds regions: "litemedsam", or a Segment Anything checkpoint.
        offered: what visitors may load besides, see :class:`app.models.service.ModelService`.
        any_model: whether they may name any folder or hub id.
        allow_other_base: take ``adapters`` that were made for other weights; their answers say so.
        prepared: how many examples are answered before anybody asks; None for all.
        login: how people log in; None where nobody is asked who they are.
        audit_file: where it is noted who did what; None for nowhere.
        key: what visitors' things are kept with beyond their visit; None where that is not wanted.
        archive: the DICOM archive that visitors may have asked; None for none.

    Raises:
        RequestError: the file of passwords or the audit cannot be used.
    """
    prepare_process(SERVER)
    audit = None if audit_file is None else AuditLog(audit_file)

    def note(identity: Identity, visit: str, act: str, facts: dict[str, Any]) -> None:
        if audit is not None:
            who = {"issuer": identity.issuer, "subject": identity.subject} if identity.subject else {}
            audit.note(who, identity.role, visit, act, facts)

    folder = private_folder(os.environ)
    slot = ModelSlot(profile, adapters, allow_other_base=allow_other_base)
    asking = InspectService(slot, RegionSlot(scorer, segmenter), deployment)
    asking.archive = archive
    tuning = TuneService(slot, asking.regions.slot, deployment=deployment, key=key)
    evaluating = EvaluateService(slot, tuning.jobs, tuning.data_sources, tuning.adapters.of)
    first, *_ = shown = read_examples()
    examples = [(example.path, example.questions[0], example.key) for example in shown[:prepared]]

    def prepare_demo() -> None:
        # A large model would keep its visitors waiting for answers that nobody asked for.
        if slot.demo:
            asking.prepared.prepare(examples)

    models = ModelService(
        slot,
        asking.regions.slot,
        offered=offered,
        any_model=any_model,
        on_loaded=prepare_demo,
        deployment=deployment,
    )

    tuning.check_part = models.check_part
    tuning.adapters.check_hub = tuning.data.check_hub = models.check_hub

    def page_ended(name: SessionId) -> None:
        asking.sessions.end(name)
        forget_page(page, name)

    def visit_ended(owner: OwnerId) -> None:
        tuning.leave(owner)
        evaluating.forget(owner)
        asking.private_adapters.forget(tuning.jobs.studio.root / owner)

    uploads = UploadFolder(folder / "uploads")
    comes = tuning.kept.open if tuning.kept is not None else lambda owner: None
    visits = Visits(deployment, uploads, page_ended, visit_ended, tuning.at_work, tuning.forget, comes)
    if tuning.kept is not None:
        tuning.kept.wanted = visits.is_here
    page, inspect = build(asking, tuning, evaluating, models, visits.forget)
    names = Hosts([host, os.environ.get("SPACE_HOST", ""), *hosts])
    told = Settings(
        names,
        root_path,
        _roles(deployment, host),
        lambda event: page_of_event(page, event),
        lambda name: has_answers(page, name),
        AnswerStreams(page),
        note,
    )
    front = [Middleware(Gate, told, visits), Middleware(KeptAssets)]
    if login is not None:
        from app.login.setup import login_middleware

        def left(identity: Identity) -> None:
            visits.leave(login_visit(identity.session))

        def note_login(identity: Identity, act: str, facts: dict[str, Any]) -> None:
            note(identity, login_visit(identity.session) if identity.session else "", act, facts)

        front.insert(0, login_middleware(login, deployment, names, root_path, left, note_login, os.environ))

    @asynccontextmanager
    async def put_in_front(app: Starlette) -> AsyncIterator[None]:
        # Gradio puts its own in front of the middleware that it is given.
        app.user_middleware[:0] = front
        app.middleware_stack = None
        yield

    studio = tuning.jobs.studio.root
    operation = Operation(os.environ, lambda: slot.status.state, lambda: sum(tuning.jobs.busy().values()), studio)
    decoders = decode_in_workers(os.environ, operation.decoded)
    if zero_gpu.ON and not slot.demo:
        zero_gpu.hold(slot, asking.private_adapters)
    opening = [tab.title for tab in TABS], first.questions[0], first.about
    page.launch(
        prevent_thread_lock=True,
        server_name=host,
        server_port=port,
        share=False,
        # Gradio would ask its own page, and end the server if that has not come within 3 seconds: on a machine that is
        # busy at the moment it has not.
        _frontend=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        # Gradio can keep past runs, images included, in the browser's storage: patient pictures must not stay there.
        run_history=False,
        footer_links=[],
        show_error=False,
        state_session_capacity=_MOST_STATES,
        root_path=root_path,
        allowed_paths=[],
        theme=build_theme(),
        css_paths=[STYLES, TUNE_STYLES, EVALUATE_STYLES],
        app_kwargs={
            "lifespan": put_in_front,
            "middleware": [
                operation.middleware,
                Middleware(Refusals),
                Middleware(InitialPage, inspect.opening_value, lambda: page.theme_css, *opening),
            ],
        },
    )
    resume_collecting()
    # Only now: importing torch would hold up the first answer to a browser.
    if not zero_gpu.is_held():
        slot.start()
    # Nor may these take a core from the model's loading.
    decoders.start(after=slot.wait_over)
    visits.keep_tidy()
    keep_ending_idle(asking.sessions, lambda: library.trim_memory())
    tuning.jobs.keep_going()
    if not zero_gpu.is_held():  # nobody has asked yet, whose GPU that could be
        asking.prepared.prepare(examples)

    def close() -> None:
        page.close(verbose=False)
        decoders.close()
        tuning.close()

    operation.serve(close)
