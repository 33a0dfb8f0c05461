"""What visitors upload is decoded elsewhere: a file that never ends costs its visitor an answer, and others nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from a3tune.bundle import EXAMPLES
from tests.support.hostile_files import endless_jpeg
from tests.support.page_client import PageClient


def test_endless_pictures_are_refused_and_other_visitors_open_theirs(serve, tmp_path):
    hostile = [tmp_path / f"endless{number}.jpg" for number in range(2)]
    for number, path in enumerate(hostile):
        path.write_bytes(endless_jpeg(30_000 + number))
    with serve(A3TUNE_DECODE_SECONDS="8") as server, ExitStack() as left:
        visitors = [left.enter_context(PageClient(server.url)) for _ in range(3)]
        with ThreadPoolExecutor(2) as others:
            refused = [others.submit(client.open, path) for client, path in zip(visitors, hostile, strict=False)]
            assert "Opened." in visitors[2].open(EXAMPLES / "chest_mass.png")
            for answer in refused:
                assert "took too long" in answer.result()
                assert "who runs this server can allow more time" in answer.result()
        assert "Opened." in visitors[0].open(EXAMPLES / "real_ct.dcm")
