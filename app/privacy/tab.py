"""The Privacy tab: what is kept of a visitor, where and for how long, and the button that forgets it all now."""

from __future__ import annotations

import html
from collections.abc import Callable

import gradio as gr

from app.access.identity import audit, visit_of_asker
from app.common.identity import STORAGE
from app.common.status import error_status, status
from app.common.studio_folder import StudioFolder
from app.common.widgets import EVENT_OPTIONS, Update, focus_on

_ASKED = (
    "Really? Your open pages, images, answers, data sets, runs and adapters go, at once and for good; a run at work is "
    "ended."
)
# The browser's own secret goes with what it names; the page begins anew.
_LEAVE = f"""(words) => {{
    if (words.includes('role="alert"')) return;
    localStorage.removeItem({STORAGE!r});
    sessionStorage.clear();
    setTimeout(() => location.reload(), 1500);
}}"""


def kept_words(studio: StudioFolder, encrypted: bool = False, archive: str = "") -> list[tuple[str, str]]:
    """What is kept, where, and for how long, in plain words.

    Args:
        studio: where data sets, runs and adapters lie.
        encrypted: whether they are kept encrypted beyond a visit.
        archive: the DICOM archive that may be asked; "" for none.
    """
    deployment = studio.deployment
    idle = deployment.idle_minutes
    # Strangers learn nothing of the machine.
    place = f" below {studio.root}" if deployment.name == "local" else ""
    medium = "In the memory of" if studio.in_memory else "On the disk of"
    here = "this computer" if deployment.name == "local" else "the machine that serves this page"
    end = "until you delete or forget it" if idle is None else f"until {idle:g} minutes after you closed your last page"
    outlives = (
        "it outlives a restart" if deployment.keeps else "a run at work keeps it until then, and a restart removes it"
    )
    tuned = f"{medium} {here}, in a folder of yours{place}, {end}; {outlives}."
    if encrypted:
        stay = "" if idle is None else f" and {idle:g} minutes longer"
        tuned = (
            f"{medium} {here}, in a folder of yours, as they are while you are here{stay}. Then "
            "they are encrypted, with a key that whoever runs this server has, and stay until you delete or forget "
            "them; they outlive a restart, and a run at work is ended by one."
        )
    return [
        (
            "Images that you open under Inspect, what the model has read of them, questions, answers and maps",
            f"In the memory of {here}, until a minute after you close the page: a reload finds them again, a restart "
            "of the server forgets them. On its disk lies a file only while it is read, for a moment when you drop it "
            "and when you choose another slice or window, under a name that nobody can guess. An address that names an "
            "inspection or a run opens it for you alone.",
        ),
        (
            "Data sets, runs, adapters and evaluations",
            tuned,
        ),
        (
            "In your browser",
            "A cookie that names your visit, until you close the browser; the name of the inspection on show, and what "
            "the files are called that you opened, as long as its tab is open; and a secret by which your data sets "
            "and runs are found again. On "
            f"{here} only its hash is kept.",
        ),
        (
            "Of a DICOM or NIfTI header",
            "Kind of picture, spacing of the pixels and grey-value window. Names, dates and numbers are neither shown "
            "nor noted, and go into nothing that is computed. The file itself stays in memory as long as its image, "
            f"where another window or slice can be read from it. {_identity_words(deployment.name)} Text that is "
            "burnt into a picture stays in it. Where a DICOM header tells "
            "of it, or the picture is of a kind where it is usual (ultrasound, endoscopy, screen captures), the page "
            "warns you; of a PNG or JPEG nobody can tell: look at it, and de-identify it before you open it.",
        ),
        ("In the server's log", "Times and kinds of faults: no images, questions, answers or file names."),
        *_archive_words(archive),
        (
            "Elsewhere",
            f"Nothing{' else' if archive else ''}. The page asks no other host, and nothing is sent to one unless you "
            "push an adapter.",
        ),
    ]


def _archive_words(archive: str) -> list[tuple[str, str]]:
    """What goes to the archive and comes from it."""
    if not archive:
        return []
    return [
        (
            f"With the archive {archive}",
            "What you look for there is sent to it, and what it finds, patients' names and numbers among it, is shown "
            "to you; none of that is kept or noted here. A series that you open is an image of yours, as above. What "
            "you store there stays there.",
        )
    ]


def _identity_words(deployment: str) -> str:
    """When patient and study of a DICOM file are read after all."""
    if deployment == "space":
        return "No file that is exported here has patient or study in it."
    return (
        "Patient and study are read from it only where you ask for that at the export of DICOM files, into those files "
        "and nowhere else."
    )


def build_privacy(studio: StudioFolder, encrypted: bool, forget: Callable[[str], None], archive: str = "") -> None:
    """Builds the tab inside the running ``gr.Blocks`` context.

    Args:
        studio, encrypted, archive: see `kept_words`.
        forget: ends a visit by its name, with all that it brought.
    """
    told = "".join(
        f"<dt>{html.escape(what)}</dt><dd>{html.escape(words)}</dd>"
        for what, words in kept_words(studio, encrypted, archive)
    )
    with gr.Column(elem_id="privacy"):
        gr.HTML(f"<h2>What is kept of you</h2><dl>{told}</dl>", elem_id="kept", apply_default_css=False)
        ask = gr.Button("Forget everything of mine now", size="sm", scale=0, elem_id="forget")
        with gr.Column(visible=False, elem_id="forget-question") as question:
            gr.HTML(f"<p>{_ASKED}</p>", apply_default_css=False)
            with gr.Row():
                yes = gr.Button("Forget it all", variant="stop", size="sm", scale=0, elem_id="forget-yes")
                no = gr.Button("Keep it", size="sm", scale=0, elem_id="forget-no")
        words = gr.HTML("", elem_id="forget-status", apply_default_css=False)

    def go() -> Update:
        try:
            audit("forget")
            forget(visit_of_asker())
        except Exception as error:
            return {question: gr.update(visible=False), words: error_status(error)}
        return {question: gr.update(visible=False), words: status("All of it is gone. The page begins anew …")}

    options = {"queue": False, **EVENT_OPTIONS}
    focus_on(ask.click(lambda: gr.update(visible=True), None, question, **options), "forget-no")
    focus_on(no.click(lambda: gr.update(visible=False), None, question, **options), "forget")
    yes.click(go, None, [question, words], **options).then(None, [words], None, js=_LEAVE, **options)
