"""What the Inspect tab asks of the library: images on show, questions to the one shared model, what came of them.

It knows nothing of Gradio.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from a3tune.errors import RequestError
from a3tune.images.values import PixelValues
from app.access.deployment import LOCAL, Deployment
from app.engine.ids import RegionSessionId, ResultId, SessionId
from app.engine.model_slot import ModelSlot
from app.engine.private_adapters import PrivateAdapters
from app.engine.region_slot import RegionSlot
from app.inspect.asking.questions import Questions
from app.inspect.batch.service import BatchService
from app.inspect.faithfulness import FaithfulnessService
from app.inspect.opening.reopening import Reopening
from app.inspect.sessions.measures import TargetNumbers
from app.inspect.sessions.opened_image import OpenedImage
from app.inspect.sessions.regions import RegionService, Target
from app.inspect.sessions.results import ResultStore
from app.inspect.sessions.session import Session
from app.inspect.sessions.sessions import Sessions

if TYPE_CHECKING:
    from a3tune.dicomweb.client import DicomWeb


class InspectService:
    """Questions about images: the sessions with what they have open, and the results of their questions.

    Args:
        slot: the model.
        region_slot: what finds and ranks regions; the bundled parts when None.
        deployment: how much results may hold in memory.
    """

    archive: DicomWeb | None = None  # where images may be fetched from, and stored: told by whoever builds the page

    def __init__(self, slot: ModelSlot, region_slot: RegionSlot | None = None, deployment: Deployment = LOCAL) -> None:
        self.slot, self.keeps_source = slot, deployment.name != "space"  # strangers' patients go into no file
        self.regions = RegionService(region_slot or RegionSlot())
        self.results = ResultStore(deployment)
        self.private_adapters = PrivateAdapters(slot)
        self.faithfulness = FaithfulnessService(slot, self.results, self.private_adapters)
        self.sessions = Sessions(self.regions, self._forget, lambda: slot.convention, self.keeps_source)
        self.questions = Questions(slot, self.sessions, self.results, self.regions, self.private_adapters)
        self.prepared = self.questions.prepared
        self.reopening = Reopening(self.sessions, self.results, self.regions, self.prepared)
        inspect = self.questions.inspect
        self.batches = BatchService(slot, self.regions, self.results, self.sessions, inspect, deployment)

    def _forget(self, session_id: SessionId) -> None:
        """Drop what is kept of a session that has ended."""
        self.faithfulness.forget(self.results.forget(session_id))
        self.batches.forget(session_id)

    # ---- what is on show ---------------------------------------------------------------------

    def frames_ahead(self, regions: RegionSessionId, frames: Sequence[int]) -> list[OpenedImage]:
        """Other frames of the file on show; see :meth:`app.inspect.sessions.sessions.Sessions.frames_ahead`."""
        return self.sessions.frames_ahead(self._showing(regions), frames)

    def pixel_values(self, regions: RegionSessionId) -> tuple[OpenedImage, PixelValues]:
        """What is on show with its values; see :meth:`app.inspect.sessions.sessions.Sessions.values`."""
        return self.sessions.values(self._showing(regions))

    def _showing(self, regions: RegionSessionId) -> Session:
        session = self.sessions.walking(regions)
        if session is None or session.opened is None:
            raise RequestError(
                expected="the image on show", got="It was removed from the server", remedy="Open it again"
            )
        self.regions.check(session.opened.regions)
        return session

    def read_for_model(self, session_id: SessionId) -> OpenedImage | None:
        """The session's image as the model in memory is given it; None where that is what the session has."""
        opened = self.sessions.opened(session_id)
        if opened is None:
            return None
        fitting = self.sessions.read_for_model(session_id, opened, self.slot.convention)
        return None if fitting is opened else fitting

    # ---- results -----------------------------------------------------------------------------

    def measure(
        self, regions: RegionSessionId, keys: Sequence[str], others: Sequence[ResultId]
    ) -> TargetNumbers | None:
        """:meth:`~app.inspect.sessions.regions.RegionService.choose`, with further results of the same image by name.

        Raises:
            RequestError: as there, or a result was removed.
        """
        inspections = {name: self.results.get(name).inspection for name in others}
        return self.regions.choose(regions, keys, inspections)

    # ---- targets -----------------------------------------------------------------------------

    def keep_target(self, regions: RegionSessionId, keys: list[str]) -> tuple[Target, bytes]:
        """Make regions of the image on show the session's target; see
        :meth:`app.inspect.sessions.regions.RegionService.keep`."""
        target, files = self.regions.keep(regions, keys)
        session = self.sessions.showing(regions)
        if session is not None:
            session.target = target
        return target, files

    def target(self, session_id: SessionId) -> Target | None:
        """The target that was made in the session last."""
        return self.sessions.get(session_id).target
